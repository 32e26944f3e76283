//! What two versions of a deployed peer (the npm package mppx) did, played again against this proxy. They are
//! recordings, not the specification: where we do something else, [`DIFFERENCES`] says so one by one, and everything
//! that is not listed there is equal. Needs the folder that `MPP_VECTORS_DIR` names.

use std::{collections::BTreeSet, env, path::Path};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, Method};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tower_mpp::{
    protocol::Challenge,
    proxy::{
        EndpointOptions, Proxy, ProxyBuilder, Route,
        presets::{self, Anthropic, OpenAi, Stripe},
    },
};

use crate::{
    shop::*,
    support::{Answer, call, challenge, pay_with},
};

const OLD: &str = "0.4.8";
const NEW: &str = "0.11.0";
const BOTH: &str = "";
/// Every case that reaches an upstream, or is a 402.
const ANY: &str = "";

/// Where we do something else: case, version, member, what we do (JSON), why.
const DIFFERENCES: &[(&str, &str, &str, &str, &str)] = &[
    // --- What passes back
    (ANY, OLD, "headers/set-cookie", "null", "a cookie of the upstream would be one of the merchant's origin"),
    (ANY, OLD, "headers/cache-control", "\"private\"", "a paid answer is for who has paid it"),
    ("paid but upstream 418", BOTH, "headers/payment-receipt", "null", "no receipt for what has failed"),
    ("paid but upstream 418", NEW, "headers/cache-control", "null", "nothing was delivered: see Payment-Outcome"),
    // --- What reaches the upstream
    ("free passthrough", OLD, "upstream/headers/payment-receipt", "null", "an upstream learns nothing about payments"),
    ("free stripe", OLD, "upstream/headers/stripe-account", "null", "the client must not choose the account"),
    ("free openai", OLD, "upstream/headers/openai-organization", "null", "the client must not choose the organisation"),
    // --- The challenge
    (ANY, BOTH, "challenge/digest", "true", "a payment is good for one body (RFC 9530)"),
    (ANY, OLD, "challenge/opaque", "true", "a payment is good for one path and query, and every challenge is another"),
    // --- One payment, one delivery
    ("replay same credential", BOTH, "status", "403", "used before; not 402, or an agent would pay again by reflex"),
    (
        "replay same credential",
        BOTH,
        "body",
        r#"{"status":403,"title":"Invalid Challenge","type":"https://paymentauth.org/problems/invalid-challenge"}"#,
        "used before",
    ),
    ("replay same credential", BOTH, "headers/content-type", "\"application/problem+json\"", "used before"),
    ("replay same credential", BOTH, "headers/cache-control", "\"no-store\"", "used before"),
    ("replay same credential", BOTH, "headers/payment-receipt", "null", "used before"),
    ("replay same credential", BOTH, "headers/x-up", "null", "used before"),
    ("replay same credential", BOTH, "upstream", "null", "used before: the upstream is asked once"),
    (
        "replay credential on same-priced route (cross-route)",
        OLD,
        "status",
        "402",
        "a payment for one route buys no other, whatever it costs",
    ),
    (
        "replay credential on same-priced route (cross-route)",
        OLD,
        "body",
        r#"{"status":402,"title":"Invalid Challenge","type":"https://paymentauth.org/problems/invalid-challenge"}"#,
        "the same",
    ),
    (
        "replay credential on same-priced route (cross-route)",
        OLD,
        "headers/content-type",
        "\"application/problem+json\"",
        "the same",
    ),
    ("replay credential on same-priced route (cross-route)", OLD, "headers/cache-control", "\"no-store\"", "the same"),
    ("replay credential on same-priced route (cross-route)", OLD, "headers/payment-receipt", "null", "the same"),
    ("replay credential on same-priced route (cross-route)", OLD, "headers/x-up", "null", "the same"),
    ("replay credential on same-priced route (cross-route)", OLD, "upstream", "null", "the same"),
    (
        "replay credential on same-priced route (cross-route)",
        OLD,
        "challenge",
        r#"{"method":"acme","intent":"charge","realm":"proxy.test","request":{"amount":"1","currency":"usd","recipient":"acct_1"},"expires":true,"digest":false,"opaque":true}"#,
        "the same",
    ),
    // --- Refusals
    ("bad proof", BOTH, "body/title", "\"Payment Verification Failed\"", "a proof that does not hold is named as such"),
    ("bad proof", NEW, "status", "402", "a mistake of the payer is no error of the server"),
    ("bad proof", NEW, "body/status", "402", "a mistake of the payer is no error of the server"),
    (
        "bad proof",
        NEW,
        "body/type",
        "\"https://paymentauth.org/problems/verification-failed\"",
        "a mistake of the payer is no error of the server",
    ),
];

