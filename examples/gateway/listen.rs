//! Where to listen.

use std::{fmt, io, net::SocketAddr};

use tokio::net::{TcpListener, lookup_host};

use super::config::ConfigError;

/// What is listened on unless something else is said.
pub(super) const DEFAULT: &str = "127.0.0.1:8402";

/// `HOST:PORT`, checked. A name is looked up when the gateway starts.
#[derive(Clone, Debug)]
pub(crate) struct Listen {
    host: Host,
    port: u16,
    /// Where it was said, for errors that are found later.
    at: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Address(SocketAddr),
    Name(String),
}

impl Listen {
    pub(super) fn parse(text: &str, at: String) -> Result<Self, ConfigError> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self { host: Host::Address(address), port: address.port(), at });
        }
        let parts = text.rsplit_once(':').and_then(|(name, port)| Some((name, port.parse().ok()?)));
        match parts {
            Some((name, port)) if is_name(name) => Ok(Self { host: Host::Name(name.to_owned()), port, at }),
            _ => Err(ConfigError::new(
                at,
                format_args!("{text:?} is no address; write HOST:PORT, for instance {DEFAULT}"),
            )),
        }
    }

    /// Whether nobody but this machine can come here. Of other names it is not known, so they are not.
    pub(super) fn is_loopback(&self) -> bool {
        match &self.host {
            Host::Address(address) => address.ip().is_loopback(),
            Host::Name(name) => {
                let name = name.to_ascii_lowercase();
                name == "localhost" || name.ends_with(".localhost")
            }
        }
    }

    /// Whether two mean the same, wherever that was said.
    pub(super) fn is(&self, other: &Self) -> bool {
        (&self.host, self.port) == (&other.host, other.port)
    }

    /// Begins to listen.
    pub(super) async fn bind(&self) -> Result<TcpListener, ConfigError> {
        let bound = match &self.host {
            Host::Address(address) => TcpListener::bind(address).await,
            Host::Name(name) => bind_name(name, self.port).await,
        };
        bound.map_err(|error| ConfigError::new(format_args!("{} ({self})", self.at), error))
    }
}

/// On the first of its addresses that can be had. IPv4 first: what this program prints, and what people try,
/// is then the same on every machine.
async fn bind_name(name: &str, port: u16) -> io::Result<TcpListener> {
    let mut addresses: Vec<_> = lookup_host((name, port)).await?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    TcpListener::bind(addresses.as_slice()).await
}

/// The last label of a name is no number, or else it is a misspelt address.
fn is_name(name: &str) -> bool {
    let is_label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        !label.is_empty() && label.bytes().all(known)
    };
    let last = name.rsplit('.').next().unwrap_or_default();
    name.len() <= 253 && name.split('.').all(is_label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Address(address) => address.fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_from_what_is_neither() {
        for (text, loopback) in [
            ("127.0.0.1:0", true),
            ("[::1]:8402", true),
            ("0.0.0.0:80", false),
            ("localhost:8402", true),
            ("Shop.LocalHost:1", true),
            ("gateway_1.internal:8402", false),
        ] {
            let listen = Listen::parse(text, "here".into()).unwrap();
            assert_eq!((listen.to_string().as_str(), listen.is_loopback()), (text, loopback));
        }
        for bad in ["", "8402", ":8402", "localhost", "localhost:", "localhost:65536", "::1:80x", "1.2.3:80", "a b:1"] {
            let error = Listen::parse(bad, "--addr".into()).unwrap_err().to_string();
            assert!(error.starts_with("--addr: ") && error.contains("write HOST:PORT"), "{error}");
        }
    }
}
