//! How a request is known to have come over TLS.

use http::{HeaderName, header::FORWARDED, request::Parts};

/// Marks a request that came over a TLS connection which this process has terminated itself. Insert it
/// into the request's extensions where connections are accepted.
#[derive(Clone, Copy, Debug)]
pub struct OverTls;

/// When a request counts as HTTPS.
///
/// By itself only what this process knows: [`OverTls`] in the extensions. What the request target says
/// is the client's word and counts for nothing. Behind a proxy that terminates TLS, name the header by
/// which it says so. Any client can send that header: name it only where the proxy always sets it.
#[derive(Clone, Debug, Default)]
#[must_use]
pub struct HttpsPolicy {
    trusted: Vec<HeaderName>,
}

impl HttpsPolicy {
    /// Trusts no header.
    pub fn direct() -> Self {
        Self::default()
    }

    /// Trusts `X-Forwarded-Proto`. Each of its values must be `https`.
    pub fn trust_x_forwarded_proto(self) -> Self {
        self.trust_header(HeaderName::from_static("x-forwarded-proto"))
    }

    /// Trusts the `proto` parameters of `Forwarded` (RFC 7239). Each of them must be `https`.
    pub fn trust_forwarded(self) -> Self {
        self.trust_header(FORWARDED)
    }

    /// Trusts a header whose value is `https` when the client came over TLS.
    pub fn trust_header(mut self, name: HeaderName) -> Self {
        self.trusted.push(name);
        self
    }

    pub(crate) fn allows(&self, head: &Parts) -> bool {
        head.extensions.get::<OverTls>().is_some() || self.trusted.iter().any(|name| says_https(head, name))
    }
}

/// Whether a trusted header is there and says nothing but `https`. A proxy in the chain that saw plain
/// HTTP is enough for a no.
fn says_https(head: &Parts, name: &HeaderName) -> bool {
    let mut protocols = head
        .headers
        .get_all(name)
        .iter()
        .flat_map(|value| value.to_str().unwrap_or("unreadable").split(','))
        .map(|element| if name == FORWARDED { forwarded_proto(element) } else { element.trim() })
        .peekable();
    protocols.peek().is_some() && protocols.all(|protocol| protocol.eq_ignore_ascii_case("https"))
}

/// The protocol of one hop; nothing, which is not `https`, when the hop does not say.
fn forwarded_proto(element: &str) -> &str {
    let proto = element.split(';').find_map(|pair| {
        let (name, value) = pair.split_once('=')?;
        name.trim().eq_ignore_ascii_case("proto").then(|| value.trim().trim_matches('"'))
    });
    proto.unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::get("/x");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_forwarding_header_counts_only_when_it_is_named() {
        let forwarded = head(&[("x-forwarded-proto", "https"), ("forwarded", "for=1.2.3.4;proto=https")]);
        assert!(!HttpsPolicy::direct().allows(&forwarded));
        assert!(HttpsPolicy::direct().trust_x_forwarded_proto().allows(&forwarded));
        assert!(HttpsPolicy::direct().trust_forwarded().allows(&forwarded));
    }

    #[test]
    fn one_plain_hop_is_enough_for_a_no() {
        let policy = HttpsPolicy::direct().trust_x_forwarded_proto();
        assert!(!policy.allows(&head(&[])));
        assert!(!policy.allows(&head(&[("x-forwarded-proto", "http")])));
        assert!(!policy.allows(&head(&[("x-forwarded-proto", "https, http")])));
        assert!(!policy.allows(&head(&[("x-forwarded-proto", "https"), ("x-forwarded-proto", "http")])));
        assert!(!policy.allows(&head(&[("x-forwarded-proto", "")])));
        assert!(policy.allows(&head(&[("x-forwarded-proto", "HTTPS")])));
        let policy = HttpsPolicy::direct().trust_forwarded();
        assert!(!policy.allows(&head(&[("forwarded", "for=a, for=b;proto=https")])));
    }

    #[test]
    fn what_this_process_knows_itself_counts_and_what_the_client_writes_does_not() {
        let mut own = head(&[]);
        own.extensions.insert(OverTls);
        assert!(HttpsPolicy::direct().allows(&own));
        let target = http::Request::get("https://api.example.com/x").body(()).unwrap().into_parts().0;
        assert!(!HttpsPolicy::direct().allows(&target));
    }
}
