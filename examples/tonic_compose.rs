//! A paid gRPC method. Run `cargo run --example tonic_compose`; any gRPC client that calls
//! `grpc.health.v1.Health/Check` on 127.0.0.1:3000 is asked for payment, and once it has sent a
//! credential as metadata `authorization`, finds its receipt in the metadata `payment-receipt`.
//!
//! A tonic service is a Tower service, so the layer goes around it as around anything else. The digest
//! in the challenge binds the message: gRPC requests come without `Content-Length`, and that makes no
//! difference. Trailers, with the status of the call, pass untouched.
//!
//! A call without payment is answered as HTTP is, 402 with a challenge and a problem document. A plain
//! HTTP/2 client sees all of it; gRPC libraries only show an error that names the status. Answers in
//! gRPC's own form, with the challenge where those libraries look for it, are not part of this yet.

use std::error::Error;

use axum::Router;
use http::request::Parts;
use tonic::service::Routes;
use tonic_health::{ServingStatus, server::health_reporter};
use tower_mpp::{KeyRing, Merchant, Price, method::Sandbox, store::MemoryNonceStore};

/// Generated code knows its paths by heart, too.
const CHECK: &str = "/grpc.health.v1.Health/Check";

async fn app() -> Result<Router, Box<dyn Error>> {
    let merchant = Merchant::builder("localhost", KeyRing::new("replace this by 32 random bytes!")?)
        .test_mode(true)
        .method(Sandbox::new())
        .nonce_store(MemoryNonceStore::single_process(100_000))
        .build()?;
    let price = Price::usd("0.01")?;
    // One path is sold. A method that does not exist stays UNIMPLEMENTED, which costs nothing.
    let charge = merchant.charge(move |head: &Parts| (head.uri.path() == CHECK).then(|| price.clone()))?;

    // Any generated service would do: this one comes ready-made.
    let (reporter, health) = health_reporter();
    reporter.set_service_status("demo", ServingStatus::Serving).await;
    Ok(Routes::new(health).into_axum_router().route_layer(charge))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    println!("listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app().await?).await?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use axum::body::Body;
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    use http::{HeaderValue, Request, Response, Version};
    use http_body_util::BodyExt as _;
    use sha2::{Digest as _, Sha256};
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tower::ServiceExt as _;
    use tower_mpp::{
        method::SandboxKey,
        protocol::{Challenge, authorization},
    };

    use super::*;

    /// `HealthCheckRequest { service: "demo" }`: a flag, four bytes of length, field 1 with four bytes.
    const MESSAGE: &[u8] = b"\0\0\0\0\x06\x0a\x04demo";

    async fn call(
        app: &Router,
        path: &str,
        message: &'static [u8],
        credential: Option<&HeaderValue>,
    ) -> Response<Body> {
        let mut request = Request::post(format!("http://localhost{path}"))
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(Body::from_stream(futures_util::stream::iter([Ok::<_, std::io::Error>(message)])))
            .unwrap();
        request.headers_mut().extend(credential.map(|value| (http::header::AUTHORIZATION, value.clone())));
        app.clone().oneshot(request).await.unwrap()
    }

    fn pay(unpaid: &Response<Body>) -> (Challenge, HeaderValue) {
        let challenge = Challenge::parse(unpaid.headers()["www-authenticate"].to_str().unwrap()).unwrap();
        let key = SandboxKey::generate();
        let credential = authorization(&challenge, Some(&key.did()), &key.payload(&challenge.id)).unwrap();
        (challenge, credential)
    }

    #[tokio::test]
    async fn a_call_is_paid_for_message_and_method() {
        let app = app().await.unwrap();
        let unpaid = call(&app, CHECK, MESSAGE, None).await;
        assert_eq!(unpaid.status(), 402);
        let (challenge, credential) = pay(&unpaid);
        let digest = format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(MESSAGE)));
        assert_eq!(challenge.digest, Some(digest));

        // Another message is another purchase.
        let other = call(&app, CHECK, b"\0\0\0\0\0", Some(&credential)).await;
        assert_eq!(other.status(), 402);

        let paid = call(&app, CHECK, MESSAGE, Some(&credential)).await;
        assert_eq!(paid.status(), 200);
        assert!(paid.headers().contains_key("payment-receipt"));
        let body = paid.into_body().collect().await.unwrap();
        assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
        assert_eq!(body.to_bytes(), &b"\0\0\0\0\x02\x08\x01"[..], "SERVING");
    }

    #[tokio::test]
    async fn a_generated_client_pays_with_metadata() {
        let app = app().await.unwrap();
        let (_, credential) = pay(&call(&app, CHECK, MESSAGE, None).await);
        let mut request = tonic::Request::new(HealthCheckRequest { service: "demo".into() });
        request.metadata_mut().insert("authorization", credential.to_str().unwrap().parse().unwrap());
        let mut client = HealthClient::with_origin(app, "http://localhost".parse().unwrap());
        let answer = client.check(request).await.unwrap();
        assert!(answer.metadata().contains_key("payment-receipt"));
        assert_eq!(answer.into_inner().status, 1);
    }

    #[tokio::test]
    async fn what_is_not_there_is_not_sold() {
        let app = app().await.unwrap();
        for path in ["/grpc.health.v1.Health/Nothing", "/nothing.Nothing/Nothing"] {
            let answer = call(&app, path, MESSAGE, None).await;
            assert_eq!((answer.status().as_u16(), &answer.headers()["grpc-status"]), (200, &"12".parse().unwrap()));
        }
    }
}
