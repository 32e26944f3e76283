//! Clients that pay and ask again with the same credential until they have a final answer.
//!
//! They want a runtime of one thread: where a connection broke in one thread while another one handed it a
//! request, hyper's client was seen to give that no answer at all.

use std::{fmt, net::SocketAddr, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use http::{
    HeaderMap, HeaderValue, Request, StatusCode,
    header::{AUTHORIZATION, DATE, RETRY_AFTER},
};
use http_body_util::{BodyExt as _, Empty};
use hyper_util::{
    client::legacy::{Client as Http, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};
use tower_mpp::protocol::{ChallengeId, PAYMENT_RECEIPT, Receipt};

use crate::{
    programs::PATIENCE,
    shop::TOKEN,
    support::{challenge, id_of, pay_with},
};

/// A payment, as its client knows it.
#[derive(Debug)]
pub struct Payment {
    pub number: u32,
    pub id: ChallengeId,
    pub token: String,
    credential: HeaderValue,
    pub key: Option<String>,
    /// Answers that broke off, or never began.
    pub broken: u32,
    /// Of these, how many had begun.
    pub begun: u32,
    /// Answers that said "ask again".
    pub put_off: u32,
    /// Answers that came whole.
    pub deliveries: u32,
    /// The first of them.
    pub answer: Option<Whole>,
    /// What came of those that broke off.
    pieces: Vec<Bytes>,
    /// The client left at the first thing that went wrong.
    pub left: bool,
    /// And asked the operator for the money.
    pub complained: bool,
}

/// An answer that came whole.
#[derive(Debug, PartialEq)]
pub struct Whole {
    headers: HeaderMap,
    pub body: Bytes,
}

impl Whole {
    pub fn receipt(&self) -> Receipt {
        Receipt::parse(self.headers[PAYMENT_RECEIPT].to_str().unwrap()).unwrap()
    }
}

/// What came of a request.
enum Came {
    Whole(StatusCode, HeaderMap, Bytes),
    /// What came of the body, if the head came.
    Broken(Option<Bytes>),
    /// Nobody is there.
    Unreachable,
}

impl fmt::Display for Came {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(status, _, body) => write!(f, "{status} {}", String::from_utf8_lossy(body)),
            Self::Broken(None) => f.write_str("nothing"),
            Self::Broken(Some(begun)) => write!(f, "{} bytes", begun.len()),
            Self::Unreachable => f.write_str("nobody there"),
        }
    }
}

/// One who pays, at any of these gateways.
pub struct Client {
    http: Http<HttpConnector, Empty<Bytes>>,
    gateways: Vec<SocketAddr>,
}

impl Client {
    pub fn new(gateways: Vec<SocketAddr>) -> Self {
        let http = Http::builder(TokioExecutor::new()).retry_canceled_requests(false).build_http();
        Self { http, gateways }
    }

    /// Buys once: asks, pays, and asks again until it is over.
    pub async fn buy(&self, number: u32) -> Payment {
        let mut payment = self.begin(number).await;
        let deadline = Instant::now() + 4 * PATIENCE;
        while !self.present(&mut payment).await {
            assert!(Instant::now() < deadline, "it does not end: {payment:?}");
            pause().await;
        }
        if payment.left && number % 20 == 7 {
            self.complain(&mut payment).await;
        }
        payment
    }

