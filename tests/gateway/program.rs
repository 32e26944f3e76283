//! The gateway as people start it.

use std::{fs, os::unix::fs::PermissionsExt as _};

use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    harness::{Ended, Gateway, agent},
    programs::{command, run},
};

const CALL: &str = r#"{"model":"demo-fast","messages":[{"role":"user","content":"Hello there"}]}"#;

/// Starts a gateway that must not start; gives its one line.
async fn refused(folder: &TempDir, variables: &[(&str, &str)], arguments: &[&str]) -> String {
    let mut command = command("gateway", folder.path());
    command.envs(variables.iter().copied()).env("RUST_LOG", "off").args(arguments);
    let Ended { status, stdout, stderr } = run(command).await;
    assert!(!status.success());
    assert_eq!(stdout, "", "nothing was listening");
    assert!(!stderr.contains("panicked"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

fn mode(folder: &TempDir, name: &str) -> u32 {
    fs::metadata(folder.path().join(name)).unwrap().permissions().mode() & 0o777
}

#[tokio::test]
async fn without_anything_it_sells_a_demo_that_the_agent_buys() {
    let gateway = Gateway::start().await;
    let mut stream = gateway.connect().await;
    let request = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{CALL}",
        CALL.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 402 Payment Required\r\n"), "{answer}");
    assert!(answer.contains("\r\nwww-authenticate: Payment id="), "{answer}");

    let folder = tempfile::tempdir().unwrap();
    let url = gateway.url("/v1/messages");
    let paid = agent(folder.path(), &["--key", "payer.key", "-d", CALL, &url]).await;
    assert!(paid.status.success(), "{paid:?}");
    let message: Value = serde_json::from_str(&paid.stdout).unwrap();
    assert_eq!((&message["type"], &message["role"]), (&"message".into(), &"assistant".into()));
    assert!(message["content"][0]["text"].as_str().unwrap().contains("You said: Hello there"));
    for step in [
        "402 Payment Required",
        "0.50 USD by sandbox/charge",
        "the digest is right",
        "paying 0.50 USD as did:key:z6Mk",
        "200 OK",
        "receipt: sandbox_",
    ] {
        assert!(paid.stderr.contains(step), "{step}: {}", paid.stderr);
    }
    let models = agent(folder.path(), &[&gateway.url("/v1/models")]).await;
    assert!(models.stdout.contains("demo-deep") && models.stderr.contains("nothing to pay"), "{models:?}");

    // It said how to do just that; and nothing secret, however much was logged.
    let payer = fs::read_to_string(folder.path().join("payer.key")).unwrap();
    let (ended, data) = gateway.stop().await;
    let key = fs::read_to_string(data.path().join("data/challenge.key")).unwrap();
    assert!(
        ended.stdout.contains("TEST MODE") && ended.stdout.contains("data/payments.db (SQLite)"),
        "{}",
        ended.stdout
    );
    assert!(
        ended.stdout.contains("  curl -i -d '{\"model\":\"demo-fast\"") && ended.stdout.contains("--example agent"),
        "{}",
        ended.stdout
    );
    assert!(ended.stderr.contains("settled"), "{}", ended.stderr);
    for said in [&ended.stdout, &ended.stderr, &paid.stdout, &paid.stderr] {
        assert!(!said.contains(key.trim()) && !said.contains(payer.trim()) && !said.contains("Payment ey"), "{said}");
    }
    assert_eq!((mode(&data, "data"), mode(&data, "data/challenge.key")), (0o700, 0o600));
    assert_eq!(folder.path().join("payer.key").metadata().unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_streamed_answer_has_the_events_of_the_messages_api() {
    let gateway = Gateway::start().await;
    let folder = tempfile::tempdir().unwrap();
    let body = CALL.replacen('{', r#"{"stream":true,"#, 1);
    let paid = agent(folder.path(), &["-d", &body, &gateway.url("/v1/messages")]).await;
    let mut names = Vec::new();
    // The last one is the layer's own.
    let (message, closing) = paid.stdout.trim_end().rsplit_once("\n\n").unwrap();
    assert!(
        closing.starts_with(
            "event: payment-receipt\ndata: {\"type\":\"payment-receipt\",\"receiptUrl\":\"http://127.0.0.1:"
        ),
        "{closing}"
    );
    assert!(paid.stderr.contains("  signed receipt: http://127.0.0.1:"), "{}", paid.stderr);
    for event in message.split("\n\n") {
        let (name, data) = event.split_once('\n').unwrap();
        let data: Value = serde_json::from_str(data.strip_prefix("data: ").unwrap()).unwrap();
        assert_eq!(name.strip_prefix("event: ").unwrap(), data["type"]);
        names.push(data["type"].as_str().unwrap().to_owned());
    }
    names.dedup();
    let expected = [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ];
    assert_eq!(names, expected);
}

#[tokio::test]
async fn the_key_outlives_the_process() {
    let (_, folder) = Gateway::start().await.stop().await;
    let before = fs::read(folder.path().join("data/challenge.key")).unwrap();
    let (_, folder) = Gateway::start_with(folder, &[]).await.stop().await;
    assert_eq!(fs::read(folder.path().join("data/challenge.key")).unwrap(), before);
    // With a key from outside none is kept.
    let variables = [("MPP_SECRET_KEY", crate::support::KEY), ("GATEWAY_DATA_DIR", "other")];
    let (ended, folder) = Gateway::start_with(folder, &variables).await.stop().await;
    assert!(!folder.path().join("other/challenge.key").exists());
    assert!(!ended.stderr.contains(crate::support::KEY) && !ended.stdout.contains(crate::support::KEY));
}

#[tokio::test]
async fn many_that_start_at_once_make_one_key() {
    let folder = tempfile::tempdir().unwrap();
    let starts = (0..8).map(|_| {
        let mut command = command("gateway", folder.path());
        // The port cannot be had: it is over as soon as the key is there.
        command.env("GATEWAY_LISTEN", "192.0.2.1:1").env("GATEWAY_REALM", "localhost");
        run(command)
    });
    futures_util::future::join_all(starts).await;
    let files: Vec<_> =
        fs::read_dir(folder.path().join("data")).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert_eq!(files, ["challenge.key"]);
    assert_eq!(fs::read_to_string(folder.path().join("data/challenge.key")).unwrap().trim().len(), 43);
}

#[tokio::test]
async fn keys_that_others_can_read_are_refused() {
    let (_, folder) = Gateway::start().await.stop().await;
    let set =
        |name: &str, mode| fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(mode)).unwrap();
    for check in [&[][..], &["--check"]] {
        set("data/challenge.key", 0o640);
        let said = refused(&folder, &[], check).await;
        assert!(said.contains("chmod 600 data/challenge.key"), "{said}");
        set("data/challenge.key", 0o600);
        set("data", 0o755);
        let said = refused(&folder, &[], check).await;
        assert!(said.contains("chmod 700 data"), "{said}");
        set("data", 0o700);
    }
    fs::write(folder.path().join("data/challenge.key"), "short\n").unwrap();
    let said = refused(&folder, &[], &[]).await;
    assert!(said.contains("no usable key") && !said.contains("short"), "{said}");
}

#[tokio::test]
async fn what_cannot_be_used_ends_it_before_it_listens() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    fs::write(folder.path().join("gateway.toml"), "lisen = \"127.0.0.1:0\"\n").unwrap();
    for (variables, arguments, expected) in [
        (&[("GATEWAY_LISTEN", taken.as_str())][..], &[][..], taken.as_str()),
        (&[("GATEWAY_LISTEN", "8402")], &[], "GATEWAY_LISTEN"),
        (&[("MPP_SECRET_KEY", "hush")], &[], "MPP_SECRET_KEY"),
        (&[("STRIPE_SECRET_KEY", "sk_test_4eC39HqLyjWDarjtT1zdp7dc")], &[], "STRIPE_NETWORK_ID"),
        (&[("STRIPE_NETWORK_ID", "profile_test_1")], &[], "STRIPE_SECRET_KEY"),
        (&[("GATEWAY_UPSTREAM_URL", "ftp://x")], &[], "GATEWAY_UPSTREAM_URL"),
        (&[("GATEWAY_CONFIG", "")], &[], "GATEWAY_CONFIG"),
        (&[("GATEWAY_CONFIG", "missing.toml")], &[], "missing.toml"),
        (&[("RUST_LOG", "=[")], &[], "RUST_LOG"),
        (&[], &["--config", "gateway.toml"], "unknown field `lisen`"),
        (&[], &["--config", "gateway.toml", "--check"], "unknown field `lisen`"),
        (&[("GATEWAY_DATA_DIR", "gateway.toml")], &[], "gateway.toml"),
    ] {
        let mut command = command("gateway", folder.path());
        command.env("RUST_LOG", "off").envs(variables.iter().copied()).args(arguments);
        let Ended { status, stdout, stderr } = run(command).await;
        assert!(!status.success() && stdout.is_empty(), "{expected}: {stdout}");
        assert!(stderr.contains(expected) && stderr.lines().count() == 1, "{expected}: {stderr}");
        assert!(!stderr.contains("panicked") && !stderr.contains("hush"), "{stderr}");
    }
}

#[tokio::test]
async fn a_configuration_can_be_checked_without_leaving_anything_behind() {
    let folder = tempfile::tempdir().unwrap();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/gateway/gateway.toml");
    let mut command = command("gateway", folder.path());
    command.args(["--config", file, "--check"]);
    let checked = run(command).await;
    assert!(checked.status.success(), "{checked:?}");
    assert!(checked.stdout.starts_with("the configuration is good: 2 routes\n\n"), "{}", checked.stdout);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn an_upstream_by_its_address_alone_is_sold_whole() {
    let (address, _) = crate::proxy::recorder(200, &[]).await;
    let upstream = format!("http://{address}");
    let gateway =
        Gateway::start_with(tempfile::tempdir().unwrap(), &[("GATEWAY_UPSTREAM_URL", upstream.as_str())]).await;
    let folder = tempfile::tempdir().unwrap();
    for path in ["/", "/any/thing?at=all"] {
        let paid = agent(folder.path(), &[&gateway.url(path)]).await;
        assert_eq!(paid.stdout, "from upstream", "{paid:?}");
        assert!(paid.stderr.contains("paying 0.50 USD"), "{paid:?}");
    }
}
