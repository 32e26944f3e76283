//! What the operator can ask, and who is not the operator.

use http::Method;

use crate::{
    harness::{gateway_of, gateway_with, opened, settings, settings_with},
    proxy::recorder,
    support::{Answer, Server},
};

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// Everything there is, also what is called like the operator's.
const ALL: &str = "[[routes]]\npath = \"/{*path}\"\nprice = \"0.50\"\n";

/// A request of somebody who says to be the operator.
pub async fn ask(server: &Server, method: Method, path: &str, authorization: &str) -> Answer {
    server.send(method, path, &[("authorization", authorization)], "").await
}

pub async fn ask_as_operator(server: &Server, method: Method, path: &str) -> Answer {
    ask(server, method, path, &format!("Bearer {TOKEN}")).await
}

#[tokio::test]
async fn who_has_no_token_learns_nothing() {
    let (upstream, seen) = recorder(200, &[]).await;
    let mut opened = opened();
    opened.admin = Some(TOKEN.to_owned().into());
    let server = gateway_of(&format!("[admin]\n[upstream]\nurl = \"http://{upstream}\"\n"), ALL, opened).await;
    let refunds = format!("/admin/refunds/{}", "A".repeat(43));
    let paths = ["/admin", "/admin/", "/admin/status", "/admin/payments/unfulfilled", "/admin/nothing", &refunds];
    for path in paths {
        for authorization in [
            None,
            Some(""),
            Some("Bearer"),
            Some("Bearer "),
            Some("Bearer wrong"),
            Some(&*format!("Bearer {TOKEN}x")),
            Some(&*format!("Bearer {}", &TOKEN[1..])),
            Some(&*format!("Basic {TOKEN}")),
            Some(TOKEN),
        ] {
            for method in [Method::GET, Method::POST, Method::DELETE] {
                let headers: Vec<_> = authorization.iter().map(|value| ("authorization", *value)).collect();
                let refused = server.send(method, path, &headers, "").await;
                assert_eq!(refused.status, 401, "{path} {authorization:?}");
                assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
                assert_eq!(refused.header("cache-control"), Some("no-store"));
                assert_eq!(refused.problem(), "about:blank");
            }
        }
        let twice = [("authorization", "Bearer x"), ("authorization", &*format!("Bearer {TOKEN}"))];
        assert_eq!(server.send(Method::GET, path, &twice, "").await.status, 401);
    }
    // Who has it is neither charged nor passed on, whatever it asks for.
    for (method, path, expected) in [
        (Method::GET, "/admin", 404),
        (Method::GET, "/admin/", 404),
        (Method::GET, "/admin/nothing", 404),
        (Method::POST, "/admin/status", 405),
        (Method::GET, &*refunds, 405),
        (Method::GET, "/admin/status", 200),
    ] {
        let answer = ask_as_operator(&server, method, path).await;
        assert_eq!(answer.status, expected, "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        answer.assert_no_challenge();
    }
    assert!(seen.lock().unwrap().is_empty());
    server.get("/administrators").await.assert_challenged("payment-required");
}

#[tokio::test]
async fn without_an_operator_there_is_nothing_of_the_kind() {
    let (upstream, _) = recorder(200, &[]).await;
    let server = gateway_with(&format!("[upstream]\nurl = \"http://{upstream}\"\n"), ALL).await;
    let answer = ask_as_operator(&server, Method::GET, "/admin/status").await;
    answer.assert_challenged("payment-required");
    let sold = "[[routes]]\npath = \"/sold\"\nprice = \"0.50\"\n";
    let server = gateway_with(&format!("[upstream]\nurl = \"http://{upstream}\"\n"), sold).await;
    assert_eq!(ask_as_operator(&server, Method::GET, "/admin/status").await.status, 404);
}

#[test]
fn a_token_that_cannot_be_used_is_named() {
    let with = |lines: &str| format!("rails.sandbox = true\n{lines}\n[[routes]]\npath = \"/admin/x\"\nfree = true\n");
    assert!(settings(&with("")).is_ok());
    for (lines, variables, expected) in [
        ("[admin]", &[][..], "gateway.toml: routes[0].path: /admin is the gateway's own"),
        ("[admin]\ntoken = \"x\"", &[], "unknown field `token`"),
        ("[admin]\ntoken_env = \"X\"\ntoken_file = \"x\"", &[], "gateway.toml: admin: give token_env or token_file"),
        ("[admin]\ntoken_env = \"NOT_SET\"", &[], "NOT_SET: the environment variable is not set"),
        ("", &[("GATEWAY_ADMIN_TOKEN", TOKEN)], "/admin is the gateway's own"),
    ] {
        let error = settings_with(&with(lines), variables).err().unwrap_or_else(|| panic!("accepted: {lines}"));
        assert!(error.contains(expected) && !error.contains(TOKEN), "expected {expected:?}, said {error:?}");
    }
}
