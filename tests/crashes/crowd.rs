//! Many clients at a time, and their books at the end.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use futures_util::future::join_all;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::{
    backend::Backend,
    books::{Books, Trouble},
    client::{Client, Payment},
    shop::{Gateway, LEASE, Shop},
};

const CLIENTS: u32 = 8;

/// Gateways on one journal, and clients that pay until they are told that it is enough.
pub struct Crowd<'a> {
    pub gateways: Vec<Gateway>,
    backend: &'a Backend,
    shop: Shop,
    client: Arc<Client>,
    plan: Arc<Plan>,
    customers: Vec<JoinHandle<Vec<Payment>>>,
    begun: Instant,
}

struct Plan {
    next: AtomicU32,
    payments: u32,
    enough: AtomicBool,
}

impl<'a> Crowd<'a> {
    /// Opens the shop. There will be at least so many payments.
    pub async fn gather(backend: &'a Backend, gateways: u32, payments: u32) -> Self {
        let shop = Shop::open().await;
        let first = tempfile::tempdir().unwrap();
        let store = backend.location(first.path());
        let mut all = vec![Gateway::start(first, &shop, store.clone()).await];
        for _ in 1..gateways {
            all.push(Gateway::start(tempfile::tempdir().unwrap(), &shop, store.clone()).await);
        }
        // The first one may have had to be compiled.
        let begun = Instant::now();
        let client = Arc::new(Client::new(all.iter().map(Gateway::address).collect()));
        let plan = Arc::new(Plan { next: AtomicU32::new(0), payments, enough: AtomicBool::new(false) });
        let customers = (0..CLIENTS).map(|_| tokio::spawn(customer(Arc::clone(&plan), Arc::clone(&client)))).collect();
        Self { gateways: all, backend, shop, client, plan, customers, begun }
    }

    /// Waits for the last payment, asks for everything again, and compares the books.
    pub async fn settle_up(mut self, trouble: Trouble, what: &str) -> Books {
        self.plan.enough.store(true, Ordering::Relaxed);
        let mut paid: Vec<Vec<Payment>> = join_all(self.customers).await.into_iter().map(Result::unwrap).collect();
        join_all(paid.iter_mut().map(|payments| ask_again(&self.client, payments, trouble))).await;
        // Whoever has left, its lease is over now.
        sleep(LEASE).await;
        let seen = self.client.unfulfilled().await;
        for gateway in &mut self.gateways {
            gateway.stop().await;
        }
        let journal = self.backend.open(self.gateways[0].folder()).await;
        let paid: Vec<Payment> = paid.into_iter().flatten().collect();
        let books = Books::balance(&self.shop, &paid, journal.as_deref(), &seen, trouble).await;
        println!("{}, {what}, {} s: {books}", self.backend.name(), self.begun.elapsed().as_secs());
        assert!(paid.len() >= self.plan.payments as usize && books.delivered > paid.len() / 2, "{books}");
        books
    }
}

async fn customer(plan: Arc<Plan>, client: Arc<Client>) -> Vec<Payment> {
    let mut paid = Vec::new();
    loop {
        let number = plan.next.fetch_add(1, Ordering::Relaxed);
        if number >= plan.payments && plan.enough.load(Ordering::Relaxed) {
            return paid;
        }
        paid.push(client.buy(number).await);
    }
}

/// Nobody gets anything more for a credential that is used, except the same answer by its key.
async fn ask_again(client: &Client, payments: &mut [Payment], trouble: Trouble) {
    for payment in payments.iter_mut().filter(|payment| !payment.left) {
        let before = payment.deliveries;
        let over = client.present(payment).await;
        if trouble == Trouble::None {
            assert!(over, "used, but not refused: {payment:?}");
            assert_eq!(payment.answer.is_some(), before > 0, "delivered at last: {payment:?}");
        }
    }
}

/// A random time below this.
pub async fn a_while(milliseconds: u64) {
    sleep(Duration::from_millis(rand::random_range(0..milliseconds))).await;
}
