//! Several gateways on one journal: every credential is sent to all of them at once.

use crate::{
    backend::{Backend, how_many},
    books::Trouble,
    crowd::{Crowd, a_while},
};

const GATEWAYS: u32 = 3;
const PAYMENTS: u32 = 100;
const CRASHES: u32 = 6;

async fn all_well(backend: &Backend) {
    let crowd = Crowd::gather(backend, GATEWAYS, PAYMENTS).await;
    let books = crowd.settle_up(Trouble::None, "three gateways").await;
    let exactly_once = (books.payments, books.payments, 0);
    assert_eq!((books.charges, books.delivered, books.broken), exactly_once, "{books}");
}

/// One of the gateways is killed, and the server of the journal restarts or crashes.
async fn crashes(backend: &Backend) {
    let crashes = how_many("CRASH_KILLS", 10 * CRASHES) / 10;
    let mut crowd = Crowd::gather(backend, GATEWAYS, PAYMENTS).await;
    for turn in 0..crashes {
        a_while(1500).await;
        let gateway = &mut crowd.gateways[turn as usize % GATEWAYS as usize];
        tokio::join!(
            async {
                a_while(50).await;
                gateway.kill().await;
            },
            async {
                a_while(50).await;
                backend.restart(turn % 2 == 1).await;
            },
        );
        gateway.restart().await;
    }
    let books = crowd.settle_up(Trouble::Journal, &format!("three gateways, {crashes} crashes")).await;
    assert!(crashes == 0 || books.broken > 0, "nobody noticed anything: {books}");
}

#[tokio::test]
async fn on_postgres() {
    all_well(&Backend::postgres().await).await;
}

#[tokio::test]
async fn on_redis() {
    all_well(&Backend::redis().await).await;
}

#[tokio::test]
async fn on_postgres_that_restarts() {
    crashes(&Backend::postgres().await).await;
}

#[tokio::test]
async fn on_redis_that_restarts() {
    crashes(&Backend::redis().await).await;
}
