//! Receipts whose key never is in this process: a `ReceiptSigner` that asks a key service over HTTP.
//! `cargo run --example kms_signer` starts a stand-in for such a service on a loopback socket, has it sign a receipt,
//! and prints the receipt and the public keys, which `cargo run --example verify_receipt` can check.
//!
//! The stand-in is no key service: its key is lost when it ends. With a real one only [`KmsSigner`] stays, with the
//! requests that the service asks for; what it must do is in the docs of `ReceiptSigner`, and the test below runs the
//! public conformance suite against it, as yours should.

#[path = "common/https.rs"]
#[allow(dead_code, reason = "for all examples")]
mod https;

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::{
    Json, Router,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
    routing::{get, post},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};
use http::{Request, header::AUTHORIZATION};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use serde::Deserialize;
use tower_mpp::receipt::{Jwk, Provider, ReceiptBody, ReceiptSigner, Receipts, SignError, SigningAlgorithm};

type AnyError = Box<dyn Error + Send + Sync>;

/// What the service answers is a few hundred bytes.
const MOST_BYTES: usize = 16 * 1024;

/// Signs with a key of a key service.
struct KmsSigner {
    client: Client<https::Connector, Full<Bytes>>,
    url: String,
    token: String,
    key: Jwk,
}

#[derive(Deserialize)]
struct Signed {
    signature: String,
}

impl KmsSigner {
    /// Asks the service for the public key once: receipts list it, and it does not change under one key id.
    async fn connect(url: String, key_id: &str, token: String) -> Result<Self, AnyError> {
        let client = https::client(Duration::from_secs(2))?;
        let unknown = Jwk::ed25519(key_id, &[0; 32]);
        let mut signer = Self { client, url: format!("{url}/keys/{key_id}"), token, key: unknown };
        signer.key = serde_json::from_slice(&signer.ask("public", None).await?)?;
        Ok(signer)
    }

    async fn ask(&self, what: &str, body: Option<&[u8]>) -> Result<Bytes, AnyError> {
        let request = Request::builder()
            .method(if body.is_some() { "POST" } else { "GET" })
            .uri(format!("{}/{what}", self.url))
            .header(AUTHORIZATION, format!("Bearer {}", self.token))
            .body(Full::new(Bytes::copy_from_slice(body.unwrap_or_default())))?;
        let answer = self.client.request(request).await?;
        if answer.status() != StatusCode::OK {
            return Err(format!("the key service answered {}", answer.status()).into());
        }
        Ok(Limited::new(answer.into_body(), MOST_BYTES).collect().await?.to_bytes())
    }
}

#[async_trait]
impl ReceiptSigner for KmsSigner {
    fn key_id(&self) -> &str {
        &self.key.kid
    }

    fn algorithm(&self) -> SigningAlgorithm {
        SigningAlgorithm::Ed25519
    }

    fn public_key(&self) -> Option<Jwk> {
        Some(self.key.clone())
    }

    // No timeout here: `Receipts` waits for a signer no longer than its `sign_timeout`.
    async fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let answer = self.ask("sign", Some(message)).await.map_err(SignError)?;
        let signed: Signed = serde_json::from_slice(&answer).map_err(|error| SignError(error.into()))?;
        URL_SAFE_NO_PAD.decode(signed.signature).map_err(|error| SignError(error.into()))
    }
}

/// The stand-in: one key, and one token that may use it.
struct StandIn {
    key_id: &'static str,
    key: SigningKey,
    token: &'static str,
}

impl StandIn {
    fn allows(&self, key_id: &str, headers: &HeaderMap) -> Result<(), StatusCode> {
        let token = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        if token != Some(self.token) {
            return Err(StatusCode::UNAUTHORIZED);
        }
        if key_id == self.key_id { Ok(()) } else { Err(StatusCode::NOT_FOUND) }
    }
}

async fn public(
    State(service): State<Arc<StandIn>>,
    Path(key_id): Path<String>,
    headers: HeaderMap,
) -> Result<Json<Jwk>, StatusCode> {
    service.allows(&key_id, &headers)?;
    Ok(Json(Jwk::ed25519(&key_id, service.key.verifying_key().as_bytes())))
}

async fn sign(
    State(service): State<Arc<StandIn>>,
    Path(key_id): Path<String>,
    headers: HeaderMap,
    message: Bytes,
) -> Result<Json<serde_json::Value>, StatusCode> {
    service.allows(&key_id, &headers)?;
    let signature = URL_SAFE_NO_PAD.encode(service.key.sign(&message).to_bytes());
    Ok(Json(serde_json::json!({ "signature": signature })))
}

/// Starts the stand-in on a free port and says where.
async fn stand_in(key_id: &'static str, token: &'static str) -> std::io::Result<String> {
    let key = SigningKey::from_bytes(&rand::random());
    let service = Arc::new(StandIn { key_id, key, token });
    let routes =
        Router::new().route("/keys/{id}/public", get(public)).route("/keys/{id}/sign", post(sign)).with_state(service);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    tokio::spawn(async move { axum::serve(listener, routes).await });
    Ok(url)
}

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let url = stand_in("receipts-1", "a token of the key service").await?;
    let signer = KmsSigner::connect(url, "receipts-1", "a token of the key service".to_owned()).await?;
    let receipts = Receipts::builder("https://receipts.example.com", signer).build()?;
    let body = ReceiptBody {
        provider: Some(Provider::AwsBedrock),
        model_id: Some("us.amazon.nova-micro-v1:0".to_owned()),
        status: Some("succeeded".to_owned()),
        ..ReceiptBody::default()
    };
    let signed = receipts.issue(body).await?;
    println!("{}\n\n{}", signed.json(), serde_json::to_string(&receipts.jwks())?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use tower_mpp::{
        conformance::receipt_signer::Suite,
        protocol::Visibility,
        receipt::{IssueError, verify_receipt},
    };

    use super::*;

    async fn signer(token: &str) -> Result<KmsSigner, AnyError> {
        let url = stand_in("k", "right").await?;
        KmsSigner::connect(url, "k", token.to_owned()).await
    }

    #[tokio::test]
    async fn the_key_service_keeps_the_laws() {
        Suite::new(signer("right").await.unwrap()).assert().await;
    }

    #[tokio::test]
    async fn its_receipts_verify() {
        let receipts = Receipts::builder("https://r.example", signer("right").await.unwrap()).build().unwrap();
        let body = ReceiptBody { visibility: Visibility::PublicMinimal, ..ReceiptBody::default() };
        let signed = receipts.issue(body).await.unwrap();
        for json in [signed.json(), signed.public_json().unwrap()] {
            assert_eq!(verify_receipt(json, &receipts.jwks()).unwrap().key_id, "k");
        }
    }

    #[tokio::test]
    async fn without_the_service_there_is_no_receipt() {
        assert!(signer("wrong").await.err().unwrap().to_string().contains("401"));
        let mut signer = signer("right").await.unwrap();
        signer.token = "taken back".to_owned();
        let receipts = Receipts::builder("https://r.example", signer).build().unwrap();
        let error = receipts.issue(ReceiptBody::default()).await.unwrap_err();
        assert!(matches!(error, IssueError::Sign(_)), "{error:?}");
        assert!(!format!("{error:?}").contains("taken back"));
    }
}
