//! A gateway is killed again and again while people pay.

use std::time::Duration;

use crate::{
    backend::{Backend, how_many},
    books::Trouble,
    crowd::{Crowd, a_while},
};

const KILLS: u32 = 20;
const PAYMENTS: u32 = 300;

async fn kill_again_and_again(backend: &Backend) {
    let kills = how_many("CRASH_KILLS", KILLS);
    let mut crowd = Crowd::gather(backend, 1, how_many("CRASH_PAYMENTS", PAYMENTS)).await;
    let gateway = &mut crowd.gateways[0];
    for turn in 0..kills {
        a_while(800).await;
        gateway.kill().await;
        if turn % 8 == 5 {
            gateway.start_in_vain(Duration::from_millis(rand::random_range(0..60))).await;
        }
        gateway.restart().await;
    }
    let books = crowd.settle_up(Trouble::None, &format!("{kills} kills")).await;
    assert!(kills == 0 || books.broken > 0, "nobody noticed anything: {books}");
}

#[tokio::test]
async fn without_kills_every_charge_is_delivered() {
    let crowd = Crowd::gather(&Backend::Memory, 1, PAYMENTS).await;
    let books = crowd.settle_up(Trouble::None, "no kills").await;
    assert_eq!((books.charges, books.delivered, books.broken), (books.payments, books.payments, 0), "{books}");
}

#[tokio::test]
async fn killed_on_sqlite() {
    kill_again_and_again(&Backend::Sqlite).await;
}

#[tokio::test]
async fn killed_on_postgres() {
    kill_again_and_again(&Backend::postgres().await).await;
}

#[tokio::test]
async fn killed_on_redis() {
    kill_again_and_again(&Backend::redis().await).await;
}
