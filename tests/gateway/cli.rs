//! The command line, which wins over the environment and the file.

use std::{fs, process::Stdio};

use tempfile::TempDir;
use tokio::process::Command;

use crate::programs::{Ended, Running, command, run};

const FILE: &str = "listen = \"127.0.0.1:1\"\ndata_dir = \"of-file\"\nrails.sandbox = true\n[[routes]]\npath = \"/a\"\nprice = \"0.50\"\n";

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("gateway.toml"), FILE).unwrap();
    folder
}

/// What the program says when it does not start.
async fn refused(folder: &TempDir, arguments: &[&str]) -> String {
    let mut command = command("gateway", folder.path());
    command.env("RUST_LOG", "off").env("GATEWAY_REALM", "localhost").args(arguments);
    let Ended { status, stdout, stderr } = run(command).await;
    assert!(status.code() == Some(1) && stdout.is_empty(), "{stdout} {stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    stderr
}

#[tokio::test]
async fn it_wins_over_the_environment_and_the_file_also_after_a_reload() {
    let folder = folder();
    let mut command = command("gateway", folder.path());
    command
        .args(["--config", "gateway.toml", "--addr", "localhost:0", "--data", "of-command-line"])
        .env("GATEWAY_LISTEN", "127.0.0.1:2")
        .env("GATEWAY_DATA_DIR", "of-environment");
    let gateway = Running::start(command, "listening on http://").await;
    assert!(gateway.address.ip().is_loopback());
    let files: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
    assert!(files.contains(&"of-command-line".into()) && files.len() == 2, "{files:?}");
    assert!(folder.path().join("of-command-line/payments.db").is_file());

    // What the file says of it is not heard, and so needs no restart.
    fs::write(folder.path().join("gateway.toml"), FILE.replace(":1", ":3").replace("of-file", "other")).unwrap();
    gateway.signal("HUP").await;
    gateway.said("reloaded file=gateway.toml changed=\"data_dir, listen\"").await;
    assert_eq!(gateway.stop().await.status.code(), Some(0));
}

#[tokio::test]
async fn what_cannot_be_used_is_named_by_its_option() {
    let folder = folder();
    for (arguments, expected) in [
        (&["--addr", "8402"][..], "--addr: \"8402\" is no address; write HOST:PORT"),
        (&["--addr", ""], "--addr: \"\" is no address"),
        (&["--addr", "1.2.3:80"], "--addr: \"1.2.3:80\" is no address"),
        (&["--addr", "192.0.2.1:1"], "--addr (192.0.2.1:1): "),
        (&["--addr", "nobody.invalid:1"], "--addr (nobody.invalid:1): "),
        (&["--data", "gateway.toml"], "gateway.toml"),
        (&["--config", "missing.toml"], "missing.toml: cannot be read"),
    ] {
        let said = refused(&folder, arguments).await;
        assert!(said.contains(expected), "{arguments:?}: {said}");
    }
    let mut empty = command("gateway", folder.path());
    empty.args(["--data", ""]);
    let said = run(empty).await;
    assert!(said.status.code() == Some(2) && said.stderr.contains("--data <DIR>"), "{said:?}");
    // Beyond this machine a public name is needed, whoever says so.
    let mut command = command("gateway", folder.path());
    command.env("RUST_LOG", "off").args(["--addr", "gateway.example:80", "--check"]);
    let said = run(command).await.stderr;
    assert!(said.contains("realm: it is not set"), "{said}");
}

#[tokio::test]
async fn a_hangup_without_a_file_ends_it_as_it_ends_any_program() {
    let folder = tempfile::tempdir().unwrap();
    let plain = command("gateway", folder.path());
    let plain = plain.as_std();
    // Whoever runs the tests may ignore the signal, as nohup does, and what he starts then would too.
    let mut command = Command::new("/usr/bin/env");
    command.env_clear().current_dir(folder.path()).kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.arg("--default-signal=HUP").arg(plain.get_program());
    command.args(["--addr", "127.0.0.1:0", "--data", "data"]).env("GATEWAY_STORE", "memory");
    let gateway = Running::start(command, "listening on http://").await;
    gateway.signal("HUP").await;
    assert_eq!(gateway.ended().await.status.code(), None);
}
