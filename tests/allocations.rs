//! How many allocations each path makes. Unlike time, that can be held by a test.

#[path = "../benches/cases/mod.rs"]
mod cases;

use allocation_counter::measure;
use bytes::Bytes;
use cases::{Shop, forged, garbage, get, paying, post};

/// Allocations of `call`, with everything warm: the median, since the journal grows now and then.
fn count<T>(mut request: impl FnMut() -> T, mut call: impl FnMut(T)) -> u64 {
    for _ in 0..100 {
        call(request());
    }
    let mut counts: Vec<u64> = (0..21)
        .map(|_| {
            let ready = request();
            measure(|| call(ready)).count_total
        })
        .collect();
    counts.sort_unstable();
    counts[counts.len() / 2]
}

#[track_caller]
fn at_most(limit: u64, what: &str, counted: u64) {
    println!("{what}: {counted} allocations");
    assert!(counted <= limit, "{what}: {counted} allocations, at most {limit} are allowed");
}

#[test]
fn allocations_stay_within_their_limits() {
    let mut shop = Shop::new(1);
    at_most(0, "free", count(|| get("/free"), |request| drop(shop.call(request))));
    at_most(10, "402", count(|| get("/paid"), |request| drop(shop.call(request))));
    let mut many = Shop::new(8);
    at_most(19, "402 with 8 offers", count(|| get("/paid"), |request| drop(many.call(request))));
    for size in [1024, 64 * 1024, 1024 * 1024] {
        let body = Bytes::from(vec![b'x'; size]);
        let counted = measure_bytes(&mut shop, &body);
        at_most(10, "402 for a body", counted.0);
        assert!(counted.1 < 8 * 1024, "a body of {size} bytes was copied: {} bytes allocated", counted.1);
    }

    let till = std::cell::RefCell::new(Shop::new(1));
    let paid = count(
        || {
            let credential = till.borrow_mut().credential();
            paying(&credential)
        },
        |request| assert_eq!(till.borrow_mut().call(request).status(), 200),
    );
    at_most(30, "paid", paid);

    let used = shop.credential();
    drop(shop.call(paying(&used)));
    at_most(18, "replay", count(|| paying(&used), |request| assert_eq!(shop.call(request).status(), 403)));
    let forged = forged(&used);
    at_most(12, "forged", count(|| paying(&forged), |request| assert_eq!(shop.call(request).status(), 402)));
    let garbage = garbage();
    at_most(14, "garbage", count(|| paying(&garbage), |request| assert_eq!(shop.call(request).status(), 402)));
}

fn measure_bytes(shop: &mut Shop, body: &Bytes) -> (u64, u64) {
    drop(shop.call(post(body)));
    let request = post(body);
    let counted = measure(|| drop(shop.call(request)));
    (counted.count_total, counted.bytes_total)
}
