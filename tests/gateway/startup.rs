//! What the gateway says of itself when it starts, and when it is only checked.

use std::fs;

use crate::{
    admin::TOKEN,
    programs::{Running, command, run},
};

const ROUTES: &str = "[[routes]]\npath = \"/a\"\nprice = \"0.50\"\n[[routes]]\npath = \"/b\"\nfree = true\n";
const TEST_KEY: &str = "sk_test_4eC39HqLyjWDarjtT1zdp7dc";
const LIVE_KEY: &str = "sk_live_4eC39HqLyjWDarjtT1zdp7dc";

/// Of every part of the gateway its state and why, by `--check`.
async fn report(toml: &str, variables: &[(&str, &str)]) -> Vec<(String, String, String)> {
    let folder = tempfile::tempdir().unwrap();
    let mut command = command("gateway", folder.path());
    command.envs(variables.iter().copied()).arg("--check");
    if !toml.is_empty() {
        fs::write(folder.path().join("gateway.toml"), toml).unwrap();
        command.args(["--config", "gateway.toml"]);
    }
    let checked = run(command).await;
    assert!(checked.status.success(), "{checked:?}");
    for secret in [TEST_KEY, LIVE_KEY, TOKEN] {
        assert!(!checked.stdout.contains(secret) && !checked.stderr.contains(secret), "{checked:?}");
    }
    let (first, rest) = checked.stdout.split_once("\n\n").unwrap();
    assert!(first.starts_with("the configuration is good: "), "{first}");
    rest.lines().map(parts).collect()
}

fn parts(line: &str) -> (String, String, String) {
    let (part, rest) = line.trim().split_once(' ').unwrap();
    let states = ["live", "test mode", "disabled"];
    let state = states.iter().find(|state| rest.trim().starts_with(**state)).unwrap_or_else(|| panic!("{line:?}"));
    let why = rest.trim().strip_prefix(state).unwrap().trim();
    assert!(why.ends_with('.') || why.ends_with(')'), "{line:?}");
    (part.to_owned(), (*state).to_owned(), why.to_owned())
}

#[track_caller]
fn assert_says(report: &[(String, String, String)], expected: &[(&str, &str, &str)]) {
    for (part, state, why) in expected {
        let (_, is, because) = report.iter().find(|(name, ..)| name == part).unwrap_or_else(|| panic!("no {part}"));
        assert!(is == state && because.contains(why), "{part}: {is:?} {because:?}");
    }
}

#[tokio::test]
async fn a_demo_is_in_test_mode_and_says_so() {
    assert_says(
        &report("", &[]).await,
        &[
            ("rails.stripe", "disabled", "There is no [rails.stripe]."),
            ("rails.sandbox", "test mode", "play money"),
            ("payments", "live", "remembered in data/payments.db (SQLite)"),
            ("routes", "test mode", "1 paid and 1 free, to the built-in demo: no model is asked."),
            ("receipts", "test mode", "Every paid call gets a signed receipt: http://127.0.0.1:8402/ledger"),
            ("refunds", "disabled", "No rule of [refunds]"),
            ("admin", "disabled", "neither [admin] nor GATEWAY_ADMIN_TOKEN"),
        ],
    );
}

#[tokio::test]
async fn nothing_is_live_where_only_test_money_is_taken() {
    let file = format!(
        "store.kind = \"memory\"\nadmin.token_env = \"TOKEN\"\nrefunds.refund_if_provider_timeout_before_first_token = true\n[upstream]\nurl = \"http://127.0.0.1:9/base\"\n[rails.stripe]\n{ROUTES}"
    );
    let variables = |key| [("STRIPE_SECRET_KEY", key), ("STRIPE_NETWORK_ID", "profile_1"), ("TOKEN", TOKEN)];
    let test = report(&file, &variables(TEST_KEY)).await;
    assert_says(
        &test,
        &[
            ("rails.stripe", "test mode", "a test key: no money moves"),
            ("rails.sandbox", "disabled", "rails.sandbox is not true"),
            ("payments", "test mode", "in memory: a restart forgets"),
            ("routes", "test mode", "1 paid and 1 free, to 127.0.0.1:9."),
            ("receipts", "disabled", "There is no [receipts]."),
            ("refunds", "test mode", "by refund_if_provider_timeout_before_first_token."),
            ("admin", "live", "under /admin"),
        ],
    );
    assert_says(
        &report(&file, &variables(LIVE_KEY)).await,
        &[
            ("rails.stripe", "live", "money moves"),
            ("routes", "live", "1 paid"),
            ("refunds", "live", "Money is given back"),
            // Also behind real money.
            ("payments", "test mode", "a restart forgets"),
        ],
    );
}

#[tokio::test]
async fn the_start_says_what_the_check_has_said() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["--addr", "localhost:0", "--data", "data"];
    let mut check = command("gateway", folder.path());
    check.args(arguments).arg("--check");
    let checked = run(check).await.stdout;
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing was made");
    let mut start = command("gateway", folder.path());
    start.args(arguments);
    let gateway = Running::start(start, "listening on http://").await;
    let address = gateway.address.to_string();
    let started = gateway.stop().await.stdout.replace(&address, "localhost:0");
    let report = checked.split_once("\n\n").unwrap().1.trim_end();
    assert!(started.contains(report), "{started}\n{report}");
}
