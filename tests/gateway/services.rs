//! Services: APIs of others, sold route by route, and told of as they are sold.

use std::{
    fs,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, extract::State, routing::any};
use http::{Method, StatusCode};
use serde_json::Value;

use crate::{
    config::uncommented,
    harness::{Gateway, app, gateway_with, opened, pay, settings, settings_with, upstream},
    proxy::recorder,
    support::{Answer, Server, challenges},
};

const FILE: &str = "examples/gateway/proxy.toml";
const SANDBOX: &str = "rails.sandbox = true\n";
const KEYS: [(&str, &str); 6] = [
    ("OPENAI_API_KEY", "sk-openai"),
    ("ANTHROPIC_API_KEY", "sk-ant"),
    ("ANTHROPIC_BATCH_KEY", "sk-ant-batch"),
    ("STRIPE_API_KEY", "sk_test_1"),
    ("MY_API_TOKEN", "token-1"),
    ("MPP_SECRET_KEY", crate::support::KEY),
];

/// One custom service with these fields and these routes.
fn service(upstream: SocketAddr, fields: &str, routes: &str) -> String {
    format!("[[services]]\nid = \"my-api\"\nurl = \"http://{upstream}/base\"\n{fields}\n[services.routes]\n{routes}\n")
}

/// What a 402 asks for: by method, the amount and the currency.
fn asked(answer: &Answer) -> Vec<(String, Value, Value)> {
    answer.assert_challenged("payment-required");
    let terms = |challenge: tower_mpp::protocol::Challenge| {
        let request: Value = challenge.request_as().unwrap();
        (challenge.method.to_string(), request["amount"].clone(), request["currency"].clone())
    };
    challenges(&answer.headers).into_iter().map(terms).collect()
}

#[test]
fn every_field_of_the_commented_file_is_known() {
    let file = fs::read_to_string(FILE).unwrap();
    let settings = settings_with(&file, &KEYS).unwrap();
    app(&settings, opened()).map(drop).unwrap();
    let all = uncommented(&file, &["price = ", "path = \"/v1/own\"", "[[routes]]"]);
    let settings = settings_with(&all, &KEYS).unwrap();
    app(&settings, opened()).map(drop).unwrap();
}

