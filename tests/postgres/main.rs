//! The journal in PostgreSQL, against a real server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/postgres.rs"]
mod postgres;

use sqlx::{Connection as _, PgConnection};

use crate::postgres::Postgres;

#[tokio::test]
async fn the_server_of_the_tests_stops_and_starts_again_with_its_data() {
    let server = Postgres::start().await;
    let url = server.fresh_database().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("CREATE TABLE kept (n bigint)").execute(&mut connection).await.unwrap();
    server.stop().await;
    sqlx::query("SELECT 1").execute(&mut connection).await.unwrap_err();
    PgConnection::connect(&url).await.unwrap_err();
    server.restart().await;
    server.kill().await;
    PgConnection::connect(&url).await.unwrap_err();
    server.restart().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    sqlx::query("INSERT INTO kept VALUES (1)").execute(&mut connection).await.unwrap();
    server.restart().await;
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let kept: i64 = sqlx::query_scalar("SELECT n FROM kept").fetch_one(&mut connection).await.unwrap();
    assert_eq!(kept, 1);
}