/// Headers of the peer's HTTP client, not of the request.
const OF_THE_CLIENT: [&str; 8] = [
    "host",
    "connection",
    "accept",
    "accept-language",
    "sec-fetch-mode",
    "accept-encoding",
    "transfer-encoding",
    "content-length",
];

#[derive(Deserialize)]
struct File {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    request: Asked,
    response: Value,
    upstream_saw: Option<Value>,
}

#[derive(Deserialize)]
struct Asked {
    method: String,
    path: String,
    headers: Map<String, Value>,
    #[serde(default)]
    body: String,
}

fn cases(version: &str) -> Option<Vec<Case>> {
    let file = format!("proxy-live-mppx-{version}.json");
    let Some(folder) = env::var_os("MPP_VECTORS_DIR") else {
        eprintln!("MPP_VECTORS_DIR is not set: {file} is not run");
        return None;
    };
    let text = std::fs::read_to_string(Path::new(&folder).join(file)).unwrap();
    let File { cases } = serde_json::from_str(&text).unwrap();
    assert_eq!(cases.len(), 82);
    Some(cases)
}

fn proxy(echo: &Echo, rail: &Acme) -> ProxyBuilder {
    proxy_of(rail)
        .title("My Proxy")
        .description("Multi-service paid API proxy")
        .service(
            presets::openai("sk-up")
                .base_url(echo.url())
                .route(OpenAi::ChatCompletions, paid("0.50").description("Chat completion"))
                .route("GET /v1/models", Route::free()),
        )
        .service(presets::anthropic("sk-ant-up").base_url(echo.url()).route(Anthropic::Messages, paid("0.30")))
        .service(
            presets::stripe("sk_up")
                .base_url(echo.url())
                .route(Stripe::CreateCharge, paid("1.00"))
                .route(Stripe::Customer, Route::free()),
        )
        .service(
            tower_mpp::proxy::Service::new("my-api", format!("{}/base", echo.url()))
                .bearer("tok-up")
                .title("My API")
                .description("Example upstream API")
                .route("POST /v1/generate", paid("0.01"))
                .route("GET /v1/status", Route::free())
                .route("GET /v1/teapot", paid("0.01"))
                .route("GET /v1/items/:id", Route::free()),
        )
        .service(
            echo.service("hdr")
                .header("X-API-Key", "k")
                .header("X-Org-Id", "org-123")
                .route(
                    "POST /v1/query",
                    Route::paid_with(usd("0.02"), EndpointOptions::new().header("X-API-Key", "override")),
                )
                .route("GET /v1/free", Route::free()),
        )
}

/// One run over a recording.
struct Run {
    version: &'static str,
    echo: Echo,
    rail: Acme,
    proxy: Proxy,
    /// The proxy with a base path.
    based: Proxy,
    /// The credential of "paid ok".
    bought: Option<HeaderValue>,
    used: BTreeSet<usize>,
    unlisted: Vec<String>,
}

impl Run {
    async fn new(version: &'static str) -> Self {
        let (echo, rail) = (Echo::start().await, Acme::new());
        let main = proxy(&echo, &rail).build().unwrap();
        let based = proxy(&echo, &rail).base_path("/api/proxy").build().unwrap();
        Self { version, echo, rail, proxy: main, based, bought: None, used: BTreeSet::new(), unlisted: Vec::new() }
    }

