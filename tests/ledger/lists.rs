//! The public list, in pages, and its sums.

use tower_mpp::{
    protocol::Visibility,
    store::{NameTotal, Totals},
};

use crate::{STRANGER, get, ledger, rows::*};

async fn shelf() -> Shelf {
    let rows = (1..=5).map(|number| row(members(id(number)), Visibility::PublicMinimal));
    let hidden = [row(members(id(50)), Visibility::Private), row(members(id(51)), Visibility::PublicDemo)];
    Shelf::with(rows.chain(hidden)).await
}

#[tokio::test]
async fn the_list_is_read_in_pages() {
    let ledger = ledger(&shelf().await);
    let mut seen = Vec::new();
    let mut path = "/v1/receipts/public?limit=2".to_owned();
    loop {
        let answer = get(&ledger, &path, STRANGER).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("access-control-allow-origin"), Some("*"));
        let page = answer.json();
        seen.extend(
            page["receipts"].as_array().unwrap().iter().map(|one| one["receipt_id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next"].as_str() else {
            assert!(page["next"].is_null() && answer.header("link").is_none());
            break;
        };
        path = format!("/v1/receipts/public?limit=2&before={next}");
        assert_eq!(answer.header("link").unwrap(), format!("<{BASE}{path}>; rel=\"next\""));
        let html = get(&ledger, &format!("/ledger?limit=2&before={next}"), STRANGER).await;
        assert_eq!(html.status, 200);
    }
    assert_eq!(seen, [5, 4, 3, 2, 1].map(|number| id(number).to_string()));
}

#[tokio::test]
async fn a_page_that_cannot_be_is_refused() {
    let ledger = ledger(&shelf().await);
    for (query, kind) in [
        ("limit=0", "invalid_limit"),
        ("limit=101", "invalid_limit"),
        ("limit=-1", "invalid_limit"),
        ("limit=+1", "invalid_limit"),
        ("limit=", "invalid_limit"),
        ("limit=1&limit=2", "invalid_limit"),
        ("limit=99999999999999999999999999", "invalid_limit"),
        ("before=x", "invalid_cursor"),
        ("before=", "invalid_cursor"),
        ("before=-1", "invalid_cursor"),
        ("before=1&before=2", "invalid_cursor"),
        ("before=18446744073709551616", "invalid_cursor"),
    ] {
        let answer = get(&ledger, &format!("/v1/receipts/public?{query}"), STRANGER).await;
        assert_eq!((answer.status.as_u16(), answer.error()), (400, kind.into()), "{query}");
        let page = get(&ledger, &format!("/?{query}"), STRANGER).await;
        assert_eq!((page.status.as_u16(), page.header("content-type")), (400, Some("text/html; charset=utf-8")));
    }
    // What others add to links is no concern of ours.
    assert_eq!(get(&ledger, "/v1/receipts/public?utm_source=x", STRANGER).await.status, 200);
    assert_eq!(get(&ledger, "/v1/receipts/public?before=18446744073709551615", STRANGER).await.status, 200);
}

#[tokio::test]
async fn sums_are_for_thirty_days() {
    let shelf = shelf().await;
    let today = u32::try_from(today().unix() / 86_400).unwrap();
    let name = |name: &str, receipts| NameTotal { name: name.into(), receipts, succeeded: 2, tokens: 1_234_567 };
    shelf.set_totals(Totals {
        names: vec![name("<script>alert(1)</script>", 3), name("", 1)],
        days: vec![(today - 29, 1), (today - 1, u64::MAX), (today, 2)],
    });
    let ledger = ledger(&shelf);
    let board = get(&ledger, "/leaderboard.json", STRANGER).await.json();
    let days = board["days"].as_array().unwrap();
    assert_eq!((days.len(), &days[0]["date"], &days[29]["date"]), (30, &"2026-10-23".into(), &"2026-11-21".into()));
    assert_eq!((&days[0]["paid"], &days[1]["paid"], &days[29]["paid"]), (&1.into(), &0.into(), &2.into()));
    assert_eq!(board["names"][0]["tokens"], 1_234_567);
    let page = get(&ledger, "/", STRANGER).await;
    assert!(page.text().contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !page.text().contains("<script"));
    assert!(page.text().contains("1,234,567") && page.text().contains("2026-10-23"));
    assert_eq!(page.text().matches("<rect").count(), 30);
    // Only where the list begins.
    assert!(!get(&ledger, "/?before=3", STRANGER).await.text().contains("<rect"));
}

#[tokio::test]
async fn a_ledger_without_receipts_is_a_page_too() {
    let ledger = ledger(&Shelf::default());
    for path in ["/", "/ledger", "/ledger?before=3"] {
        let page = get(&ledger, path, STRANGER).await;
        assert_eq!(page.status, 200);
        assert!(page.text().contains("There is no public receipt here yet."), "{path}");
    }
    let list = get(&ledger, "/v1/receipts/public", STRANGER).await.json();
    assert_eq!(list, serde_json::json!({"next": null, "receipts": []}));
}
