//! SIGTERM.

use std::time::{Duration, Instant};

use tokio::{net::TcpStream, time::sleep};

use crate::process::{Program, ok};

fn get(path: &str, credential: &http::HeaderValue) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: {}\r\n\r\n", credential.to_str().unwrap())
}

#[tokio::test]
async fn what_is_in_flight_is_answered_and_nobody_new_is_let_in() {
    let program = Program::start().await;
    let slow = program.credential("/demo", &ok()).await;
    let mut handling = program.wire(&get("/demo?ms=1000", &slow)).await;
    let settle = program.credential("/demo", &ok()).await;
    let mut settling = program.wire(&get("/demo?settle_ms=1000", &settle)).await;
    let stream = program.credential("/stream", &ok()).await;
    let mut streaming = program.wire(&get("/stream?n=3&ms=400", &stream)).await;
    assert_eq!(streaming.head().await.0, 200);
    sleep(Duration::from_millis(200)).await;

    program.signal("TERM").await;
    sleep(Duration::from_millis(200)).await;
    assert!(TcpStream::connect(program.address).await.is_err(), "no new connections");
    for wire in [&mut handling, &mut settling] {
        let answer = wire.answer().await;
        assert_eq!(answer.status, 200);
        answer.receipt();
    }
    loop {
        let line = streaming.line().await;
        assert!(!line.is_empty(), "the stream broke off");
        if line.starts_with("event: payment-receipt") {
            break;
        }
    }
    assert_eq!(program.ended().await.status.code(), Some(0));
}

#[tokio::test]
async fn idle_and_half_sent_connections_are_not_waited_for() {
    let program = Program::start().await;
    let credential = program.credential("/demo", &ok()).await;
    let mut used = program.wire(&get("/demo", &credential)).await;
    assert_eq!(used.answer().await.status, 200);
    let mut silent = program.wire("").await;
    let mut half_head = program.wire("GET /demo HTTP/1.1\r\nHo").await;
    let mut half_body = program.wire("POST /demo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhal").await;
    let mut half_chunk =
        program.wire("POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhal").await;
    sleep(Duration::from_millis(300)).await;
    let started = Instant::now();
    assert_eq!(program.stop().await.status.code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    for wire in [&mut used, &mut silent, &mut half_head, &mut half_body, &mut half_chunk] {
        assert!(wire.is_closed().await);
    }
}

#[tokio::test]
async fn settlements_whose_client_has_left_are_finished_and_journalled() {
    let program = Program::with(&[("RUST_LOG", "tower_mpp=info")]).await;
    let credential = program.credential("/demo", &ok()).await;
    let wire = program.wire(&get("/demo?settle_ms=2000", &credential)).await;
    sleep(Duration::from_millis(300)).await;
    drop(wire);
    sleep(Duration::from_millis(300)).await;
    let started = Instant::now();
    let ended = program.stop().await;
    assert!(started.elapsed() >= Duration::from_millis(1000), "{:?}", started.elapsed());
    assert_eq!(ended.status.code(), Some(0));
    assert!(ended.stderr.contains("settled"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("journal"), "{}", ended.stderr);
}