    /// The request of a case. A recorded credential is for a challenge of the peer; ours is for one of ours.
    async fn ask(&mut self, case: &Case) -> Answer {
        let Asked { method, path, headers, body } = &case.request;
        let method: Method = method.parse().unwrap();
        let mut headers: Vec<(String, String)> =
            headers.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned())).collect();
        if let Some((_, value)) = headers.iter_mut().find(|(name, value)| name == "authorization" && value.len() > 100)
        {
            let credential = match &self.bought {
                Some(bought) if case.name.starts_with("replay") => bought.clone(),
                _ => {
                    let open = ask(&self.proxy, method.clone(), path, body).await;
                    let proof = if case.name == "bad proof" { "bad" } else { "ok" };
                    pay_with(&open, None, &json!({"proof": proof}))
                }
            };
            *value = credential.to_str().unwrap().to_owned();
            if case.name == "paid ok" {
                self.bought = Some(credential);
            }
        }
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let proxy = if case.name.starts_with("basePath") { &self.based } else { &self.proxy };
        call(proxy, request(method, path, &headers, body)).await
    }

    /// Every member in which we differ is in the table, and is what the table says.
    fn compare(&mut self, case: &Case, ours: &Value, theirs: &Value) {
        let mut names = BTreeSet::new();
        members(ours, theirs, "", &mut names);
        for name in names {
            let [ours, theirs] = [ours, theirs].map(|side| side.pointer(&format!("/{name}")).unwrap_or(&Value::Null));
            if ours == theirs {
                continue;
            }
            let entry = DIFFERENCES.iter().position(|(of, version, member, expected, _)| {
                let is_here = (*of == case.name || *of == ANY) && (*version == self.version || *version == BOTH);
                is_here && *member == name && serde_json::from_str::<Value>(expected).unwrap() == *ours
            });
            match entry {
                Some(entry) => drop(self.used.insert(entry)),
                None => {
                    self.unlisted
                        .push(format!("{} {}: {name}: ours is {ours}, theirs {theirs}", self.version, case.name));
                }
            }
        }
    }
}

/// The members that are compared one by one: those of members, where both sides have them.
fn members(ours: &Value, theirs: &Value, name: &str, names: &mut BTreeSet<String>) {
    let (Value::Object(ours), Value::Object(theirs)) = (ours, theirs) else {
        names.insert(name.to_owned());
        return;
    };
    for inner in ours.keys().chain(theirs.keys()) {
        let [ours, theirs] = [ours, theirs].map(|side| side.get(inner).unwrap_or(&Value::Null));
        members(ours, theirs, &if name.is_empty() { inner.clone() } else { format!("{name}/{inner}") }, names);
    }
}

/// What is compared of an answer: not the texts for people, and not what is another every time.
fn outcome(status: u16, headers: &HeaderMap, body: &str, upstream: Value) -> Value {
    let mut seen = Map::new();
    for name in ["content-type", "cache-control", "set-cookie", "x-up"] {
        seen.extend(headers.get(name).map(|value| (name.to_owned(), json!(value.to_str().unwrap()))));
    }
    if let Some(receipt) = headers.get("payment-receipt") {
        let receipt: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(receipt).unwrap()).unwrap();
        let told = json!({"method": receipt["method"], "reference": receipt["reference"], "status": receipt["status"]});
        seen.insert("payment-receipt".into(), told);
    }
    let challenge = headers.contains_key("www-authenticate").then(|| told(&challenge(headers)));
    let body = match serde_json::from_str::<Value>(body) {
        Ok(Value::Object(problem)) if problem.contains_key("title") => {
            json!({"type": problem["type"], "title": problem["title"], "status": problem["status"]})
        }
        _ => json!(body),
    };
    json!({"status": status, "headers": seen, "challenge": challenge, "body": body, "upstream": upstream})
}

fn told(challenge: &Challenge) -> Value {
    json!({
        "method": challenge.method.as_str(),
        "intent": challenge.intent.as_str(),
        "realm": challenge.realm,
        "request": challenge.request_as::<Value>().unwrap(),
        "expires": challenge.expires.is_some(),
        "digest": challenge.digest.is_some(),
        "opaque": challenge.opaque.is_some(),
    })
}

fn of_peer(case: &Case) -> Value {
    let mut headers = HeaderMap::new();
    for (name, value) in case.response["headers"].as_object().unwrap() {
        let value = value.as_str().unwrap_or_else(|| value[0].as_str().unwrap());
        headers.insert(name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap());
    }
    let mut upstream = case.upstream_saw.clone().unwrap_or(Value::Null);
    if let Some(headers) = upstream.get_mut("headers") {
        headers.as_object_mut().unwrap().retain(|name, _| !OF_THE_CLIENT.contains(&name.as_str()));
    }
    let status = case.response["status"].as_u64().unwrap().try_into().unwrap();
    outcome(status, &headers, case.response["body"].as_str().unwrap(), upstream)
}

