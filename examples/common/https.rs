//! A client for HTTP and HTTPS that follows no redirects.

use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::net::TcpStream;
use tower::{BoxError, ServiceBuilder, timeout::TimeoutLayer, util::BoxCloneSyncService};

/// Connects by TCP, and TLS where the scheme says so.
pub(crate) type Connector = BoxCloneSyncService<Uri, MaybeHttpsStream<TokioIo<TcpStream>>, BoxError>;

/// A pooled client. `connect_timeout` is for name look-up, TCP and TLS together.
pub(crate) fn client<B>(connect_timeout: Duration) -> Result<Client<Connector, B>, rustls::Error>
where
    B: hyper::body::Body + Send,
    B::Data: Send,
{
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(Duration::from_secs(60)));
    // Named, so that other crates of the build cannot make it ambiguous.
    let tls = HttpsConnectorBuilder::new()
        .with_provider_and_webpki_roots(rustls::crypto::ring::default_provider())?
        .https_or_http()
        .enable_http1()
        .wrap_connector(tcp);
    let connector = ServiceBuilder::new().layer(TimeoutLayer::new(connect_timeout)).service(tls);
    Ok(Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(Duration::from_secs(60))
        .build(BoxCloneSyncService::new(connector)))
}
