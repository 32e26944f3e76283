//! What the layer costs in process, beside the bare primitives of each path in the same run.
//!
//! `cargo bench --bench layer`. What counts is the ratio of the two figures of one group.
#![allow(clippy::unwrap_used, missing_docs)]

mod cases;

use bytes::Bytes;
use cases::{Primitives, Shop, bare, forged, garbage, get, paying, post};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

fn layer(c: &mut Criterion) {
    let primitives = Primitives::new();
    let mut shop = Shop::new(1);
    let used = shop.credential();
    drop(shop.call(paying(&used)));
    let forged = forged(&used);
    let garbage = garbage();

    let mut group = c.benchmark_group("free");
    group.bench_function("bare tower", |b| b.iter_batched(|| get("/free"), bare, BatchSize::SmallInput));
    group.bench_function("layer", |b| b.iter_batched(|| get("/free"), |r| shop.call(r), BatchSize::SmallInput));
    group.finish();

    let mut group = c.benchmark_group("402");
    group.bench_function("primitives", |b| {
        b.iter_batched(|| get("/paid"), |_| primitives.challenge(), BatchSize::SmallInput)
    });
    group.bench_function("layer", |b| b.iter_batched(|| get("/paid"), |r| shop.call(r), BatchSize::SmallInput));
    let mut many = Shop::new(8);
    group.bench_function("layer, 8 offers", |b| {
        b.iter_batched(|| get("/paid"), |r| many.call(r), BatchSize::SmallInput)
    });
    group.finish();

    let mut group = c.benchmark_group("paid");
    group.bench_function("primitives", |b| {
        b.iter_batched(|| paying(&used), |_| primitives.paid(&used), BatchSize::SmallInput)
    });
    group.bench_function("layer", |b| {
        let mut fresh = Shop::new(1);
        let mut till = Shop::new(1);
        std::mem::swap(&mut fresh, &mut till);
        let till = std::cell::RefCell::new(till);
        b.iter_batched(
            || {
                let credential = till.borrow_mut().credential();
                paying(&credential)
            },
            |request| till.borrow_mut().call(request),
            BatchSize::SmallInput,
        );
    });
    group
        .bench_function("layer, replay", |b| b.iter_batched(|| paying(&used), |r| shop.call(r), BatchSize::SmallInput));
    group.finish();

    let mut group = c.benchmark_group("refused");
    group.bench_function("primitives, forged", |b| {
        b.iter_batched(|| paying(&forged), |_| primitives.forged(&forged), BatchSize::SmallInput)
    });
    group.bench_function("layer, forged", |b| {
        b.iter_batched(|| paying(&forged), |r| shop.call(r), BatchSize::SmallInput)
    });
    group.bench_function("primitives, garbage", |b| {
        b.iter_batched(|| paying(&garbage), |_| primitives.garbage(&garbage), BatchSize::SmallInput)
    });
    group.bench_function("layer, garbage", |b| {
        b.iter_batched(|| paying(&garbage), |r| shop.call(r), BatchSize::SmallInput)
    });
    group.finish();

    let mut group = c.benchmark_group("402 for a body");
    for (name, size) in [("1 KiB", 1024), ("64 KiB", 64 * 1024), ("1 MiB", 1024 * 1024)] {
        let body = Bytes::from(vec![b'x'; size]);
        group.bench_function(format!("primitives, {name}"), |b| {
            b.iter_batched(|| post(&body), |_| primitives.body(&body), BatchSize::SmallInput)
        });
        group.bench_function(format!("layer, {name}"), |b| {
            b.iter_batched(|| post(&body), |r| shop.call(r), BatchSize::SmallInput)
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(50)
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_millis(1500))
        .without_plots();
    targets = layer
}
criterion_main!(benches);
