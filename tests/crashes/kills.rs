//! One gateway after the other is killed while people pay.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use crate::{
    backend::{Backend, alone, how_many},
    books::{Books, Trouble},
    client::{Client, Payment},
    shop::{Gateway, LEASE, Shop},
};

const CLIENTS: usize = 8;

/// What the clients have in common.
#[derive(Default)]
struct Plan {
    next: AtomicU32,
    payments: u32,
    killed_enough: AtomicBool,
}

/// Pays until there were enough payments and kills.
async fn customer(plan: Arc<Plan>, client: Arc<Client>) -> Vec<Payment> {
    let mut paid = Vec::new();
    loop {
        let number = plan.next.fetch_add(1, Ordering::Relaxed);
        if number >= plan.payments && plan.killed_enough.load(Ordering::Relaxed) {
            return paid;
        }
        paid.push(client.buy(number).await);
    }
}

/// Nobody gets anything more for a credential that is used, except the same answer by its key.
async fn ask_again(client: &Client, payments: &mut [Payment]) {
    for payment in payments.iter_mut().filter(|payment| !payment.left) {
        let before = payment.deliveries;
        assert!(client.present(payment).await, "used, but not refused: {payment:?}");
        assert_eq!(payment.answer.is_some(), before > 0, "delivered at last: {payment:?}");
    }
}

async fn run(name: &str, backend: &Backend, kills: u32, payments: u32) {
    let begun = Instant::now();
    let shop = Shop::open().await;
    let folder = Arc::new(tempfile::tempdir().unwrap());
    let store = backend.location(folder.path());
    let mut gateway = Gateway::start(folder, &shop, store).await;
    let client = Arc::new(Client::new(vec![gateway.address()]));
    let plan = Arc::new(Plan { payments, killed_enough: AtomicBool::new(kills == 0), ..Plan::default() });
    let customers: Vec<_> =
        (0..CLIENTS).map(|_| tokio::spawn(customer(Arc::clone(&plan), Arc::clone(&client)))).collect();
    for turn in 0..kills {
        sleep(Duration::from_millis(rand::random_range(0..800))).await;
        gateway.kill().await;
        if turn % 8 == 5 {
            gateway.start_in_vain(Duration::from_millis(rand::random_range(0..60))).await;
        }
        gateway.restart().await;
    }
    plan.killed_enough.store(true, Ordering::Relaxed);
    let mut paid: Vec<Vec<Payment>> = join_all(customers).await.into_iter().map(Result::unwrap).collect();
    join_all(paid.iter_mut().map(|payments| ask_again(&client, payments))).await;
    // Whoever has left, its lease is over now.
    sleep(LEASE).await;
    gateway.stop().await;
    let journal = backend.open(gateway.folder()).await;
    let paid: Vec<Payment> = paid.into_iter().flatten().collect();
    let books = Books::balance(&shop, &paid, journal.as_deref(), Trouble::None).await;
    println!("{name}, {kills} kills in {} s: {books}", begun.elapsed().as_secs());
    assert!(paid.len() >= payments as usize && books.delivered > paid.len() / 2, "{books}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_kills_every_charge_is_delivered() {
    let _alone = alone().await;
    run("memory", &Backend::Memory, 0, how_many("CRASH_PAYMENTS", 300).min(300)).await;
}
