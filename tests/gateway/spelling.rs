//! The price of a route does not depend on how its path is spelled.

use http::Method;

use crate::{
    harness::{gateway, pay},
    proxy::recorder,
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
        "[[routes]]\npath = \"/m\"\nprice_by_model = {{ cheap = \"0.01\", dear = \"1.00\" }}\n[[services]]\nid = \"svc\"\nupstream = \"http://{address}\"\n[services.routes]\n\"POST /m\" = {{ price_by_model = {{ cheap = \"0.01\", dear = \"1.00\" }} }}\n"
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