fn of_ours(answer: &Answer, seen: Option<Seen>) -> Value {
    let upstream = seen.map_or(Value::Null, |seen| {
        let headers: Map<String, Value> = seen
            .headers
            .iter()
            .filter(|(name, _)| !OF_THE_CLIENT.contains(&name.as_str()))
            .map(|(name, value)| (name.to_string(), json!(value.to_str().unwrap())))
            .collect();
        let body = std::str::from_utf8(&seen.body).unwrap();
        json!({"method": seen.method.as_str(), "url": seen.target, "headers": headers, "body": body})
    });
    outcome(answer.status.as_u16(), &answer.headers, answer.text(), upstream)
}

/// Discovery is compared byte for byte where both have it; the newer peer has given most of it up.
fn is_discovery(case: &Case) -> bool {
    let path = case.request.path.strip_prefix("/api/proxy").unwrap_or(&case.request.path);
    path.starts_with("/discover") || path == "/llms.txt" || path == "/openapi.json"
}

#[tokio::test]
async fn routing_and_scrubbing_are_those_of_the_peer_or_better() {
    let mut used = BTreeSet::new();
    for version in [OLD, NEW] {
        let Some(cases) = cases(version) else { return };
        let mut run = Run::new(version).await;
        let mut compared = 0;
        for case in cases.iter().filter(|case| !is_discovery(case)) {
            let answer = run.ask(case).await;
            let mut seen = run.echo.take();
            assert!(seen.len() <= 1, "{}", case.name);
            run.compare(case, &of_ours(&answer, seen.pop()), &of_peer(case));
            compared += 1;
        }
        assert!(run.unlisted.is_empty(), "not in the table:\n{}", run.unlisted.join("\n"));
        assert_eq!((compared, run.rail.charges()), (25, 6), "{version}");
        used.extend(run.used);
    }
    for (index, difference) in DIFFERENCES.iter().enumerate() {
        assert!(used.contains(&index), "stale: {difference:?}");
    }
}

/// The documents of discovery as the older peer has them, byte for byte; the newer one has given most of them up.
#[tokio::test]
async fn discovery_is_that_of_the_older_peer_and_openapi_is_there_too() {
    let (Some(old), Some(new)) = (cases(OLD), cases(NEW)) else { return };
    let mut run = Run::new(OLD).await;
    let mut compared = 0;
    for (case, newer) in old.iter().zip(&new).filter(|(case, _)| is_discovery(case)) {
        let answer = run.ask(case).await;
        let status = answer.status.as_u16();
        compared += 1;
        if case.request.path == "/openapi.json" {
            // The older peer does not have it yet.
            assert_eq!((status, &newer.response["status"]), (200, &json!(200)));
            assert_eq!(answer.header("cache-control"), newer.response["headers"]["cache-control"].as_str());
            let theirs: Value = serde_json::from_str(newer.response["body"].as_str().unwrap()).unwrap();
            openapi_sells_the_same(&answer.json(), &theirs);
            continue;
        }
        let theirs = &case.response;
        assert_eq!(theirs["status"], status, "{}", case.name);
        assert_eq!(theirs["headers"]["content-type"].as_str(), answer.header("content-type"), "{}", case.name);
        assert_eq!(theirs["body"].as_str().unwrap(), answer.text(), "{}", case.name);
    }
    assert_eq!((compared, run.echo.take().len()), (57, 0));
}

/// Everything that is sold there is sold here, for the same offers.
fn openapi_sells_the_same(ours: &Value, theirs: &Value) {
    for (path, operations) in theirs["paths"].as_object().unwrap() {
        // The newer peer leaves `:id` in its paths, which is no template.
        let path = path.replace(":id", "{id}");
        for (method, theirs) in operations.as_object().unwrap() {
            let ours = &ours["paths"][&path][method];
            assert!(ours.is_object(), "{method} {path}");
            assert_eq!(ours["responses"].get("402").is_some(), theirs["responses"].get("402").is_some());
            let offers = |side: &Value| side["x-payment-info"]["offers"].as_array().cloned().unwrap_or_default();
            for (ours, theirs) in offers(ours).iter().zip(&offers(theirs)) {
                for name in ["amount", "currency", "intent", "method"] {
                    assert_eq!(ours[name], theirs[name], "{method} {path}");
                }
            }
            assert_eq!(offers(ours).len(), offers(theirs).len(), "{method} {path}");
        }
    }
}
