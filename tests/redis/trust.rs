//! Which servers are trusted with money, and what is never told about them.

use std::{
    io::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use tower_mpp::store::{AnswerStore as _, NonceStore as _, RedisNonceStore};

use crate::{
    payments::{delivered, held, id, now, reservation, settled, store, text, unavailable},
    redis_server::Redis,
};

/// Runs a command on database 0.
async fn order(server: &Redis, words: &[&str]) {
    let mut command = redis::cmd(words[0]);
    for word in &words[1..] {
        command.arg(word);
    }
    command.exec_async(&mut server.connection().await).await.unwrap();
}

#[tokio::test]
async fn a_server_that_would_evict_payments_is_refused() {
    for policy in ["allkeys-lru", "volatile-ttl", "volatile-lru"] {
        let server = Redis::start_with(&["--maxmemory", "100mb", "--maxmemory-policy", policy]).await;
        let refused = unavailable(RedisNonceStore::connect(&server.url())).await;
        assert!(refused.contains(policy) && refused.contains("set it to noeviction"), "{refused}");
        order(&server, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
        held(&store(&server.url()).await, 1).await;
    }
    let server = Redis::start_with(&["--maxmemory-policy", "allkeys-lru"]).await;
    held(&store(&server.url()).await, 1).await;
}

#[tokio::test]
async fn a_server_that_does_not_show_its_configuration_is_asked_for_a_report() {
    let hidden = ["--rename-command", "CONFIG", ""];
    let server = Redis::start_with(&hidden).await;
    held(&store(&server.url()).await, 1).await;

    let evicting = [&hidden[..], &["--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lfu"]].concat();
    let server = Redis::start_with(&evicting).await;
    let refused = unavailable(RedisNonceStore::connect(&server.url())).await;
    assert!(refused.contains("allkeys-lfu"), "{refused}");

    // Neither is allowed: nobody knows.
    let server = Redis::start_with(&[&hidden[..], &["--rename-command", "INFO", ""]].concat()).await;
    unavailable(RedisNonceStore::connect(&server.url())).await;
}

/// It is asked again when the connection was lost: behind the same name there may be another one now.
#[tokio::test]
async fn a_server_that_begins_to_evict_is_refused_by_the_next_connection() {
    let server = Redis::start_with(&["--maxmemory", "100mb"]).await;
    let store = store(&server.url()).await;
    order(&server, &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    order(&server, &["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    while store.find(id(1)).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let refused = unavailable(store.find(id(1))).await;
    assert!(refused.contains("allkeys-lru"), "{refused}");
    order(&server, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;
    held(&store, 1).await;
}

/// What was written to the log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn log_of(options: &[&str]) -> String {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let server = Redis::start_with(options).await;
    held(&store(&server.url()).await, 1).await;
    drop(guard);
    let bytes = log.0.lock().unwrap().clone();
    String::from_utf8(bytes).unwrap()
}

#[tokio::test]
async fn a_server_that_may_lose_what_it_has_answered_is_warned_of() {
    let memory_only = log_of(&["--appendonly", "no"]).await;
    assert!(memory_only.contains("WARN tower_mpp:"), "{memory_only}");
    assert!(memory_only.contains("set `appendonly yes` and `appendfsync always`"), "{memory_only}");
    let each_second = log_of(&["--appendfsync", "everysec"]).await;
    assert!(each_second.contains("may lose the last second"), "{each_second}");
    let always = log_of(&[]).await;
    assert!(!always.contains("WARN"), "{always}");
}

#[tokio::test]
async fn the_password_is_never_told() {
    const PASSWORD: &str = "s3cret-of-the-till";
    let server = Redis::start_with(&["--requirepass", PASSWORD]).await;
    let port = server.url().split(':').next_back().unwrap().to_owned();
    let right = store(&server.url()).await;
    delivered(&right, 1).await;
    let mut told = vec![format!("{right:?}"), format!("{:?}", RedisNonceStore::builder())];

    let wrong = [
        // Refused by the server.
        format!("redis://:{PASSWORD}x@127.0.0.1:{port}"),
        format!("redis://{PASSWORD}:{PASSWORD}@127.0.0.1:{port}"),
        format!("redis://:{PASSWORD}@127.0.0.1:{port}/?protocol=resp3").replace(PASSWORD, &format!("{PASSWORD}x")),
        format!("redis://:{PASSWORD}@127.0.0.1:{}/1000000", port.split('/').next().unwrap()),
        // Not reached.
        format!("redis://:{PASSWORD}@127.0.0.1:1"),
        format!("redis://:{PASSWORD}@no-such-host.invalid"),
        format!("rediss://:{PASSWORD}@127.0.0.1:{port}"),
        // Not a URL.
        format!("redis://:{PASSWORD}@127.0.0.1:{port}/{PASSWORD}"),
        format!("redis://:{PASSWORD}@127.0.0.1:{port}/?protocol={PASSWORD}"),
        format!("redis:// :{PASSWORD}@host"),
        format!("http://:{PASSWORD}@127.0.0.1"),
        PASSWORD.to_owned(),
    ];
    for url in wrong {
        let error = RedisNonceStore::connect(&url).await.unwrap_err();
        told.push(format!("{error:?} {}", text(&error)));
    }
    // Let in before, and not any more.
    order(&server, &["CONFIG", "SET", "requirepass", "another"]).await;
    let mut other = redis::Client::open(server.url().replace(PASSWORD, "another")).unwrap().get_connection().unwrap();
    redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal"]).exec(&mut other).unwrap();
    for _ in 0..2 {
        let error = right.find(id(1)).await.unwrap_err();
        told.push(format!("{error:?} {}", text(&error)));
    }
    for text in told {
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

#[tokio::test]
async fn a_prefix_separates_journals_and_keeps_all_keys_in_one_slot() {
    let server = Redis::start().await;
    let builder = || RedisNonceStore::builder().timeout(Duration::from_secs(10));
    let one = builder().prefix("one").connect(&server.url()).await.unwrap();
    let other = builder().prefix("other").connect(&server.url()).await.unwrap();
    for store in [&one, &other] {
        settled(store, 1).await;
        delivered(store, 2).await;
        store.reserve(reservation(1)).await.unwrap();
    }
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut server.connection().await).await.unwrap();
    // Two entries, two proofs, what is open, the last token, an answer.
    assert_eq!(keys.iter().filter(|key| key.starts_with("{one}:")).count(), 7, "{keys:?}");
    assert_eq!(keys.iter().filter(|key| key.starts_with("{other}:")).count(), 7, "{keys:?}");
    assert_eq!(keys.len(), 14);
    for bad in ["", "a}b", "{", "a b", "a:b", "ä", &"a".repeat(65)] {
        let refused = unavailable(builder().prefix(bad).connect(&server.url())).await;
        assert!(refused.contains("prefix"), "{refused}");
    }
    assert!(one.look_up(id(1), now()).await.unwrap().is_some());
}
