//! What passes between a client and an upstream, and what does not.
//!
//! An upstream learns nothing about payments and is told nothing by clients that only the operator may
//! say. A client is told nothing by an upstream that only the gateway may say: above all no receipt and
//! no bill.

use http::{
    HeaderMap, HeaderName, HeaderValue,
    header::{self, CONNECTION, LOCATION},
};

use super::base::{Base, Redirect};

/// Of one connection, not of the message (RFC 9110 section 7.6.1), and what goes with them.
const HOP_BY_HOP: [&str; 11] = [
    "connection",
    "keep-alive",
    "proxy-connection",
    "proxy-authenticate",
    "proxy-authorization",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "http2-settings",
    "expect",
];

/// Payments: the Payment scheme and x402.
const PAYMENT: [&str; 4] = ["accept-payment", "x-payment", "x-payment-response", "www-authenticate"];
const PAYMENT_PREFIX: &str = "payment-";

/// What a client may not say to an upstream.
const FROM_CLIENT: [&str; 19] = [
    // Meant for the gateway.
    "authorization",
    "cookie",
    "host",
    "content-length",
    // Bytes pass as they are, and without this they are mostly plain.
    "accept-encoding",
    // What came before us is known to us alone.
    "forwarded",
    "via",
    "x-real-ip",
    "true-client-ip",
    "cf-connecting-ip",
    // Another request than the one that was paid for.
    "x-http-method",
    "x-http-method-override",
    "x-method-override",
    "x-original-url",
    "x-rewrite-url",
    // On whose account it runs is the operator's choice.
    "openai-organization",
    "openai-project",
    "stripe-account",
    "stripe-context",
];
const FROM_CLIENT_PREFIX: &str = "x-forwarded-";

/// What an upstream may not say to a client: things about its own origin, and whose account it is.
const FROM_UPSTREAM: [&str; 9] = [
    "authorization",
    "set-cookie",
    "set-cookie2",
    "alt-svc",
    "clear-site-data",
    "strict-transport-security",
    "via",
    "openai-organization",
    "openai-project",
];
/// Who may call from a browser is up to the gateway.
const FROM_UPSTREAM_PREFIX: &str = "access-control-";

/// Removes from a request what the upstream must not see.
pub(super) fn request(headers: &mut HeaderMap) {
    retain(headers, |name| !FROM_CLIENT.contains(&name) && !name.starts_with(FROM_CLIENT_PREFIX));
}

/// Removes from an answer what the client must not see, and points redirects within the upstream at
/// this gateway. Length and encoding stay: the bytes pass as they are.
pub(super) fn response(headers: &mut HeaderMap, base: Option<&Base>) {
    retain(headers, |name| !FROM_UPSTREAM.contains(&name) && !name.starts_with(FROM_UPSTREAM_PREFIX));
    let Some(base) = base else { return };
    for name in [LOCATION, header::CONTENT_LOCATION] {
        let Some(value) = headers.get(&name) else { continue };
        match value.to_str().map_or(Redirect::Hidden, |location| base.redirect(location)) {
            Redirect::Elsewhere => {}
            Redirect::Here(path) if HeaderValue::from_str(&path).is_ok() => {
                headers.insert(name, HeaderValue::from_str(&path).unwrap_or_else(|_| HeaderValue::from_static("/")));
            }
            Redirect::Here(_) | Redirect::Hidden => {
                headers.remove(name);
            }
        }
    }
}

/// Whether the operator cannot inject this header, because connections or payments need it.
pub(super) fn is_ours_to_set(name: &HeaderName) -> bool {
    let name = name.as_str();
    belongs_to_us(name) || matches!(name, "host" | "content-length")
}

fn belongs_to_us(name: &str) -> bool {
    HOP_BY_HOP.contains(&name) || PAYMENT.contains(&name) || name.starts_with(PAYMENT_PREFIX)
}

fn retain(headers: &mut HeaderMap, keep: impl Fn(&str) -> bool) {
    let nominated: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    let removed: Vec<HeaderName> = headers
        .keys()
        .filter(|name| {
            let text = name.as_str();
            belongs_to_us(text) || !keep(text) || nominated.contains(name)
        })
        .cloned()
        .collect();
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
        let mut all = headers(&[("connection", "close, X-Secret-Hop"), ("x-secret-hop", "1"), ("x-kept", "1")]);
        request(&mut all);
        assert_eq!(names(&all), ["x-kept"]);
    }

    #[test]
    fn an_upstream_can_neither_bill_nor_give_receipts() {
        let mut all = headers(&[
            ("payment-receipt", "forged"),
            ("payment-outcome", "x"),
            ("payment-required", "x"),
            ("www-authenticate", "Basic realm=\"x\", Payment id=\"a\""),
            ("www-authenticate", "method=\"x\""),
            ("set-cookie", "a=b"),
            ("set-cookie", "c=d"),
            ("content-type", "text/plain"),
            ("content-length", "3"),
            ("content-encoding", "gzip"),
        ]);
        response(&mut all, None);
        assert_eq!(names(&all), ["content-encoding", "content-length", "content-type"]);
    }
}
