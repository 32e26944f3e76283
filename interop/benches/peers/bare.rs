//! The floor: what no merchant can do without, and nothing else.
//!
//! A challenge needs the time, random bytes, base64, one HMAC under a prepared key, and a header value; a payment
//! the decoding of its credential, the same HMAC, and a receipt; a request with a body its SHA-256.

use std::{
    convert::Infallible,
    io::Write as _,
    time::{Duration, SystemTime},
};

use axum::{
    body::Body,
    http::{
        HeaderValue, Request, Response, StatusCode,
        header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE, WWW_AUTHENTICATE},
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};
use tower::service_fn;

use crate::{case, harness::Bench};

const SECRET: &[u8] = b"an HMAC key of more than thirty-two bytes";
const REALM: &str = "api.example.com";
const OFFER: &str =
    r#"{"amount":"50","currency":"usd","methodDetails":{"networkId":"profile_interop","paymentMethodTypes":["card"]}}"#;

pub fn add(bench: &mut Bench) {
    pieces(bench);
    let empty = || Request::new(Body::empty());
    bench.service(case::FREE, "bare tower", service_fn(ok), empty, StatusCode::OK);

    let route = Route::new();
    bench.plain(case::ASK, "primitives", || (), move |()| route.ask(""));
    let route = Route::new();
    bench.service(
        case::ASK,
        "primitives in a service",
        service_fn(move |_: Request<Body>| {
            let answer = route.answer();
            async { Ok::<_, Infallible>(answer) }
        }),
        empty,
        StatusCode::PAYMENT_REQUIRED,
    );
    let route = Route::new();
    bench.plain(case::ASK_8, "primitives", || (), move |()| [(); 8].map(|()| route.challenge("")));

    for (case, size) in case::ASK_BODY {
        let body = Bytes::from(vec![b'x'; size]);
        let clone = body.clone();
        bench.plain(case, "SHA-256", move || clone.clone(), |body| Sha256::digest(&body));
        let route = Route::new();
        bench.plain(
            case,
            "SHA-256 and primitives",
            move || body.clone(),
            move |body| {
                let mut digest = [0; 54];
                digest[..9].copy_from_slice(b"sha-256=:");
                STANDARD.encode_slice(Sha256::digest(&body), &mut digest[9..53]).expect("room");
                digest[53] = b':';
                route.ask(str::from_utf8(&digest).expect("text"))
            },
        );
    }

    let route = Route::new();
    let credential = route.credential();
    bench.plain(
        case::PAID,
        "primitives",
        move || credential.clone(),
        move |credential| {
            assert!(route.verify(&credential));
            receipt()
        },
    );
    let route = Route::new();
    let credential = HeaderValue::from_str(&route.credential()).expect("a header value");
    bench.service(
        case::PAID,
        "primitives in a service",
        service_fn(move |request: Request<Body>| {
            let credential = request.headers()[AUTHORIZATION].to_str().expect("text");
            assert!(route.verify(credential));
            let mut answer = Response::new(Body::from("ok"));
            answer.headers_mut().insert("payment-receipt", receipt());
            answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private"));
            async { Ok::<_, Infallible>(answer) }
        }),
        move || with_credential(&credential),
        StatusCode::OK,
    );

    let route = Route::new();
    let forged = Route { key: Hmac::new_from_slice(b"somebody else's key").expect("any length"), ..Route::new() };
    let forged = forged.credential();
    bench.plain(
        case::FORGED,
        "primitives",
        move || forged.clone(),
        move |credential| {
            assert!(!route.verify(&credential));
            route.ask("")
        },
    );
    let route = Route::new();
    let garbage = truncated(&route.credential());
    bench.plain(
        case::GARBAGE,
        "primitives",
        move || garbage.clone(),
        move |credential| {
            assert!(!route.verify(&credential));
            route.ask("")
        },
    );
    let route = Route::new();
    let credential = route.credential();
    bench.plain(case::REPLAY, "primitives", move || credential.clone(), move |credential| route.verify(&credential));
}

