//! What the feature `metrics` records, as a dashboard would see it.

mod support;

use std::collections::BTreeMap;

use axum::{Router, body::Body, http::Request, routing::get};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use serde_json::json;
use support::*;
use tower::ServiceExt as _;
use tower_mpp::{Price, metric};

#[test]
fn payments_are_counted_by_what_became_of_them() {
    let recorder = DebuggingRecorder::new();
    let snapshots = recorder.snapshotter();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    metrics::with_local_recorder(&recorder, || runtime.block_on(trade()));

    let mut counters = BTreeMap::new();
    let mut histograms = BTreeMap::new();
    for (key, _, _, value) in snapshots.snapshot().into_vec() {
        let labels: Vec<String> =
            key.key().labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        let name = format!("{} {}", key.key().name(), labels.join(" "));
        match value {
            DebugValue::Counter(count) => drop(counters.insert(name, count)),
            DebugValue::Histogram(values) => drop(histograms.insert(name, values.len())),
            DebugValue::Gauge(_) => panic!("no gauge is documented"),
        }
    }
    let expected = [
        (format!("{} method=demo", metric::DELIVERED), 2),
        (format!("{} method=demo", metric::FAULTS), 1),
        (format!("{} kind=already_used", metric::REFUSALS), 1),
        (format!("{} kind=outcome_unknown", metric::REFUSALS), 1),
        (format!("{} kind=payment_required", metric::REFUSALS), 5),
        (format!("{} kind=unavailable", metric::REFUSALS), 1),
        (format!("{} kind=verification_failed", metric::REFUSALS), 1),
        (format!("{} method=demo redelivery=false", metric::SETTLED), 2),
        (format!("{} method=demo", metric::UNKNOWN), 1),
    ];
    assert_eq!(counters, expected.into_iter().collect());
    assert_eq!(histograms, [(format!("{} method=demo", metric::SETTLE_SECONDS), 2)].into_iter().collect());
}

/// One good call and its replay, one declined, one fault, one unknown that is resolved.
async fn trade() {
    let merchant = merchant(&TestRail::new("demo"));
    let charge = merchant.charge(Price::usd("1.00").unwrap()).unwrap();
    let app = Router::new().route("/", get(|| async { "ok" }).route_layer(charge));
    let call = async |credential: Option<&http::HeaderValue>| {
        let mut request = Request::get("/");
        if let Some(credential) = credential {
            request = request.header("authorization", credential);
        }
        let answer = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (head, body) = answer.into_parts();
        axum::body::to_bytes(body, usize::MAX).await.unwrap();
        (head.status.as_u16(), head.headers)
    };
    for (token, statuses) in [("ok", &[200, 403][..]), ("decline", &[402]), ("fault", &[503]), ("unknown", &[503, 200])]
    {
        let (_, headers) = call(None).await;
        let credential = pay_with(&challenge(&headers), None, &json!({"token": token}));
        for status in statuses {
            assert_eq!(call(Some(&credential)).await.0, *status, "{token}");
        }
    }
    assert_eq!(call(None).await.0, 402);
}
