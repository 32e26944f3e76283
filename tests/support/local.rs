//! Requests without a socket: straight into a service.

use std::{convert::Infallible, fmt::Debug};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, header::AUTHORIZATION};
use http_body::Body;
use http_body_util::{BodyExt as _, Full};
use tower::{ServiceExt as _, util::BoxCloneSyncService};
use tower_mpp::{
    RequestBody,
    protocol::{Challenge, ChallengeId},
};
use tower_service::Service;

use super::{Answer, challenge};

/// A service behind a layer, whatever it is made of.
pub type Handler<B = Full<Bytes>, R = Full<Bytes>, E = Infallible> =
    BoxCloneSyncService<Request<RequestBody<B>>, Response<R>, E>;

/// Answers `served`.
pub fn served<B: 'static>() -> Handler<B> {
    Handler::new(tower::service_fn(|_| async { Ok(Response::new(Full::from("served"))) }))
}

/// A request with a whole body.
pub fn request(method: Method, path: &str, body: &'static str) -> Request<Full<Bytes>> {
    Request::builder().method(method).uri(path).body(Full::from(body)).unwrap()
}

/// A request without a body.
pub fn get(path: &str) -> Request<Full<Bytes>> {
    request(Method::GET, path, "")
}

/// The same request with a credential.
pub fn with_credential<B>(mut request: Request<B>, credential: &HeaderValue) -> Request<B> {
    request.headers_mut().insert(AUTHORIZATION, credential.clone());
    request
}

/// A paid request without a body.
pub fn get_paid(path: &str, credential: &HeaderValue) -> Request<Full<Bytes>> {
    with_credential(get(path), credential)
}

/// Reads an answer to its end.
pub async fn read<B>(response: Response<B>) -> Answer
where
    B: Body,
    B::Error: Debug,
{
    let (head, body) = response.into_parts();
    Answer { status: head.status, headers: head.headers, body: body.collect().await.unwrap().to_bytes() }
}

/// Sends a request to a clone of a service and reads the answer to its end.
pub async fn call<S, B, R>(service: &S, request: Request<B>) -> Answer
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    S::Error: Debug,
    R: Body,
    R::Error: Debug,
{
    read(service.clone().oneshot(request).await.unwrap()).await
}

/// Asks a service for the challenge of a request.
pub async fn ask<S, B, R>(service: &S, request: Request<B>) -> Challenge
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    S::Error: Debug,
    R: Body,
    R::Error: Debug,
{
    challenge(&call(service, request).await.headers)
}

/// The id of a challenge, typed.
pub fn id_of(challenge: &Challenge) -> ChallengeId {
    challenge.id.parse().unwrap()
}
