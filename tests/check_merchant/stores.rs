//! `STORE`: what was paid stays paid and is delivered once, through `kill -9` and a new start.

use http::{HeaderValue, Method};

use crate::{
    postgres::Postgres,
    process::{Program, ok, run},
    redis_server::Redis,
};

async fn outlives_being_killed(store: &str) {
    let variables = [("STORE", store)];
    let program = Program::with(&variables).await;
    let paid = program.credential("/demo", &ok()).await;
    let first = program.repeat("/demo", &paid, "k1").await;
    assert_eq!(first.status, 200, "{first:?}");
    let unkept = program.credential("/demo", &ok()).await;
    assert_eq!(program.pay("/demo", &unkept).await.status, 200);
    // Asked for before, presented after.
    let later = program.credential("/demo", &ok()).await;
    assert_eq!(program.settlements().await, 2);
    program.kill().await;

    let program = Program::with(&variables).await;
    assert_eq!(program.pay("/demo", &unkept).await.status, 403);
    assert_eq!(program.pay("/demo", &paid).await.status, 403);
    let again = program.repeat("/demo", &paid, "k1").await;
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    assert_eq!(again.headers["payment-receipt"], first.headers["payment-receipt"]);
    assert_eq!(program.repeat("/demo", &paid, "k2").await.status, 403);
    let other = [("authorization", paid.clone()), ("idempotency-key", HeaderValue::from_static("k1"))];
    assert_eq!(program.with_headers(Method::GET, "/demo?x=1", &other, "").await.status, 200, "the same resource");
    assert_eq!(program.settlements().await, 0);
    assert_eq!(program.pay("/demo", &later).await.status, 200);
    assert_eq!(program.settlements().await, 1);
    program.kill().await;
}

#[tokio::test]
async fn a_file_outlives_it() {
    let folder = tempfile::tempdir().unwrap();
    outlives_being_killed(&format!("sqlite:{}", folder.path().join("pay.db").display())).await;
}

#[tokio::test]
async fn postgresql_outlives_it() {
    let postgres = Postgres::start().await;
    outlives_being_killed(&postgres.fresh_database().await).await;
}

#[tokio::test]
async fn redis_outlives_it() {
    let redis = Redis::start().await;
    outlives_being_killed(&redis.url()).await;
}

#[tokio::test]
async fn a_store_that_cannot_be_opened_ends_it_with_one_clear_line() {
    let folder = tempfile::tempdir().unwrap();
    let foreign = folder.path().join("foreign.db");
    std::fs::write(
        &foreign,
        "this is no database, and it is longer than a header of one hundred bytes would be..........",
    )
    .unwrap();
    for store in [
        format!("sqlite:{}", folder.path().join("no/such/folder/pay.db").display()),
        format!("sqlite:{}", foreign.display()),
        "postgres://user:hush@127.0.0.1:1/none".to_owned(),
        "redis://:hush@127.0.0.1:1".to_owned(),
    ] {
        let ended = run(&[("STORE", &store)]).await;
        assert!(!ended.status.success() && !ended.stdout.contains("ready"), "{store}");
        let lines: Vec<_> = ended.stderr.lines().collect();
        assert!(lines.len() == 1 && lines[0].contains("STORE") && !lines[0].contains("hush"), "{store}: {lines:?}");
    }
    assert!(std::fs::read_to_string(&foreign).unwrap().starts_with("this is no database"));
}
