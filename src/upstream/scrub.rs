//! What passes between a client and an upstream, and what does not.
//!
//! An upstream learns nothing about payments and is told nothing by clients that only the merchant may say: whose
//! account it is, who the caller is, which credentials he has. A client is told nothing by an upstream that only the
//! merchant may say: above all no receipt and no bill. The same holds for trailers.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{CONNECTION, CONTENT_LENGTH, TRAILER, TRANSFER_ENCODING},
};

/// Of one connection, not of the message (RFC 9110 section 7.6.1), and what goes with them.
const HOP_BY_HOP: [&str; 13] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-authentication-info",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
    "alt-used",
];

/// Payments: the Payment scheme, x402 and what goes with them.
const PAYMENT: [&str; 4] = ["accept-payment", "payment", "www-authenticate", "authentication-info"];
const PAYMENT_PREFIXES: [&str; 2] = ["payment-", "x-payment"];

/// Credentials, accounts and identities: a client's are meant for the merchant, and a merchant's for the upstream.
const SECRETS: [&str; 31] = [
    "authorization",
    "cookie",
    "cookie2",
    "x-api-key",
    "api-key",
    "apikey",
    "x-apikey",
    "x-auth-token",
    "x-access-token",
    "x-session-token",
    "x-goog-api-key",
    "x-goog-user-project",
    "x-amz-security-token",
    "ocp-apim-subscription-key",
    "private-token",
    "x-vault-token",
    "openai-organization",
    "openai-project",
    "anthropic-organization",
    "anthropic-organization-id",
    "anthropic-workspace",
    "anthropic-workspace-id",
    "stripe-account",
    "stripe-context",
    // Who a gateway in front of the upstream has found the caller to be.
    "remote-user",
    "x-remote-user",
    "x-authenticated-user",
    "x-ms-client-principal",
    "x-goog-authenticated-user-email",
    "client-cert",
    "client-cert-chain",
];

/// What else a client may not say to an upstream.
const FROM_CLIENT: [&str; 18] = [
    "host",
    // The body says itself how long it is.
    "content-length",
    // Bytes pass as they are, and without this they are mostly plain.
    "accept-encoding",
    // What came before us is known to us alone.
    "forwarded",
    "via",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "true-client-ip",
    "cf-connecting-ip",
    "fastly-client-ip",
    "x-original-forwarded-for",
    // Another request than the one that was paid for.
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-original-host",
    "x-rewrite-url",
];
const FROM_CLIENT_PREFIXES: [&str; 2] = ["x-forwarded-", "x-auth-request-"];

/// What an upstream may not say to a client: things about its own origin.
const FROM_UPSTREAM: [&str; 14] = [
    "set-cookie",
    "set-cookie2",
    "alt-svc",
    "clear-site-data",
    "strict-transport-security",
    "public-key-pins",
    "expect-ct",
    "nel",
    "report-to",
    "reporting-endpoints",
    "accept-ch",
    "critical-ch",
    "service-worker-allowed",
    "via",
];
/// Who may call from a browser is up to the merchant.
const FROM_UPSTREAM_PREFIX: &str = "access-control-";

/// In which direction something passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum To {
    Upstream,
    Client,
}

/// Removes from a head what the other side must not see. Where more of the body follows, the trailers that may pass
/// stay announced.
pub(crate) fn head(headers: &mut HeaderMap, to: To, more_follows: bool) {
    let announced = if more_follows { announced(headers, to) } else { None };
    // A message with both is framed by the encoding alone (RFC 9112 section 6.3).
    if headers.contains_key(TRANSFER_ENCODING) {
        headers.remove(CONTENT_LENGTH);
    }
    let nominated = nominated(headers);
    retain(headers, |name| passes(name.as_str(), to) && !nominated.contains(name));
    if let Some(names) = announced {
        headers.insert(TRAILER, names);
    }
}

/// The same for trailers.
pub(crate) fn trailers(headers: &mut HeaderMap, to: To) {
    retain(headers, |name| passes(name.as_str(), to) && !is_framing(name.as_str()));
}

/// Whether the merchant cannot inject this header, because connections or payments need it.
pub(crate) fn is_ours_to_set(name: &HeaderName) -> bool {
    let name = name.as_str();
    belongs_to_us(name) || is_framing(name)
}

