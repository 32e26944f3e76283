//! Paid calls: who gets the money back when Bedrock does not answer.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header::AUTHORIZATION};
use http_body_util::Full;
use serde_json::{Value, json};
use tower::{Layer as _, util::BoxCloneSyncService};
use tower_mpp::{
    Price, ResponseBody,
    protocol::ChallengeId,
    refund::RefundPolicy,
    upstream::{Body, UpstreamService},
};

use crate::{
    NOVA,
    aws::{Aws, Reply, Step, events, exception, json, thrown},
    bedrock, hello, names, sse,
    streams::{counted, ended, started, stopped, text},
    support::{self, Answer, RuntimeClock, TestRail, challenge, id_of, pay_with},
    whole::conversed,
};

type Service = BoxCloneSyncService<Request<Full<Bytes>>, Response<ResponseBody<Body>>, Infallible>;

struct Shop {
    rail: TestRail,
    service: Service,
}

impl Shop {
    fn open(aws: &Aws) -> Self {
        let rail = TestRail::new("demo");
        let builder = support::builder(&rail).clock(RuntimeClock::start()).refunds(RefundPolicy::all());
        let merchant = builder.build().unwrap();
        let layer = merchant.charge(Price::usd("0.50").unwrap()).unwrap();
        let service = Service::new(layer.layer(UpstreamService::new(bedrock(aws))));
        Self { rail, service }
    }

    fn request(body: &Value, credential: Option<&HeaderValue>) -> Request<Full<Bytes>> {
        let mut request = Request::builder().method(Method::POST).uri("/v1/agent/messages");
        if let Some(credential) = credential {
            request = request.header(AUTHORIZATION, credential);
        }
        request.header("content-type", "application/json").body(Full::from(body.to_string())).unwrap()
    }

    async fn credential(&self, body: &Value) -> (ChallengeId, HeaderValue) {
        let asked = support::call(&self.service, Self::request(body, None)).await;
        asked.assert_challenged("payment-required");
        let challenge = challenge(&asked.headers);
        (id_of(&challenge), pay_with(&challenge, None, &json!({"token": "ok"})))
    }

    async fn redeem(&self, body: &Value, credential: &HeaderValue) -> Answer {
        support::call(&self.service, Self::request(body, Some(credential))).await
    }
}

fn served() -> Reply {
    json(&conversed(json!([{"text": "Hi"}]), "end_turn"))
}

fn streamed() -> Reply {
    events([started(), text(0, "Hi"), ended(0), stopped("end_turn"), counted()])
}

#[tokio::test(start_paused = true)]
async fn money_for_a_model_that_did_not_run_comes_back() {
    let throttled = || exception(429, "ThrottlingException", "Too many requests");
    for (reply, stream, status, kind) in [
        (throttled(), false, 529, "overloaded_error"),
        (throttled(), true, 529, "overloaded_error"),
        (events([thrown("throttlingException", "x")]), true, 529, "overloaded_error"),
        (exception(403, "AccessDeniedException", "x"), false, 502, "api_error"),
        (exception(400, "ValidationException", "max_tokens: too many"), false, 400, "invalid_request_error"),
        (exception(408, "ModelTimeoutException", "x"), false, 504, "timeout_error"),
        (Reply::Unreachable, true, 502, "api_error"),
        (Reply::ConnectingForEver, false, 504, "timeout_error"),
        (Reply::Silence, false, 504, "timeout_error"),
        (events([started(), Step::Hang]), true, 504, "timeout_error"),
    ] {
        let shop = Shop::open(&Aws::says([reply.clone()]));
        let body = hello(NOVA, json!({"stream": stream}));
        let (id, credential) = shop.credential(&body).await;
        let answer = shop.redeem(&body, &credential).await;
        assert_eq!(
            (answer.status.as_u16(), answer.json()["error"]["type"].as_str()),
            (status, Some(kind)),
            "{reply:?}"
        );
        assert_eq!(answer.header("payment-outcome"), Some("refunded"), "{reply:?}");
        assert_eq!(shop.rail.refunded(id).as_deref(), Some("50"), "{reply:?}");
        assert_eq!(shop.rail.settlements_of(id), 1);
        // The client learns when it is worth another try, with another payment.
        assert_eq!(answer.header("retry-after").is_some(), status == 529);
        assert!(answer.header("request-id").is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_sent_costs_nothing() {
    let shop = Shop::open(&Aws::default());
    let body = hello("no-such-model", json!({}));
    let (id, credential) = shop.credential(&body).await;
    let answer = shop.redeem(&body, &credential).await;
    assert_eq!((answer.status.as_u16(), answer.header("payment-outcome")), (400, Some("refunded")));
    assert_eq!(shop.rail.refunded(id).as_deref(), Some("50"));
}

#[tokio::test(start_paused = true)]
async fn a_call_of_which_nobody_knows_what_it_did_can_be_redeemed_again() {
    for failed in [exception(500, "InternalServerException", "x"), Reply::Broken] {
        let shop = Shop::open(&Aws::says([failed, served()]));
        let body = hello(NOVA, json!({}));
        let (id, credential) = shop.credential(&body).await;
        let answer = shop.redeem(&body, &credential).await;
        assert_eq!((answer.status.as_u16(), answer.header("payment-outcome")), (502, Some("redeliverable")));
        let again = shop.redeem(&body, &credential).await;
        assert_eq!((again.status.as_u16(), &again.json()["content"][0]["text"]), (200, &json!("Hi")));
        assert_eq!((shop.rail.settlements_of(id), shop.rail.refunds()), (1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_breaks_off_was_delivered() {
    let broken = events([started(), text(0, "Once"), Step::Wait(Duration::from_secs(2)), Step::Break]);
    for (reply, last) in [(streamed(), "message_stop"), (broken, "error")] {
        let shop = Shop::open(&Aws::says([reply]));
        let body = hello(NOVA, json!({"stream": true}));
        let (id, credential) = shop.credential(&body).await;
        let answer = shop.redeem(&body, &credential).await;
        assert_eq!(answer.status.as_u16(), 200);
        assert_eq!(names(&sse(answer.text())).last(), Some(&last));
        assert_eq!(answer.header("payment-outcome"), None);
        assert_eq!((shop.rail.settlements_of(id), shop.rail.refunds()), (1, 0));
        // It was paid for once, and it was had once.
        let again = shop.redeem(&body, &credential).await;
        assert!(again.status.is_client_error(), "{again:?}");
    }
}