    /// Who left complains, and the operator gives the money back, if there was any. Where Stripe does not know of
    /// the payment that stays open until the challenge has expired: it might still be on its way.
    async fn complain(&self, payment: &mut Payment) {
        payment.complained = true;
        let path = format!("/admin/refunds/{}", payment.id);
        let mut in_doubt = 0;
        let deadline = Instant::now() + 2 * PATIENCE;
        let mut heard = Vec::new();
        while in_doubt < 10 {
            assert!(Instant::now() < deadline, "the operator cannot give it back: {payment:?} {heard:?}");
            let request = Request::post(self.uri(0, &path)).header(AUTHORIZATION, format!("Bearer {TOKEN}"));
            let came = self.ask(request.body(Empty::new()).unwrap()).await;
            heard.push(came.to_string());
            heard.dedup();
            match came {
                Came::Whole(StatusCode::OK | StatusCode::NOT_FOUND, ..) => return,
                // Nothing was charged, unless it is a matter of time.
                Came::Whole(StatusCode::CONFLICT, headers, _) if !headers.contains_key(RETRY_AFTER) => return,
                Came::Whole(StatusCode::SERVICE_UNAVAILABLE, ..) => in_doubt += 1,
                Came::Whole(StatusCode::ACCEPTED | StatusCode::CONFLICT, ..) | Came::Broken(_) | Came::Unreachable => {}
                Came::Whole(status, _, body) => panic!("{status} {body:?} {payment:?}"),
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// What the operator sees as open money.
    pub async fn unfulfilled(&self) -> Vec<ChallengeId> {
        let mut all: Vec<ChallengeId> = Vec::new();
        loop {
            let after = all.last().map(|last| format!("&after={last}")).unwrap_or_default();
            let uri = self.uri(0, &format!("/admin/payments/unfulfilled?limit=7{after}"));
            let request = Request::get(uri).header(AUTHORIZATION, format!("Bearer {TOKEN}"));
            let Came::Whole(StatusCode::OK, _, body) = self.ask(request.body(Empty::new()).unwrap()).await else {
                panic!("the operator sees nothing");
            };
            let page: Value = serde_json::from_slice(&body).unwrap();
            let page = page["payments"].as_array().unwrap();
            if page.is_empty() {
                return all;
            }
            all.extend(
                page.iter().map(|payment| payment["challenge_id"].as_str().unwrap().parse::<ChallengeId>().unwrap()),
            );
        }
    }

    async fn begin(&self, number: u32) -> Payment {
        let asked = loop {
            match self.send(number as usize % self.gateways.len(), number, None).await {
                Came::Whole(StatusCode::PAYMENT_REQUIRED, headers, _) => break challenge(&headers),
                Came::Whole(status, ..) => panic!("{status} without a credential"),
                Came::Broken(_) | Came::Unreachable => pause().await,
            }
        };
        let token = match number % 8 {
            0..4 => format!("spt_slow{number}"),
            4 => format!("spt_drop{number}"),
            _ => format!("spt_ok{number}"),
        };
        Payment {
            number,
            id: id_of(&asked),
            credential: pay_with(&asked, None, &json!({"spt": token})),
            token,
            key: (number / 8).is_multiple_of(2).then(|| format!("key-{number}")),
            broken: 0,
            begun: 0,
            put_off: 0,
            deliveries: 0,
            answer: None,
            pieces: Vec::new(),
            left: false,
            complained: false,
        }
    }

    /// Presents the credential at every gateway at once. Whether that was the end of it.
    pub async fn present(&self, payment: &mut Payment) -> bool {
        let Payment { number, ref credential, ref key, .. } = *payment;
        let requests = (0..self.gateways.len()).map(|gateway| self.send(gateway, number, Some((credential, key))));
        let mut is_over = false;
        for came in join_all(requests).await {
            is_over |= payment.hears(came);
        }
        payment.left = !is_over && number % 10 == 7 && payment.broken > 0;
        is_over || payment.left
    }

    async fn send(&self, gateway: usize, number: u32, paid: Option<(&HeaderValue, &Option<String>)>) -> Came {
        let mut request = Request::get(self.uri(gateway, &format!("/buy/{number}")));
        if let Some((credential, key)) = paid {
            request = request.header(AUTHORIZATION, credential);
            request = key.iter().fold(request, |request, key| request.header("idempotency-key", key));
        }
        self.ask(request.body(Empty::new()).unwrap()).await
    }

    fn uri(&self, gateway: usize, path: &str) -> String {
        format!("http://{}{path}", self.gateways[gateway])
    }

    async fn ask(&self, request: Request<Empty<Bytes>>) -> Came {
        let asked = format!("{} {}", request.method(), request.uri());
        timeout(PATIENCE, self.read(request)).await.unwrap_or_else(|_| panic!("no answer in time: {asked}"))
    }

    async fn read(&self, request: Request<Empty<Bytes>>) -> Came {
        let response = match self.http.request(request).await {
            Ok(response) => response,
            Err(error) if error.is_connect() => return Came::Unreachable,
            Err(_) => return Came::Broken(None),
        };
        let (head, mut body) = response.into_parts();
        let mut read = BytesMut::new();
        while let Some(frame) = body.frame().await {
            match frame {
                Ok(frame) => frame.into_data().into_iter().for_each(|data| read.extend_from_slice(&data)),
                Err(_) => return Came::Broken(Some(read.freeze())),
            }
        }
        let mut headers = head.headers;
        headers.remove(DATE);
        Came::Whole(head.status, headers, read.freeze())
    }
}

async fn pause() {
    sleep(Duration::from_millis(rand::random_range(10..50))).await;
}

impl Payment {
    /// Notes what came. Whether it was a final answer.
    fn hears(&mut self, came: Came) -> bool {
        match came {
            Came::Whole(StatusCode::OK, headers, body) => {
                self.is_delivered(Whole { headers, body });
                return true;
            }
            Came::Whole(StatusCode::FORBIDDEN, headers, _) => {
                assert!(!headers.contains_key("www-authenticate"), "{headers:?}");
                return true;
            }
            Came::Whole(
                StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE | StatusCode::INTERNAL_SERVER_ERROR,
                headers,
                _,
            ) => {
                assert!(!headers.contains_key("www-authenticate"), "{headers:?}");
                self.put_off += 1;
            }
            Came::Whole(status, _, body) => panic!("{status} {body:?} {self:?}"),
            Came::Broken(begun) => {
                self.broken += 1;
                if let Some(piece) = begun {
                    self.begun += 1;
                    self.pieces.push(piece);
                }
            }
            Came::Unreachable => {}
        }
        false
    }

    fn is_delivered(&mut self, whole: Whole) {
        self.deliveries += 1;
        match &self.answer {
            None => self.answer = Some(whole),
            Some(first) => {
                assert!(self.key.is_some(), "delivered twice without a key: {self:?}");
                assert_eq!(*first, whole, "the same answer, byte for byte");
            }
        }
        // Nobody got the beginning of one answer and then another one, where answers are kept.
        let answer = self.answer.as_ref().unwrap();
        let fits = |piece: &Bytes| answer.body.starts_with(piece);
        assert!(self.pieces.iter().all(fits), "the beginning of another answer: {self:?}");
    }
}