#[test]
fn errors_name_the_field_and_what_to_do() {
    let upstream: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let paid = "\"GET /a\" = { price = \"0.50\" }";
    let with = |fields: &str| format!("{SANDBOX}{}", service(upstream, fields, paid));
    let routed = |routes: &str| format!("{SANDBOX}{}", service(upstream, "", routes));
    let preset =
        |fields: &str| format!("{SANDBOX}[[services]]\npreset = \"openai\"\n{fields}\n[services.routes]\n{paid}\n");
    let beside = |route: &str| format!("{}[[routes]]\npath = \"{route}\"\nfree = true\n", with(""));
    for (toml, expected) in [
        (
            format!("{SANDBOX}[proxy]\nbase_path = \"/x\"\n"),
            "gateway.toml: services: there is none, but there is [proxy]",
        ),
        (format!("{}[proxy]\nbase_path = \"x/\"\n", with("")), "gateway.toml: proxy.base_path: write it with a slash"),
        (with("").replace("my-api", "a/b"), "gateway.toml: services[0].id: \"a/b\" cannot be the first part"),
        (with("").replace("my-api", "health"), "services[0].id: \"health\" is the gateway's own"),
        (with("").replace("my-api", "v1"), "services[0].id: \"v1\" is the gateway's own"),
        (with("").replace("my-api", "api"), "services[0].id: \"api\" is the gateway's own"),
        (with("").replace("my-api", "discover"), "gateway.toml: services: services.discover: "),
        (with("").replace("id = \"my-api\"\n", ""), "services[0].id: it is not set"),
        (with("").replace("url = ", "#"), "services[0].url: it is not set"),
        (with("").replace("http://", "ftp://"), "gateway.toml: services: service \"my-api\": upstream: "),
        (with("prize = 1"), "unknown field `prize`"),
        (with("bearer = \"sk-hush\""), "(bearer): write { env = \"NAME\" } or { file = \"PATH\" }"),
        (
            with("bearer = { env = \"NOT_SET\" }"),
            "NOT_SET: the environment variable is not set, but gateway.toml: services[0].bearer",
        ),
        (
            with("bearer = { file = \"nowhere.key\" }"),
            "nowhere.key: there is no such file, but gateway.toml: services[0].bearer",
        ),
        (with("api_key = { env = \"STRIPE\" }"), "services[0].api_key: only a preset knows where to put it"),
        (with("headers = { x-api-key = \"sk-hush\" }"), "services[0].headers.x-api-key: a secret does not belong"),
        (with("headers = { \"a b\" = \"c\" }"), "services[0].headers.a b: it is no header name"),
        (
            with("headers = { connection = \"close\" }"),
            "gateway.toml: services: service \"my-api\": route \"GET /a\": connection: ",
        ),
        (with("timeout_secs = 0"), "services[0].timeout_secs: 0 seconds"),
        (with("idle_timeout_secs = 7200"), "services[0].idle_timeout_secs: 7200 seconds"),
        (with("body_limit = 0"), "services[0].body_limit: 0 is out of range"),
        (with("currency = \"doubloons\""), "services[0].routes.\"GET /a\".price: "),
        (with("retry = { attempts = 1 }"), "services[0].retry.attempts: 1 attempts in all"),
        (with("retry = { pause_ms = 60000 }"), "services[0].retry.pause_ms: 60000 milliseconds"),
        (with("retry = { methods = [\"get\"] }"), "services[0].retry.methods: \"get\" is no method"),
        (with("retry = { statuses = [200] }"), "services[0].retry.statuses: 200 is no status of a failure"),
        (routed(""), "services[0].routes: there is none"),
        (routed("\"post /a\" = { free = true }"), "services[0].routes.\"post /a\": \"post\" is not one of"),
        (routed("\"GET a\" = { free = true }"), "services[0].routes.\"GET a\": write METHOD /path"),
        (routed("\"GET /a/{b}\" = { free = true }"), "services[0].routes.\"GET /a/{b}\": write METHOD /path"),
        (
            routed("\"GET /a/../b\" = { free = true }"),
            "gateway.toml: services: service \"my-api\": route \"GET /a/../b\"",
        ),
        (routed("\"GET /a\" = { price = \"0,50\" }"), "services[0].routes.\"GET /a\".price: price \"0,50\""),
        (routed("\"GET /a\" = {}"), "services[0].routes.\"GET /a\".price: give exactly one of"),
        (
            routed("\"GET /a\" = { price = \"1\", free = true }"),
            "services[0].routes.\"GET /a\".price: give exactly one of",
        ),
        (
            routed("\"GET /a\" = { free = true, api_key = { env = \"STRIPE\" } }"),
            "services[0].routes.\"GET /a\".api_key: only",
        ),
        (
            routed("\"POST /a\" = { price_by_model = { a = \"b\" } }"),
            "services[0].routes.\"POST /a\".price_by_model.a: ",
        ),
        (
            routed("\"POST /a\" = { price_by_model = { a = \"1\" }, bind_body = false }"),
            "services[0].routes.\"POST /a\".bind_body: a price by model",
        ),
        (routed("\"GET /a/:b\" = { free = true }\n\"GET /a/:c\" = { free = true }"), "every request for it matches"),
        (preset(""), "OPENAI_API_KEY: the environment variable is not set, but gateway.toml: services[0].api_key"),
        (preset("").replace("openai", "openay"), "unknown variant `openay`"),
        (format!("{}{}", with(""), service(upstream, "", paid)), "services[1].id: \"my-api\" is there twice"),
        (beside("/{*all}"), "routes[0].path: /{*all} would take what belongs to the service at /my-api"),
        (beside("/my-api/x"), "routes[0].path: /my-api/x would take what belongs to the service at /my-api"),
        (beside("/{any}/x"), "routes[0].path: /{any}/x would take what belongs to the service at /my-api"),
        (beside("/llms.txt"), "routes[0].path: /llms.txt is a document of discovery"),
        (beside("/discover/x"), "routes[0].path: /discover/x is a document of discovery"),
        (format!("{}[discovery]\ncategory = \"compute\"\n", with("")), "unknown field `category`"),
        (format!("{}[discovery]\nhomepage = \"a b\"\n", with("")), "gateway.toml: discovery: homepage: "),
    ] {
        let error = match settings(&toml) {
            Err(error) => error,
            Ok(settings) => app(&settings, opened()).err().unwrap_or_else(|| panic!("accepted: {toml}")).to_string(),
        };
        assert!(error.contains(expected), "expected {expected:?}, said {error:?}");
        assert!(error.lines().count() == 1 && !error.contains("hush"), "{error}");
    }
    // A narrow route beside the services is fine; and so are the documents' paths where there are none.
    settings(&beside("/{any}")).map(drop).unwrap();
    settings(&format!("{}[discovery]\nenabled = false\n", beside("/llms.txt"))).map(drop).unwrap();
}

