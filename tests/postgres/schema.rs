//! The schema: how it gets there, what it is called, and what it refuses.

use futures_util::future::join_all;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, postgres::PgPoolOptions};
use tower_mpp::{
    conformance::nonce_store::Suite,
    store::{Claimed, End, NonceStore as _, PostgresNonceStore, StoreErrorKind},
};

use crate::{at, claim, id, new_schema, options, said, server, settlement, store, won};

async fn connection(url: &str) -> PgConnection {
    PgConnection::connect(url).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_replicas_make_the_schema_of_one_fresh_database_at_once() {
    let url = server().await.fresh_database().await;
    let replicas = join_all((0..10).map(|_| options().connect(&url))).await;
    let replicas: Vec<_> = replicas.into_iter().map(Result::unwrap).collect();
    let claims = join_all(replicas.iter().map(|replica| replica.claim(claim(1, 1)))).await;
    let winners = claims.iter().filter(|claimed| matches!(claimed, Ok(Claimed::Won { .. }))).count();
    assert_eq!(winners, 1, "{claims:?}");
    let versions: Vec<i32> = sqlx::query_scalar("SELECT version FROM tower_mpp.versions")
        .fetch_all(&mut connection(&url).await)
        .await
        .unwrap();
    assert_eq!(versions, [1, 2]);
}

#[tokio::test]
async fn a_schema_of_a_later_version_is_refused() {
    let url = server().await.fresh_database().await;
    let store = options().connect(&url).await.unwrap();
    sqlx::query("INSERT INTO tower_mpp.versions (version) VALUES (3)")
        .execute(&mut connection(&url).await)
        .await
        .unwrap();
    let error = options().connect(&url).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let expected = "the payment journal in schema tower_mpp has version 3, and this program knows none after 2";
    assert!(said(&error).contains(expected), "{}", said(&error));
    // Those of the version before go on.
    won(&store, 1).await;
}

#[tokio::test]
async fn the_schema_may_be_made_by_somebody_else_for_a_role_without_rights() {
    let server = server().await;
    let url = server.fresh_database().await;
    let mut admin = connection(&url).await;
    let role = new_schema();
    sqlx::raw_sql(AssertSqlSafe(format!("CREATE ROLE {role} LOGIN; CREATE SCHEMA tower_mpp AUTHORIZATION {role}")))
        .execute(&mut admin)
        .await
        .unwrap();
    let url = url.replace("postgres@", &format!("{role}@"));
    won(&options().connect(&url).await.unwrap(), 1).await;
    let error = options().schema("elsewhere").connect(&url).await.unwrap_err();
    assert!(said(&error).contains("permission denied"), "{}", said(&error));
}

#[tokio::test]
async fn schemas_know_nothing_of_each_other_and_have_plain_names() {
    let (one, other) = (store().await, store().await);
    won(&one, 1).await;
    won(&other, 1).await;
    for name in ["", "1shop", "Shop", "my-shop", "pg_shop", "a\"; DROP TABLE x; --", &"a".repeat(64)] {
        let error = options().schema(name).connect(&server().await.url()).await.unwrap_err();
        assert!(said(&error).contains("the schema of a journal is named by"), "{name}: {}", said(&error));
    }
}

/// Another's pool, as odd as it gets: other names first, careless about commits, and strict about isolation.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journal_keeps_the_laws_on_somebody_elses_pool() {
    let odd = "-c search_path=odd -c synchronous_commit=off -c default_transaction_isolation=repeatable\\ read";
    let url = server().await.fresh_database().await;
    sqlx::raw_sql("CREATE SCHEMA odd; CREATE TABLE odd.entries (id bytea); CREATE SEQUENCE odd.tokens")
        .execute(&mut connection(&url).await)
        .await
        .unwrap();
    let server: sqlx::postgres::PgConnectOptions = url.parse().unwrap();
    let server = server.application_name("odd");
    let pool = PgPoolOptions::new().max_connections(8).connect_lazy_with(
        format!("{url}?options={}", odd.replace(' ', "%20").replace('\\', "%5C").replace('=', "%3D"))
            .parse()
            .unwrap_or(server),
    );
    let setting: String = sqlx::query_scalar("SHOW default_transaction_isolation").fetch_one(&pool).await.unwrap();
    assert_eq!(setting, "repeatable read");
    Suite::new(move || {
        let pool = pool.clone();
        async move { PostgresNonceStore::builder().schema(new_schema()).with_pool(pool).await.unwrap() }
    })
    .assert()
    .await;
}

#[tokio::test]
async fn a_step_commits_to_disk_whatever_the_session_says() {
    let url = server().await.fresh_database().await;
    options().connect(&url).await.unwrap();
    let mut session = connection(&url).await;
    let mut transaction = session.begin().await.unwrap();
    sqlx::raw_sql("SET LOCAL synchronous_commit = off").execute(&mut *transaction).await.unwrap();
    sqlx::query("SELECT tower_mpp.settle('\\x00', 1, '{}')").execute(&mut *transaction).await.unwrap();
    let setting: String = sqlx::query_scalar("SHOW synchronous_commit").fetch_one(&mut *transaction).await.unwrap();
    assert_eq!(setting, "on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_who_forget_at_once_drop_each_entry_once() {
    let url = server().await.fresh_database().await;
    let (one, other) = (options().connect(&url).await.unwrap(), options().connect(&url).await.unwrap());
    join_all((0..200).map(|n| {
        let one = &one;
        async move {
            let lease = won(one, n).await;
            one.settle(lease, &settlement()).await.unwrap();
            if n % 10 != 0 {
                one.commit(lease, End::Delivered).await.unwrap();
            }
        }
    }))
    .await;
    let all = |store: PostgresNonceStore| async move {
        let mut dropped = 0;
        loop {
            match store.forget(at(100), 7).await.unwrap() {
                0 => return dropped,
                some => dropped += some,
            }
        }
    };
    let (some, others) = tokio::join!(tokio::spawn(all(one.clone())), tokio::spawn(all(other)));
    assert_eq!(some.unwrap() + others.unwrap(), 180);
    assert!(one.find(id(10)).await.unwrap().is_some() && one.find(id(11)).await.unwrap().is_none());
}

#[tokio::test]
async fn no_error_says_the_password() {
    let server = server().await;
    let port = server.port();
    let mut errors = Vec::new();
    for url in [
        "s3cret".to_owned(),
        "postgres://shop:s3cret@".to_owned(),
        "postgres://shop:s3cret@127.0.0.1:port/shop".to_owned(),
        "postgres://shop:s3cret#@127.0.0.1/shop".to_owned(),
        "postgres://shop:s3cret@127.0.0.1:1/shop".to_owned(),
        "postgres://shop:s3cret@127.0.0.1/shop?sslmode=s3cret".to_owned(),
        format!("postgres://nobody:s3cret@127.0.0.1:{port}/postgres"),
        format!("postgres://postgres:s3cret@127.0.0.1:{port}/nothing"),
        format!("postgres://postgres:s3cret@127.0.0.1:{port}/postgres?sslmode=require"),
    ] {
        errors.push(said(&options().connect(&url).await.expect_err(&url)));
    }
    let url = format!("postgres://postgres:s3cret@127.0.0.1:{port}/postgres");
    let options = options().schema(new_schema());
    errors.push(format!("{:?} {options:?}", options.clone().connect(&url).await.unwrap()));
    for error in errors {
        assert!(!error.contains("s3cret"), "{error}");
        println!("{error}");
    }
}
