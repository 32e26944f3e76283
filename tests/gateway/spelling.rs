//! The price of a route does not depend on how its path is spelled.

use http::Method;
use proptest::prelude::*;

use crate::{
    harness::{gateway, pay},
    proxy::recorder,
    respelled::{normalised, paths, steps},
    support::challenge,
};

const ROUTES: &str = r#"
[[routes]]
path = "/v1/messages"
methods = ["POST"]
price = "0.50"

[[routes]]
path = "/v1/items/{id}"
price = "0.50"

[[routes]]
path = "/v1/whole/{*rest}"
price = "0.50"

[[routes]]
path = "/v1/a%20b/"
price = "0.50"

[[routes]]
path = "/v1/pair"
price = "0.50"

[[routes]]
path = "/v1/pair/"
free = true

[[routes]]
path = "/v1/{name}"
price = "0.01"

[[routes]]
path = "/{*path}"
free = true
"#;

#[tokio::test]
async fn the_catch_all_does_not_get_a_paid_path_in_another_spelling() {
    let (address, seen) = recorder(200, &[]).await;
    let server = gateway(address, ROUTES).await;
    for path in [
        "/v1/%6dessages",
        "/v1/%256dessages",
        "/v1/messages/",
        "/v1//messages",
        "//v1/messages",
        "/v1/messages;x",
        "/v1/messages.json",
        "/v1/messages%3Fx",
        "/v1/messages%20",
        "/v1/Messages",
        "/V1/messages",
        "/v1%2Fmessages",
        "/v1/items//a",
        "/v1/items/a/",
        "/v1/Items/a",
        "/v1/it%65ms/a",
        "/v1%2fitems%2fa",
        "/v1/a%20b",
        "/V1/whole/a/b",
        "/v1/%77hole/a/b",
        "/v1/whole",
        "/v1/cheap/",
    ] {
        let answer = server.send(Method::POST, path, &[], "{}").await;
        assert_eq!(answer.status, 404, "{path}");
        answer.assert_no_challenge();
    }
    assert!(seen.lock().unwrap().is_empty());
}

#[tokio::test]
async fn plain_paths_and_those_that_nobody_reads_as_paid_ones_pass() {
    let (address, seen) = recorder(200, &[]).await;
    let server = gateway(address, ROUTES).await;
    for path in ["/v1/messages", "/v1/items/a%20b;c.d", "/v1/items/a%2Fb", "/v1/whole/a//b", "/v1/a%20b/", "/v1/cheap"]
    {
        assert_eq!(pay(&server, Method::POST, path, "{}").await.0.status, 200, "{path}");
    }
    for path in ["/v1/pair/", "/v2/%6dessages/", "/v1/b/c/", "/"] {
        let answer = server.send(Method::POST, path, &[], "{}").await;
        assert_eq!(answer.status, if path == "/" { 404 } else { 200 }, "{path}");
    }
    assert_eq!(seen.lock().unwrap().len(), 9);
}

#[tokio::test]
async fn a_form_by_accident_is_json_on_a_route_and_refused_by_a_service() {
    let (address, seen) = recorder(200, &[]).await;
    let routes = format!(
        "[[routes]]\npath = \"/m\"\nprice_by_model = {{ cheap = \"0.01\", dear = \"1.00\" }}\n[[services]]\nid = \"svc\"\nurl = \"http://{address}\"\n[services.routes]\n\"POST /m\" = {{ price_by_model = {{ cheap = \"0.01\", dear = \"1.00\" }} }}\n"
    );
    let server = gateway(address, &routes).await;
    // What `curl -d` says of every body.
    let form = [("content-type", "application/x-www-form-urlencoded")];
    let body = r#"{"model":"cheap","x":"&model=dear&y="}"#;
    server.send(Method::POST, "/m", &form, body).await.assert_challenged("payment-required");
    let refused = server.send(Method::POST, "/svc/m", &form, body).await;
    assert_eq!(refused.status, 415);
    refused.assert_no_challenge();
    for path in ["/m", "/svc/m"] {
        assert_eq!(pay(&server, Method::POST, path, body).await.0.status, 200);
        assert_eq!(seen.lock().unwrap().pop().unwrap().2["content-type"], "application/json", "{path}");
    }
}

fn is_paid_for(path: &str) -> bool {
    match path.split('/').skip(1).collect::<Vec<_>>()[..] {
        ["x"] | ["v1", "generate"] | ["v1", "named", "dear"] | ["v1", "whole", _, ..] => true,
        ["v1", "items", id] => !id.is_empty(),
        _ => false,
    }
}

#[test]
fn no_reading_of_a_path_is_cheaper_than_its_plain_spelling() {
    let paid = ["/x", "/v1/generate", "/v1/named/dear", "/v1/items/{id}", "/v1/whole/{*rest}"];
    let paid = paid.map(|path| format!("[[routes]]\npath = \"{path}\"\nprice = \"0.50\"\n")).concat();
    let other =
        "[[routes]]\npath = \"/v1/named/{name}\"\nprice = \"0.01\"\n[[routes]]\npath = \"/{*path}\"\nfree = true\n";
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (address, seen) = runtime.block_on(recorder(200, &[]));
    let server = runtime.block_on(gateway(address, &(paid + other)));
    let read_as_paid = std::cell::Cell::new(0);
    let property = |(path, steps): (String, Vec<u8>)| {
        if !(0..=steps.len()).any(|done| is_paid_for(&normalised(&path, &steps[..done]))) {
            return Ok(());
        }
        read_as_paid.set(read_as_paid.get() + 1);
        let answer = runtime.block_on(server.get(&path));
        let asked = std::mem::take(&mut *seen.lock().unwrap());
        match answer.status.as_u16() {
            400 | 404 => {}
            402 => {
                let request: serde_json::Value = challenge(&answer.headers).request_as().unwrap();
                prop_assert_eq!(&request["amount"], "50", "{}", path);
            }
            status => prop_assert!(false, "{} was answered {}", path, status),
        }
        prop_assert!(asked.is_empty(), "{}", path);
        Ok(())
    };
    let config = ProptestConfig { cases: 10_000, failure_persistence: None, ..ProptestConfig::default() };
    proptest::test_runner::TestRunner::new(config).run(&(paths(), steps()), property).unwrap();
    assert!(read_as_paid.get() > 500, "{} paths only", read_as_paid.get());
}
