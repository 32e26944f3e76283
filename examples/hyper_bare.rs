//! A merchant on plain hyper, without a router. Run `cargo run --example hyper_bare`: `curl -i
//! http://127.0.0.1:3000/report` shows a 402, `cargo run --example agent -- http://127.0.0.1:3000/report`
//! pays it with play money, and any other path is 404 and costs nothing.
//!
//! The layer takes any service of `http` requests that is `Clone`, and any body. Where there is no
//! router, the price says what is for sale: `None` is free, and goes straight to the service.

use std::{convert::Infallible, error::Error};

use bytes::Bytes;
use http::{Request, Response, StatusCode, request::Parts};
use http_body::Body;
use http_body_util::Full;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use tokio::net::TcpListener;
use tower::{Layer as _, Service, service_fn};
use tower_mpp::{
    KeyRing, Merchant, PaymentInfo, Price, RequestBody, ResponseBody, method::Sandbox, store::MemoryNonceStore,
};

type Answer = Response<ResponseBody<Full<Bytes>>>;

/// The body of a request is `hyper::body::Incoming` on a connection, and anything else in a test.
fn app<B>()
-> Result<impl Service<Request<B>, Response = Answer, Error = Infallible, Future: Send> + Clone, Box<dyn Error>>
where
    B: Body<Data = Bytes> + Send,
{
    let merchant = Merchant::builder("localhost", KeyRing::new("replace this by 32 random bytes!")?)
        .test_mode(true)
        .method(Sandbox::new())
        .nonce_store(MemoryNonceStore::single_process(100_000))
        .build()?;
    let report = Price::usd("0.50")?;
    let charge = merchant.charge(move |head: &Parts| (head.uri.path() == "/report").then(|| report.clone()))?;
    Ok(charge.layer(service_fn(serve)))
}

/// The service behind the layer.
async fn serve<B>(request: Request<RequestBody<B>>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::default());
    match request.extensions().get::<PaymentInfo>() {
        Some(payment) => {
            let text = format!("The report. You paid {} {} cents.\n", payment.amount(), payment.currency());
            *response.body_mut() = text.into();
        }
        None => *response.status_mut() = StatusCode::NOT_FOUND,
    }
    Ok(response)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let service = TowerToHyperService::new(app()?);
    let listener = TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = service.clone();
        tokio::spawn(async move {
            let http = auto::Builder::new(TokioExecutor::new());
            if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
                eprintln!("connection: {error}");
            }
        });
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use http::header::AUTHORIZATION;
    use http_body_util::{BodyExt as _, Empty};
    use tower::ServiceExt as _;
    use tower_mpp::{
        method::SandboxKey,
        protocol::{Challenge, authorization},
    };

    use super::*;

    fn get(path: &str) -> Request<Empty<Bytes>> {
        Request::get(path).body(Empty::new()).unwrap()
    }

    #[tokio::test]
    async fn the_report_costs_and_nothing_else_does() {
        let app = app().unwrap();
        assert_eq!(app.clone().oneshot(get("/other")).await.unwrap().status(), 404);

        let unpaid = app.clone().oneshot(get("/report")).await.unwrap();
        assert_eq!(unpaid.status(), 402);
        let challenge = Challenge::parse(unpaid.headers()["www-authenticate"].to_str().unwrap()).unwrap();

        let key = SandboxKey::generate();
        let credential = authorization(&challenge, Some(&key.did()), &key.payload(&challenge.id)).unwrap();
        let mut request = get("/report");
        request.headers_mut().insert(AUTHORIZATION, credential);
        let paid = app.oneshot(request).await.unwrap();
        assert_eq!(paid.status(), 200);
        assert!(paid.headers().contains_key("payment-receipt"));
        let body = paid.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "The report. You paid 50 usd cents.\n");
    }
}