#[tokio::test]
async fn a_service_is_paid_for_and_gets_our_credentials_and_never_those_of_the_client() {
    let (address, seen) = recorder(200, &[]).await;
    let toml = format!(
        "[[services]]\npreset = \"anthropic\"\nurl = \"http://{address}\"\napi_key = {{ env = \"UPSTREAM_KEY\" }}\nheaders = {{ anthropic-version = \"2023-06-01\" }}\n[services.routes]\n\"POST /v1/messages\" = {{ price = \"0.50\" }}\n\"GET /v1/models/:name\" = {{ free = true }}\n\"POST /v1/complete\" = {{ price = \"1.00\", api_key = {{ env = \"STRIPE\" }} }}\n"
    );
    let server = gateway_with(&toml, "").await;
    let (paid, _) = pay(&server, Method::POST, "/anthropic/v1/messages?beta=1", "{}").await;
    assert_eq!((paid.status, paid.text()), (StatusCode::OK, "from upstream"));
    assert_eq!(paid.header("cache-control"), Some("private"));
    paid.receipt();
    let own = [("x-api-key", "sk-of-the-client"), ("cookie", "a=b"), ("anthropic-version", "1999-01-01")];
    assert_eq!(server.send(Method::GET, "/anthropic/v1/models/a%20b", &own, "").await.status, 200);
    pay(&server, Method::POST, "/anthropic/v1/complete", "{}").await;
    for path in ["/anthropic/v1/models", "/anthropic", "/anthropic/", "/openai/v1/models", "/anthropic/v1/messages/x"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    let seen = seen.lock().unwrap();
    let called: Vec<_> = seen.iter().map(|(method, uri, ..)| (method.as_str(), uri.as_str())).collect();
    assert_eq!(called, [("POST", "/v1/messages?beta=1"), ("GET", "/v1/models/a%20b"), ("POST", "/v1/complete")]);
    for (index, key) in ["sk-upstream", "sk-upstream", crate::stripe::SECRET_KEY].into_iter().enumerate() {
        let headers = &seen[index].2;
        assert_eq!(headers["x-api-key"], key);
        assert_eq!(headers["anthropic-version"], "2023-06-01");
        assert!(!headers.contains_key("authorization") && !headers.contains_key("cookie"), "{headers:?}");
    }
}

#[tokio::test]
async fn what_is_told_is_what_is_asked_for() {
    let (address, _) = recorder(200, &[]).await;
    let models = "{ small = \"0.50\", large = \"1.50\" }";
    for base in ["", "/api/proxy"] {
        let proxy = if base.is_empty() { String::new() } else { format!("[proxy]\nbase_path = \"{base}\"\n") };
        let toml = format!(
            "{proxy}[discovery]\ntitle = \"Shop\"\ncategories = [\"compute\"]\n[upstream]\nurl = \"http://{address}\"\n{}",
            service(
                address,
                "title = \"Mine\"",
                &format!(
                    "\"POST /v1/x/:id\" = {{ price = \"0.75\", description = \"One x\" }}\n\"POST /v1/m\" = {{ price_by_model = {models} }}\n\"GET /v1/free\" = {{ free = true }}"
                ),
            )
        );
        let routes = format!(
            "[[routes]]\npath = \"/own/{{id}}/{{*rest}}\"\nmethods = [\"GET\"]\nprice = \"2.00\"\n[[routes]]\npath = \"/any\"\nprice = \"3.00\"\n[[routes]]\npath = \"/model\"\nmethods = [\"POST\"]\nprice_by_model = {models}\n"
        );
        let server = gateway_with(&toml, &routes).await;
        let openapi = server.get("/openapi.json").await;
        assert_eq!(openapi.header("content-type"), Some("application/json"));
        let openapi = openapi.json();
        let offers = |method: &str, path: &str| openapi["paths"][path][method]["x-payment-info"]["offers"].clone();
        let x = format!("{base}/my-api/v1/x");
        for (method, listed, path) in [
            (Method::POST, format!("{x}/{{id}}"), format!("{x}/7")),
            (Method::GET, "/any".to_owned(), "/any".to_owned()),
            (Method::DELETE, "/any".to_owned(), "/any".to_owned()),
        ] {
            let asked = asked(&server.send(method.clone(), &path, &[], "").await);
            let told = offers(&method.as_str().to_ascii_lowercase(), &listed);
            let told = told.as_array().unwrap_or_else(|| panic!("{listed}: {openapi}"));
            let told: Vec<_> = told
                .iter()
                .map(|offer| {
                    (offer["method"].as_str().unwrap().to_owned(), offer["amount"].clone(), offer["currency"].clone())
                })
                .collect();
            assert_eq!(told, asked, "{listed}");
        }
        // What the model decides is left open, and said in words.
        for (listed, path) in
            [(format!("{base}/my-api/v1/m"), format!("{base}/my-api/v1/m")), ("/model".into(), "/model".into())]
        {
            let told = offers("post", &listed);
            assert_eq!(told[0]["amount"], Value::Null, "{told}");
            assert!(told[0]["description"].as_str().unwrap().contains("by the model"), "{told}");
            let operation = &openapi["paths"][&listed]["post"];
            assert!(operation.to_string().contains("[\"large\",\"small\"]"), "{operation}");
            let asked = asked(&server.send(Method::POST, &path, &[], "{\"model\":\"large\"}").await);
            assert_eq!(asked[0].1, "150");
            let unknown = server.send(Method::POST, &path, &[], "{\"model\":\"other\"}").await;
            assert_eq!(unknown.status, 400, "before any challenge");
        }
        assert!(openapi["paths"][&format!("{base}/my-api/v1/free")]["get"].get("x-payment-info").is_none());
        // The rest of a path has a name of its own in OpenAPI.
        assert!(openapi["paths"].as_object().unwrap().keys().any(|path| path.starts_with("/own/{id}/")), "{openapi}");
        let llms = server.get("/llms.txt").await;
        assert!(llms.text().starts_with("# Shop") && llms.text().contains("Mine"), "{}", llms.text());
        let all = server.get("/discover").await.json();
        let ids: Vec<_> = all.as_array().unwrap().iter().map(|service| service["id"].as_str().unwrap()).collect();
        assert_eq!(ids, ["api", "my-api"], "{all}");
        if !base.is_empty() {
            let below = server.get(&format!("{base}/discover/my-api")).await;
            assert_eq!(below.status, 200);
            assert!(below.text().contains("/v1/x/:id"), "{}", below.text());
            assert_eq!(server.get(&format!("{base}/discover/api")).await.status, 404);
        }
    }
}

#[tokio::test]
async fn discovery_that_is_off_is_like_any_other_path() {
    let (address, _) = recorder(200, &[]).await;
    let toml = format!("[discovery]\nenabled = false\n{}", service(address, "", "\"GET /a\" = { free = true }"));
    let server = gateway_with(&toml, "").await;
    for path in ["/llms.txt", "/openapi.json", "/discover", "/discover/my-api", "/discover/all.md"] {
        assert_eq!(server.get(path).await.status, 404, "{path}");
    }
    assert_eq!(server.get("/my-api/a").await.status, 200);
}

/// Fails so many times, and counts how often it is asked.
async fn failing(failures: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let answer = move |State(asked): State<Arc<AtomicUsize>>| async move {
        match asked.fetch_add(1, Ordering::SeqCst) {
            turn if turn < failures => (StatusCode::SERVICE_UNAVAILABLE, "later"),
            _ => (StatusCode::OK, "at last"),
        }
    };
    (upstream(Router::new().fallback(any(answer)).with_state(Arc::clone(&asked))).await, asked)
}

#[tokio::test]
async fn an_upstream_is_asked_again_where_that_is_configured_and_nothing_is_charged_again() {
    let routes = "\"GET /a\" = { price = \"0.50\" }\n\"POST /a\" = { price = \"0.50\" }";
    let (address, calls) = failing(2).await;
    let server = gateway_with(&service(address, "retry = { pause_ms = 1 }", routes), "").await;
    let (paid, credential) = pay(&server, Method::GET, "/my-api/a", "").await;
    assert_eq!((paid.status, paid.text()), (StatusCode::OK, "at last"));
    assert_eq!(calls.load(Ordering::SeqCst), 3);
    // One payment, and it is used up.
    paid.receipt();
    assert_eq!(server.get_paid("/my-api/a", &credential).await.status, 403);
    assert_eq!(calls.load(Ordering::SeqCst), 3);

    for (method, fields, asked) in [
        (Method::POST, "retry = { pause_ms = 1 }", 1),
        (Method::GET, "", 1),
        (Method::GET, "retry = { attempts = 2, pause_ms = 1 }", 2),
    ] {
        let (address, calls) = failing(9).await;
        let server = gateway_with(&service(address, fields, routes), "").await;
        let (paid, _) = pay(&server, method, "/my-api/a", "").await;
        assert_eq!((paid.status.as_u16(), calls.load(Ordering::SeqCst)), (503, asked), "{fields}");
        assert!(!paid.headers.contains_key("payment-receipt"), "{paid:?}");
    }
}

#[tokio::test]
async fn services_come_go_and_change_their_keys_without_a_restart() {
    let (address, seen) = recorder(200, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("upstream.key");
    let write_key = |text: &str| {
        fs::write(&key, text).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    };
    write_key("key-1\n");
    let one = service(address, "bearer = { file = \"upstream.key\" }", "\"GET /a\" = { free = true }");
    let first = format!("{SANDBOX}{one}");
    let gateway = Gateway::configured(folder, &first, &[]).await;
    let client: Server = gateway.client();
    assert_eq!(client.get("/my-api/a").await.status, 200);
    assert_eq!(client.get("/other/b").await.status, 404);

    write_key("key-2\n");
    let two = one.replace("my-api", "other").replace("/a", "/b");
    fs::write(gateway.folder.path().join("gateway.toml"), format!("{first}{two}")).unwrap();
    gateway.signal("HUP").await;
    gateway.said("changed=\"services[1]\"").await;
    assert_eq!(
        (client.get("/my-api/a").await.status, client.get("/other/b").await.status),
        (StatusCode::OK, StatusCode::OK)
    );
    let told = client.get("/discover").await.json();
    assert!(told.to_string().contains("/other/b") || told.to_string().contains("\"other\""), "{told}");

    // The file is the same, and what it names is not.
    write_key("key-3\n");
    gateway.signal("HUP").await;
    gateway.said("what it names was read again").await;
    assert_eq!(client.get("/my-api/a").await.status, 200);
    let sent: Vec<_> = seen.lock().unwrap().iter().map(|(_, _, headers, _)| headers["authorization"].clone()).collect();
    assert_eq!(sent, ["Bearer key-1", "Bearer key-2", "Bearer key-2", "Bearer key-3"]);

    let (ended, _) = gateway.stop().await;
    assert!(ended.stdout.contains("services.my-api  live"), "{}", ended.stdout);
    for secret in ["key-1", "key-2", "key-3"] {
        assert!(!ended.stdout.contains(secret) && !ended.stderr.contains(secret));
    }
}