fn pieces(bench: &mut Bench) {
    const PIECES: &str = case::PIECES;
    let (route, fresh) = (Route::new(), Route::new().fresh(""));
    bench.plain(PIECES, "HMAC", || (), move |()| route.mac(&fresh.expires, b"", fresh.opaque()).finalize());
    bench.plain(
        PIECES,
        "base64 of the HMAC",
        || [7_u8; 32],
        |mac| {
            let mut id = [0; 43];
            URL_SAFE_NO_PAD.encode_slice(mac, &mut id).expect("room");
            id
        },
    );
    bench.plain(PIECES, "time", || (), |()| expires());
    bench.plain(PIECES, "random bytes", || (), |()| rand::random::<[u8; 16]>());
    let (route, fresh) = (Route::new(), Route::new().fresh(""));
    bench.plain(PIECES, "header value", || (), move |()| route.header(&fresh, ""));
    let credential = Route::new().credential();
    bench.plain(
        PIECES,
        "credential",
        move || credential.clone(),
        |credential| {
            let json = URL_SAFE_NO_PAD.decode(&credential["Payment ".len()..]).expect("base64");
            serde_json::from_slice::<Credential<'_>>(&json).expect("a credential").payload.spt.len()
        },
    );
    bench.plain(PIECES, "receipt", || (), |()| receipt());
}

/// The paid thing.
pub async fn ok<B>(_: Request<B>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::from("ok")))
}

/// A request that carries a credential.
pub fn with_credential(credential: &HeaderValue) -> Request<Body> {
    let mut request = Request::new(Body::empty());
    request.headers_mut().insert(AUTHORIZATION, credential.clone());
    request
}

/// The first three quarters of a credential: still base64, no longer JSON.
pub fn truncated(credential: &str) -> String {
    let (scheme, token) = credential.split_at("Payment ".len());
    format!("{scheme}{}", &token[..token.len() / 16 * 12])
}

struct Route {
    key: Hmac<Sha256>,
    request: String,
    slots: String,
    head: String,
    scope: &'static str,
}

/// The part of a challenge that is new each time.
struct Fresh {
    id: [u8; 43],
    expires: [u8; 20],
    opaque: ([u8; 128], usize),
}

impl Route {
    fn new() -> Self {
        let request = URL_SAFE_NO_PAD.encode(OFFER);
        Self {
            key: Hmac::new_from_slice(SECRET).expect("any length"),
            slots: format!("{REALM}|stripe|charge|{request}|"),
            head: format!(
                r#"", realm="{REALM}", method="stripe", intent="charge", request="{request}", description="One model call", expires=""#
            ),
            request,
            scope: "GET /v1/agent/messages",
        }
    }

