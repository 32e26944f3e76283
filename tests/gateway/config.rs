//! What can be wrong in the configuration, and how it is said.

use std::fs;

use crate::harness::{app, opened, settings, settings_with};

const ROUTE: &str = "[[routes]]\npath = \"/x\"\nprice = \"0.50\"\n";
const ADMIN_TOKEN: &str = "0123456789abcdef0123456789abcdef";
const SANDBOX: &str = "rails.sandbox = true\n";

/// The one line that says what is wrong.
#[track_caller]
fn refused(toml: &str) -> String {
    let error = settings(toml).err().unwrap_or_else(|| panic!("accepted: {toml}"));
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn misspelt_fields_are_refused_by_name() {
    for (toml, field, line) in [
        (format!("lisen = \"127.0.0.1:1\"\n{SANDBOX}{ROUTE}"), "lisen", 1),
        (format!("{SANDBOX}{ROUTE}prize = \"1.00\"\n"), "prize", 5),
        (format!("{SANDBOX}[upstream]\nurls = \"http://x\"\n{ROUTE}"), "urls", 3),
        (format!("[rails]\nsandbox = true\nstrip = {{}}\n{ROUTE}"), "strip", 3),
        (format!("[rails.stripe]\nsecret_key = \"sk_test_x\"\n{ROUTE}"), "secret_key", 2),
    ] {
        let error = refused(&toml);
        assert!(error.contains(&format!("unknown field `{field}`")), "{error}");
        assert!(error.starts_with(&format!("gateway.toml, line {line} ({field})")), "{error}");
    }
    let nested = refused(&format!("{SANDBOX}[upstream.headers]\nx = {{ env = \"A\", perfix = \"B\" }}\n{ROUTE}"));
    assert!(nested.starts_with("gateway.toml, line 3 (x): give a text, or { env = \"NAME\" }"), "{nested}");
}

/// A commented file with everything that is commented out, but for what begins with one of `others`.
pub fn uncommented(file: &str, others: &[&str]) -> String {
    let is_field =
        |line: &str| line.starts_with('[') || line.split_once(" = ").is_some_and(|(name, _)| !name.contains(' '));
    let field = |line| match str::strip_prefix(line, "# ") {
        Some(field) if others.iter().any(|name| field.starts_with(name)) => line,
        Some(field) if is_field(field) => field,
        _ => line,
    };
    file.lines().map(field).collect::<Vec<_>>().join("\n")
}

#[test]
fn every_field_of_the_commented_file_is_known() {
    let file = fs::read_to_string("examples/gateway/gateway.toml").unwrap();
    // As it is; and with everything that is commented out, but for other ways to say the same.
    const ALTERNATIVES: [&str; 10] = [
        "price = ",
        "free = ",
        "bind_body = ",
        "url_env = ",
        "url = \"postgres",
        "capacity = ",
        "token_file = ",
        "previous_keys = ",
        "encryption_key = ",
        "ledger_env = ",
    ];
    settings(&file).map(drop).unwrap();
    let all = uncommented(&file, &ALTERNATIVES);
    let environment = [
        ("STRIPE_SECRET_KEY", "sk_test_4eC39HqLyjWDarjtT1zdp7dc"),
        ("STRIPE_NETWORK_ID", "profile_test_1MqDcVKA5fEO2tZv"),
        ("ANTHROPIC_API_KEY", "a"),
        ("OPENAI_API_KEY", "b"),
        ("MY_ADMIN_TOKEN", ADMIN_TOKEN),
    ];
    let settings = settings_with(&all, &environment).unwrap();
    app(&settings, opened()).map(drop).unwrap();
}

#[test]
fn errors_name_the_field_and_what_to_do() {
    let with = |line: &str| format!("{line}\n{SANDBOX}{ROUTE}");
    let route = |fields: &str| format!("{SANDBOX}[[routes]]\n{fields}");
    for (toml, expected) in [
        (with("listen = \"8402\""), "gateway.toml: listen: \"8402\" is no address; write HOST:PORT"),
        (with("listen = \"0.0.0.0:80\""), "gateway.toml: realm: it is not set"),
        (with("realm = \"\""), "gateway.toml: realm: "),
        (with("realm = \"api.example.com\""), "gateway.toml: https: it is not set"),
        (with("https = \"always\""), "line 1 (https): unknown variant `always`"),
        (with("cors_origins = [\"https://a.example/\"]"), "gateway.toml: cors_origins: write origins"),
        (with("cors_origins = [\"*\", \"https://a.example\"]"), "gateway.toml: cors_origins: write origins"),
        (with("body_limit = 0"), "gateway.toml: body_limit: 0 is out of range"),
        (with("shutdown_secs = 0"), "gateway.toml: shutdown_secs: 0 seconds"),
        (with("currency = \"doubloons\""), "gateway.toml: routes[0].price: "),
        (with("listen = 8402"), "line 1 (listen): invalid type"),
        (with("listen = \"x"), "gateway.toml, line 1 (listen): "),
        (with("[upstream]\nurl = \"example.com\""), "gateway.toml, line"),
        (ROUTE.to_owned(), "gateway.toml: rails: there is none"),
        (SANDBOX.to_owned(), "gateway.toml: routes: there is none"),
        (route("path = \"/x\""), "gateway.toml: routes[0].price: give exactly one of"),
        (route("path = \"/x\"\nfree = true\nprice = \"1\""), "routes[0].price: give exactly one of"),
        (route("path = \"/x\"\nprice = \"0,50\""), "routes[0].price: price \"0,50\""),
        (route("path = \"/x\"\nprice = \"0.001\""), "routes[0].price: price \"0.001\""),
        (route("path = \"/x\"\nprice = \"0\""), "routes[0].price: a price of nothing"),
        (route("path = \"/x\"\nprice = 0.5"), "line 4 (price): invalid type"),
        (route("path = \"x\"\nfree = true"), "routes[0].path: \"x\" is no pattern"),
        (route("path = \"/:x\"\nfree = true"), "routes[0].path: \"/:x\" is no pattern"),
        (route("path = \"/{x\"\nfree = true"), "routes[0].path: /{x: "),
        (route("path = \"/health\"\nfree = true"), "routes[0].path: /health is the gateway's own"),
        (route("path = \"/x\"\nfree = true\nmethods = [\"get\"]"), "routes[0].methods: \"get\" is not one of"),
        (route("path = \"/x\"\nfree = true\nmethods = []"), "routes[0].methods: the list is empty"),
        (route("path = \"/x\"\nprice_by_model = {}"), "routes[0].price: give exactly one of"),
        (route("path = \"/x\"\nprice_by_model = { a = \"b\" }"), "routes[0].price_by_model.a: "),
        (route("path = \"/x\"\nprice_by_model = { a = \"1\" }\nbind_body = false"), "routes[0].bind_body: "),
        (format!("{SANDBOX}{ROUTE}{ROUTE}"), "routes[1].path: DELETE /x is there twice"),
        (
            format!(
                "{SANDBOX}[[routes]]\npath = \"/a/{{b}}\"\nfree = true\n[[routes]]\npath = \"/a/{{c}}\"\nfree = true"
            ),
            "routes[1].path: /a/{c} cannot be told apart from /a/{b}",
        ),
    ] {
        let error = refused(&toml);
        assert!(error.contains(expected), "expected {expected:?}, said {error:?}");
    }
    let upstream = |fields: &str| format!("{SANDBOX}{ROUTE}[upstream]\n{fields}");
    for (toml, expected) in [
        (upstream("url = \"example.com\""), "gateway.toml: upstream.url: \"example.com\": it is no absolute URL"),
        (upstream("url = \"http://x\"\nheaders = { x-api-key = \"sk-live\" }"), "upstream.headers.x-api-key: a secret"),
        (
            upstream("url = \"http://x\"\nheaders = { a = { env = \"NOT_SET\" } }"),
            "NOT_SET: the environment variable is not set",
        ),
        (
            upstream("url = \"http://x\"\nheaders = { connection = \"close\" }"),
            "upstream.headers.connection: this header",
        ),
        (
            upstream("url = \"http://x\"\nheaders = { payment-receipt = \"x\" }"),
            "upstream.headers.payment-receipt: this",
        ),
        (upstream("url = \"http://x\"\nidle_timeout_secs = 0"), "upstream.idle_timeout_secs: 0 seconds"),
        (
            upstream("url = \"http://x\"\nremove_headers = [\"a b\"]"),
            "upstream.remove_headers: \"a b\" is no header name",
        ),
    ] {
        let error = refused(&toml);
        assert!(error.contains(expected), "expected {expected:?}, said {error:?}");
        assert!(!error.contains("sk-live"), "{error}");
    }
}

#[test]
fn variables_that_cannot_be_used_are_named() {
    let file = format!("{SANDBOX}{ROUTE}");
    let key = ("STRIPE_SECRET_KEY", "sk_live_4eC39HqLyjWDarjtT1zdp7dc");
    let network = ("STRIPE_NETWORK_ID", "profile_1MqDcVKA5fEO2tZv");
    let stripe = format!("{file}[rails.stripe]\n");
    for (toml, variables, expected) in [
        (&file, vec![("GATEWAY_LISTEN", "here")], "GATEWAY_LISTEN: "),
        (&file, vec![("GATEWAY_LISTEN", "")], "GATEWAY_LISTEN: "),
        (&file, vec![("GATEWAY_REALM", "")], "GATEWAY_REALM: "),
        (&file, vec![("GATEWAY_DATA_DIR", "")], "GATEWAY_DATA_DIR: "),
        (&file, vec![("GATEWAY_UPSTREAM_URL", "example.com")], "GATEWAY_UPSTREAM_URL: "),
        (&file, vec![("MPP_SECRET_KEY", "hush")], "MPP_SECRET_KEY: "),
        (&file, vec![("MPP_SECRET_KEY", "0123456789abcdef0123456789abcdef,hush")], "MPP_SECRET_KEY: "),
        (&stripe, vec![], "STRIPE_SECRET_KEY: "),
        (&stripe, vec![key], "STRIPE_NETWORK_ID: "),
        (&stripe, vec![("STRIPE_SECRET_KEY", "hush"), network], "STRIPE_SECRET_KEY"),
        (&stripe, vec![key, network], "gateway.toml: rails.sandbox: play money would buy"),
    ] {
        let error = settings_with(toml, &variables).err().unwrap_or_else(|| panic!("accepted: {variables:?}"));
        assert!(error.contains(expected), "expected {expected:?}, said {error:?}");
        assert!(!error.contains("hush") && !error.contains("4eC39"), "{error}");
    }
}

#[test]
fn prices_that_nobody_can_pay_are_found_at_the_start() {
    let environment = [
        ("STRIPE_SECRET_KEY", "sk_test_4eC39HqLyjWDarjtT1zdp7dc"),
        ("STRIPE_NETWORK_ID", "profile_test_1MqDcVKA5fEO2tZv"),
    ];
    for (field, price) in [("price", "price = \"0.10\""), ("price_by_model.a", "price_by_model = { a = \"0.10\" }")] {
        let toml = format!("[rails.stripe]\n[[routes]]\npath = \"/x\"\n{price}\n");
        let settings = settings_with(&toml, &environment).unwrap();
        let error = app(&settings, opened()).map(drop).unwrap_err().to_string();
        assert!(error.contains(&format!("routes[0].{field}: ")), "{error}");
    }
}
