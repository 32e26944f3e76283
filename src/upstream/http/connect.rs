//! Connections to an upstream.

use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::net::TcpStream;
use tower::{ServiceExt as _, util::BoxCloneSyncService};

use super::builder::{Limits, Versions};
use crate::upstream::{Body, BoxError};

/// Connects by TCP, and TLS where the scheme says so.
type Connector = BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>;
pub(super) type Pool = Client<Connector, Body>;

/// Name look-up, TCP and TLS together have taken too long.
#[derive(Debug, thiserror::Error)]
#[error("no connection within {0:?}")]
pub(super) struct TooSlow(Duration);

const KEEP_ALIVE: Duration = Duration::from_secs(60);
const PING_EVERY: Duration = Duration::from_secs(30);
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// All calls share one connection of HTTP/2. There is room in it for what this many of them have not read yet, so that
/// a client that stops reading holds up nobody else; and providers take at least so many at once.
pub(super) const MOST_STREAMS: usize = 100;
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MOST_STREAMS as u32;

/// A pool of connections. It follows no redirects.
pub(super) fn pool(versions: Versions, limits: &Limits) -> Result<Pool, rustls::Error> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEP_ALIVE));
    // Named, so that other crates of the build cannot make it ambiguous.
    let tls = HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())?
        .https_or_http();
    let connector = match versions {
        Versions::Http1 => tls.enable_http1().wrap_connector(tcp),
        Versions::Any => tls.enable_all_versions().wrap_connector(tcp),
        Versions::Http2 => tls.enable_http2().wrap_connector(tcp),
    };
    let limit = limits.connect;
    let connector = tower::service_fn(move |uri: Uri| {
        let connecting = connector.clone().oneshot(uri);
        async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(TooSlow(limit).into()),
            }
        }
    });
    Ok(Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(limits.pool_idle)
        .pool_max_idle_per_host(limits.max_idle)
        .http2_only(versions == Versions::Http2)
        .http2_initial_stream_window_size(STREAM_WINDOW)
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PING_EVERY)
        .http2_keep_alive_timeout(PONG_WITHIN)
        .build(BoxCloneSyncService::new(connector)))
}
