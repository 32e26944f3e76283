//! The journal in Redis, against a real server that each test starts.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "../support/redis.rs"]
mod redis_server;

use redis_server::Redis;

#[tokio::test]
async fn the_server_keeps_its_data_when_it_is_killed() {
    let server = Redis::start().await;
    redis::cmd("SET").arg("a").arg(1).exec_async(&mut server.connection().await).await.unwrap();
    server.kill().await;
    server.restart().await;
    let kept: i64 = redis::cmd("GET").arg("a").query_async(&mut server.connection().await).await.unwrap();
    assert_eq!(kept, 1);
    server.stop().await;
    server.restart().await;
    server.flush().await;
    let url = server.fresh();
    assert_ne!(url, server.url());
    drop(server);
    assert!(redis::Client::open(url).unwrap().get_multiplexed_async_connection().await.is_err());
}