    fn fresh(&self, digest: &str) -> Fresh {
        let mut nonce = [0; 22];
        URL_SAFE_NO_PAD.encode_slice(rand::random::<[u8; 16]>(), &mut nonce).expect("room");
        let (mut json, mut opaque) = ([0; 96], ([0; 128], 0));
        let mut rest = &mut json[..];
        write!(rest, r#"{{"n":"{}","s":"{}"}}"#, str::from_utf8(&nonce).expect("text"), self.scope).expect("room");
        let left = rest.len();
        opaque.1 = URL_SAFE_NO_PAD.encode_slice(&json[..json.len() - left], &mut opaque.0).expect("room");

        let mut fresh = Fresh { id: [0; 43], expires: expires(), opaque };
        let mac = self.mac(&fresh.expires, digest.as_bytes(), fresh.opaque());
        URL_SAFE_NO_PAD.encode_slice(mac.finalize().into_bytes(), &mut fresh.id).expect("room");
        fresh
    }

    fn mac(&self, expires: &[u8], digest: &[u8], opaque: &[u8]) -> Hmac<Sha256> {
        let mut mac = self.key.clone();
        for slot in [self.slots.as_bytes(), expires, b"|", digest, b"|", opaque] {
            mac.update(slot);
        }
        mac
    }

    fn header(&self, fresh: &Fresh, digest: &str) -> HeaderValue {
        let mut header = Vec::with_capacity(self.head.len() + 320);
        for part in [&b"Payment id=\""[..], &fresh.id, self.head.as_bytes(), &fresh.expires] {
            header.extend_from_slice(part);
        }
        if !digest.is_empty() {
            header.extend_from_slice(b"\", digest=\"");
            header.extend_from_slice(digest.as_bytes());
        }
        for part in [b"\", opaque=\"", fresh.opaque(), b"\""] {
            header.extend_from_slice(part);
        }
        HeaderValue::from_maybe_shared(Bytes::from(header)).expect("a header value")
    }

    fn challenge(&self, digest: &str) -> HeaderValue {
        self.header(&self.fresh(digest), digest)
    }

    fn ask(&self, digest: &str) -> (HeaderValue, Bytes) {
        let fresh = self.fresh(digest);
        let mut problem = Vec::with_capacity(320);
        for part in [
            &br#"{"type":"https://paymentauth.org/problems/payment-required","title":"Payment Required","status":402,"detail":"This costs 0.50 USD. Pay one of the challenges and repeat the request.","challengeId":""#[..],
            &fresh.id,
            br#""}"#,
        ] {
            problem.extend_from_slice(part);
        }
        (self.header(&fresh, digest), Bytes::from(problem))
    }

    fn answer(&self) -> Response<Body> {
        let (challenge, problem) = self.ask("");
        let mut answer = Response::new(Body::from(problem));
        *answer.status_mut() = StatusCode::PAYMENT_REQUIRED;
        answer.headers_mut().insert(WWW_AUTHENTICATE, challenge);
        answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        answer
    }

    fn credential(&self) -> String {
        let fresh = self.fresh("");
        let text = |bytes| str::from_utf8(bytes).expect("text");
        let json = format!(
            r#"{{"challenge":{{"id":"{}","realm":"{REALM}","method":"stripe","intent":"charge","request":"{}","expires":"{}","opaque":"{}"}},"payload":{{"spt":"spt_1Qx0000000000000000000"}},"source":"did:key:z6MkInterop"}}"#,
            text(&fresh.id),
            self.request,
            text(&fresh.expires),
            text(fresh.opaque()),
        );
        format!("Payment {}", URL_SAFE_NO_PAD.encode(json))
    }

    fn verify(&self, credential: &str) -> bool {
        let Some(token) = credential.strip_prefix("Payment ") else { return false };
        let Ok(json) = URL_SAFE_NO_PAD.decode(token) else { return false };
        let Ok(credential) = serde_json::from_slice::<Credential<'_>>(&json) else { return false };
        let echo = credential.challenge;
        let mut id = [0; 32];
        if URL_SAFE_NO_PAD.decode_slice(echo.id, &mut id) != Ok(32) {
            return false;
        }
        let mac = self.mac(echo.expires.as_bytes(), echo.digest.unwrap_or("").as_bytes(), echo.opaque.as_bytes());
        mac.verify_slice(&id).is_ok()
            && humantime::parse_rfc3339(echo.expires).is_ok_and(|end| end > SystemTime::now())
            && (echo.realm, echo.method, echo.intent) == (REALM, "stripe", "charge")
            && echo.request == self.request
            && !credential.payload.spt.is_empty()
    }
}

impl Fresh {
    fn opaque(&self) -> &[u8] {
        &self.opaque.0[..self.opaque.1]
    }
}

fn expires() -> [u8; 20] {
    let mut expires = [0; 20];
    let end = SystemTime::now() + Duration::from_secs(300);
    write!(&mut expires[..], "{}", humantime::format_rfc3339_seconds(end)).expect("room");
    expires
}

fn receipt() -> HeaderValue {
    let mut json = [0; 256];
    let mut rest = &mut json[..];
    let now = humantime::format_rfc3339_seconds(SystemTime::now());
    write!(
        rest,
        r#"{{"status":"success","method":"stripe","timestamp":"{now}","reference":"pi_3QxNoop0000000000000000"}}"#
    )
    .expect("room");
    let left = rest.len();
    let value = URL_SAFE_NO_PAD.encode(&json[..json.len() - left]);
    HeaderValue::from_maybe_shared(Bytes::from(value)).expect("a header value")
}

#[derive(Deserialize)]
struct Credential<'a> {
    #[serde(borrow)]
    challenge: Echo<'a>,
    #[serde(borrow)]
    payload: Payload<'a>,
}

#[derive(Deserialize)]
struct Echo<'a> {
    id: &'a str,
    realm: &'a str,
    method: &'a str,
    intent: &'a str,
    request: &'a str,
    expires: &'a str,
    digest: Option<&'a str>,
    opaque: &'a str,
}

#[derive(Deserialize)]
struct Payload<'a> {
    spt: &'a str,
}
