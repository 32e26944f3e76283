//! Whatever answers the requests that were paid for.

pub(super) mod base;
mod idle;
mod scrub;
pub(super) mod settings;

use axum::{
    BoxError, Router,
    body::Body,
    response::{IntoResponse as _, Response},
};
use http::{Request, StatusCode, Version};
use http_body_util::{LengthLimitError, Limited};
use hyper::body::Body as _;
use hyper_util::client::legacy::Client;
use tower::ServiceExt as _;
use tower_mpp::{receipt::Attribution, refund::ProviderCall};

use self::{
    idle::{IdleLimited, Progress, Tracked},
    settings::{HttpSettings, UpstreamSettings},
};
use super::{
    common::https::{self, Connector},
    demo,
    problem::Problem,
};

/// An upstream, ready to be called.
pub(super) enum Upstream {
    Demo(Router),
    Http { client: Box<Client<Connector, Body>>, settings: Box<HttpSettings> },
}

/// Why there is no answer. For the log; clients read [`Fault::problem`].
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("cannot be reached")]
    Unreachable(#[source] BoxError),
    #[error("cannot be reached in time")]
    NoConnection,
    #[error("did not answer in time")]
    Late,
    #[error("the connection broke before there was an answer")]
    Broken(#[source] BoxError),
    #[error("answered {0}, which is between it and this gateway: check its credentials and account")]
    RefusesUs(StatusCode),
    #[error("the address cannot be written")]
    Address(#[source] http::Error),
    /// Not the upstream's.
    #[error("the request body is too large")]
    BodyTooLarge,
}

impl Upstream {
    pub(super) fn new(settings: UpstreamSettings) -> Result<Self, rustls::Error> {
        match settings {
            UpstreamSettings::Demo => Ok(Self::Demo(demo::router())),
            UpstreamSettings::Http(settings) => {
                if !settings.base.is_safe_for_secrets() && !settings.headers.is_empty() {
                    tracing::warn!(upstream = %settings.base, "the injected headers travel unencrypted");
                }
                Ok(Self::Http { client: Box::new(https::client(settings.connect_timeout)?), settings })
            }
        }
    }

    /// Passes a request on and its answer back. Bodies stream both ways, frame by frame.
    pub(super) async fn answer(&self, mut request: Request<Body>, body_limit: usize) -> Response {
        if too_large(&request, body_limit) {
            return Fault::BodyTooLarge.problem().into_response();
        }
        scrub::request(request.headers_mut());
        let attribution = request.extensions().get::<Attribution>().cloned();
        let result = match self {
            Self::Demo(router) => match router.clone().oneshot(request).await {
                Ok(response) => Ok(response),
                Err(never) => match never {},
            },
            Self::Http { client, settings } => send(client, settings, request, body_limit).await,
        };
        match result {
            Ok(mut response) => {
                if let Some(attribution) = attribution {
                    attribution.update(|receipt| receipt.provider_status = Some(response.status().as_u16()));
                }
                scrub::response(response.headers_mut(), self.base());
                response.extensions_mut().insert(ProviderCall::Started);
                response
            }
            Err(fault) => {
                let source = std::error::Error::source(&fault).map(tracing::field::debug);
                tracing::warn!(error = %fault, source, "upstream");
                let mut response = fault.problem().into_response();
                response.extensions_mut().insert(fault.call());
                response
            }
        }
    }

    fn base(&self) -> Option<&base::Base> {
        match self {
            Self::Demo(_) => None,
            Self::Http { settings, .. } => Some(&settings.base),
        }
    }
}

/// Whether a request is known to be too large before any of it was read.
pub(super) fn too_large(request: &Request<Body>, limit: usize) -> bool {
    request.body().size_hint().lower() > limit as u64
}

async fn send(
    client: &Client<Connector, Body>,
    settings: &HttpSettings,
    request: Request<Body>,
    body_limit: usize,
) -> Result<Response, Fault> {
    let (mut head, body) = request.into_parts();
    head.uri = settings.base.join(&head.uri).map_err(Fault::Address)?;
    head.version = Version::HTTP_11;
    for name in &settings.remove {
        head.headers.remove(name);
    }
    for (name, value) in &settings.headers {
        head.headers.insert(name, value.clone());
    }
    let progress = Progress::new();
    let body = if body.is_end_stream() {
        Body::empty()
    } else {
        Body::new(Tracked::new(Limited::new(body, body_limit), progress.clone()))
    };
    // Dropping the call on time-out closes its connection.
    let response = tokio::select! {
        response = client.request(Request::from_parts(head, body)) => response,
        () = progress.stalled(settings.first_byte_timeout) => return Err(Fault::Late),
    };
    let response = response.map_err(Fault::of)?;
    match response.status() {
        // About our credentials, our account or our connection: nothing that a client could do anything
        // about, and a 402 would look like a second bill.
        status @ (StatusCode::UNAUTHORIZED
        | StatusCode::PAYMENT_REQUIRED
        | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        | StatusCode::SWITCHING_PROTOCOLS) => Err(Fault::RefusesUs(status)),
        _ => Ok(response.map(|body| Body::new(IdleLimited::new(body, settings.idle_timeout)))),
    }
}

impl Fault {
    fn of(error: hyper_util::client::legacy::Error) -> Self {
        let is_connect = error.is_connect();
        let error: BoxError = error.into();
        if has_source::<LengthLimitError>(&*error) {
            Self::BodyTooLarge
        } else if has_source::<tower::timeout::error::Elapsed>(&*error) {
            Self::NoConnection
        } else if is_connect {
            Self::Unreachable(error)
        } else {
            Self::Broken(error)
        }
    }

    /// What the refund rules want to know.
    fn call(&self) -> ProviderCall {
        match self {
            Self::Unreachable(_) | Self::NoConnection | Self::Address(_) | Self::BodyTooLarge => {
                ProviderCall::NotStarted
            }
            Self::Late => ProviderCall::TimedOut,
            Self::Broken(_) | Self::RefusesUs(_) => ProviderCall::Started,
        }
    }

    fn problem(&self) -> Problem {
        match self {
            Self::Late | Self::NoConnection => {
                Problem::new(StatusCode::GATEWAY_TIMEOUT, "The service behind this gateway did not answer in time.")
            }
            Self::BodyTooLarge => Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "The request body is too large."),
            Self::Unreachable(_) | Self::Broken(_) | Self::RefusesUs(_) | Self::Address(_) => {
                Problem::new(StatusCode::BAD_GATEWAY, "The service behind this gateway cannot answer at the moment.")
            }
        }
    }
}

fn has_source<E: std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<E>())
}