fn passes(name: &str, to: To) -> bool {
    let kept = match to {
        To::Upstream => {
            !FROM_CLIENT.contains(&name) && !FROM_CLIENT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        }
        To::Client => !FROM_UPSTREAM.contains(&name) && !name.starts_with(FROM_UPSTREAM_PREFIX),
    };
    kept && !belongs_to_us(name) && !SECRETS.contains(&name)
}

fn belongs_to_us(name: &str) -> bool {
    HOP_BY_HOP.contains(&name)
        || PAYMENT.contains(&name)
        || PAYMENT_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

fn is_framing(name: &str) -> bool {
    matches!(name, "host" | "content-length")
}

/// What `Connection` names goes with it.
fn nominated(headers: &HeaderMap) -> Vec<HeaderName> {
    names(headers, &CONNECTION).collect()
}

/// The trailers that may pass, of those that are announced.
fn announced(headers: &HeaderMap, to: To) -> Option<HeaderValue> {
    let nominated = nominated(headers);
    let names: Vec<_> = names(headers, &TRAILER)
        .filter(|name| passes(name.as_str(), to) && !is_framing(name.as_str()) && !nominated.contains(name))
        .collect();
    let text = names.iter().map(HeaderName::as_str).collect::<Vec<_>>().join(", ");
    if names.is_empty() { None } else { HeaderValue::try_from(text).ok() }
}

fn names(headers: &HeaderMap, of: &HeaderName) -> impl Iterator<Item = HeaderName> {
    let values = headers.get_all(of).iter();
    let parts = values.flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    parts.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
}

fn retain(headers: &mut HeaderMap, keep: impl Fn(&HeaderName) -> bool) {
    let removed: Vec<HeaderName> = headers.keys().filter(|name| !keep(name)).cloned().collect();
    for name in removed {
        headers.remove(name);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn headers(names: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in names {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn what_connection_nominates_goes_with_it() {
        for to in [To::Upstream, To::Client] {
            let mut all = headers(&[("connection", "close, X-Secret-Hop"), ("x-secret-hop", "1"), ("x-kept", "1")]);
            head(&mut all, to, true);
            assert_eq!(names(&all), ["x-kept"]);
        }
    }

    #[test]
    fn an_upstream_can_neither_bill_nor_give_receipts() {
        let mut all = headers(&[
            ("payment-receipt", "forged"),
            ("payment-outcome", "x"),
            ("payment-required", "x"),
            ("x-payment-response", "x"),
            ("www-authenticate", "Basic realm=\"x\", Payment id=\"a\""),
            ("www-authenticate", "method=\"x\""),
            ("set-cookie", "a=b"),
            ("set-cookie", "c=d"),
            ("x-api-key", "echoed"),
            ("anthropic-organization-id", "whose account it is"),
            ("content-type", "text/plain"),
            ("content-length", "3"),
            ("content-encoding", "gzip"),
        ]);
        head(&mut all, To::Client, true);
        assert_eq!(names(&all), ["content-encoding", "content-length", "content-type"]);
    }

    #[test]
    fn no_credential_of_a_client_reaches_an_upstream() {
        for name in SECRETS {
            let mut all = headers(&[(name, "x"), ("anthropic-version", "2023-06-01"), ("traceparent", "00-1-2-01")]);
            head(&mut all, To::Upstream, true);
            assert_eq!(names(&all), ["anthropic-version", "traceparent"]);
        }
    }

    #[test]
    fn trailers_say_no_more_than_heads_may() {
        let mut all = headers(&[("trailer", "Payment-Receipt, X-Checksum"), ("trailer", "set-cookie,content-length")]);
        let mut without_body = all.clone();
        head(&mut all, To::Client, true);
        assert_eq!(all.get("trailer").unwrap(), "x-checksum");
        head(&mut without_body, To::Client, false);
        assert!(without_body.is_empty());

        let mut all = headers(&[("payment-receipt", "forged"), ("x-checksum", "1"), ("content-length", "3")]);
        trailers(&mut all, To::Client);
        assert_eq!(names(&all), ["x-checksum"]);
        let mut all = headers(&[("authorization", "Bearer x"), ("x-forwarded-for", "1.2.3.4"), ("x-checksum", "1")]);
        trailers(&mut all, To::Upstream);
        assert_eq!(names(&all), ["x-checksum"]);
    }

    #[test]
    fn a_length_beside_an_encoding_is_not_believed() {
        let mut all = headers(&[("content-length", "3"), ("transfer-encoding", "chunked")]);
        head(&mut all, To::Client, true);
        assert!(all.is_empty());
    }
}
