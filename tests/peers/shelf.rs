//! Receipts of all kinds, with what is hard to write in one way only.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use tower_mpp::{
    protocol::{Currency, Visibility},
    receipt::{PaidWith, ReceiptBody, UsdCost, canonicalize},
    store::{NameTotal, ReceiptRow, Totals},
};

use crate::rows::{self, Shelf, id, members, row, with_signature};

pub const PLAIN: u8 = 1;
pub const REFUND: u8 = 2;
pub const PRIVATE: u8 = 3;
pub const HMAC: u8 = 4;
pub const PROVISIONAL: u8 = 5;
pub const SPARSE: u8 = 6;
/// As `Receipts::issue` makes it.
pub const ISSUED: u8 = 8;
/// Whole receipts with odd texts and numbers, and how many.
pub const ODD: u8 = 20;
pub const ODDS: u8 = 14;

/// Text that is easily written in two ways, or read as something else.
const TEXTS: [&str; 14] = [
    "e\u{301} \u{1e9b}\u{323} \u{958} \u{212b}",
    "</script><script>window.broken = 1</script>",
    "\u{202e}evil\u{202c} \u{200b}zero\u{feff}",
    "line\nbreak\ttab\r\rreturn",
    "\u{0}\u{1}\u{7f}\u{85}\u{9f}",
    "\u{2028}\u{2029}\u{ad}",
    "  leading and trailing  ",
    "&lt;b&gt; &amp;amp; &#13; \"quoted\" 'single'",
    "😂 \u{fb33} \u{10ffff} \u{e000}",
    "\\u0041 \\n \\",
    "null",
    "__proto__",
    "$& $1 $$",
    "\u{1100}\u{1161}\u{11a8} \u{ac00}\u{11a8}",
];

const NUMBERS: [&str; 14] = [
    "1e-12",
    "0.1",
    "1e21",
    "123456789012345680000",
    "9007199254740992",
    "-0.0",
    "0",
    "1.5e-7",
    "0.000001",
    "5e-324",
    "1.7976931348623157e308",
    "-1.25e-9",
    "333333333.3333333",
    "1000",
];

const MONEY: [(&str, &str); 14] = [
    ("50", "usd"),
    ("5", "usd"),
    ("50000", "jpy"),
    ("1234567", "kwd"),
    ("1", "CLF"),
    ("340282366920938463463374607431768211455", "eur"),
    ("340282366920938463463374607431768211456", "eur"),
    ("007", "eur"),
    ("50000", "0x20c0000000000000000000000000000000000000"),
    ("1", "xau"),
    ("0", "huf"),
    ("100", "usdc"),
    ("-5", "usd"),
    ("1e3", "usd"),
];

fn odd(place: u8) -> Map<String, Value> {
    let mut full = members(id(ODD + place));
    let at = usize::from(place);
    for name in ["model_id", "agent_handle", "region", "tenant_id", "error_class"] {
        full.insert(name.into(), TEXTS[at].into());
    }
    full.insert("module_chain".into(), json!(TEXTS));
    let number: Value = serde_json::from_str(NUMBERS[at]).unwrap();
    for name in ["cost_estimated_usd", "cost_final_usd", "input_tokens", "cache_read_tokens"] {
        full.insert(name.into(), number.clone());
    }
    let (amount, currency) = MONEY[at];
    full.insert(
        "payment".into(),
        json!({"amount": amount, "currency": currency, "method": "x402", "reference": TEXTS[at]}),
    );
    full.insert(format!("member {}", TEXTS[at]), json!({"\u{e9}": 1, "f": [true, null, {}], "\u{fb33}": 2, "😂": 3}));
    if place == 3 {
        // An instant of another form, and one that is none.
        full.insert("request_started_at".into(), "2026-06-05T21:10:50Z".into());
        full.insert("pricing_effective_at".into(), "yesterday".into());
    }
    full
}

fn hmac() -> ReceiptRow {
    let mut full = members(id(HMAC));
    full.insert("signing_algorithm".into(), "hmac_sha256".into());
    full.insert("signing_key_id".into(), "secret-2026".into());
    let mut row = row(full.clone(), Visibility::PublicFull);
    full.insert("visibility".into(), "public_full".into());
    let message = canonicalize(&serde_json::to_string(&full).unwrap()).unwrap();
    let mac = Hmac::<Sha256>::new_from_slice(&[9; 32]).unwrap().chain_update(message).finalize().into_bytes();
    row.full = with_signature(&full, &mac).into();
    row.public = Some(row.full.clone());
    row
}

/// What the library itself makes of a call.
fn call() -> ReceiptBody {
    let at = |text: &str| Some(text.parse().unwrap());
    ReceiptBody {
        receipt_id: Some(id(ISSUED)),
        visibility: Visibility::PublicFull,
        model_id: Some("e\u{301}lan-\u{212b}".into()),
        module_chain: vec!["\u{1e9b}\u{323}".into(), "cost-guard".into()],
        cost_estimated_usd: Some(UsdCost::from_pico(1_200_000)),
        cost_final_usd: Some(UsdCost::from_pico(120)),
        input_tokens: Some(1812),
        request_started_at: at("2026-06-05T21:10:50Z"),
        request_ended_at: at("2026-06-05T21:10:51.1675Z"),
        created_at: at("2026-06-05T21:10:51.168Z"),
        payment: Some(PaidWith {
            method: "stripe".parse().unwrap(),
            intent: "charge".parse().unwrap(),
            amount: "50".parse().unwrap(),
            currency: Currency::new("usd").unwrap(),
            reference: Some("pi_1".into()),
            challenge_id: None,
        }),
        ..ReceiptBody::default()
    }
}

pub async fn shelf() -> Shelf {
    let mut refund = members(id(REFUND));
    refund.insert("parent_receipt_id".into(), id(PLAIN).to_string().into());
    refund.insert("receipt_type".into(), "refund".into());
    let mut started = members(id(PROVISIONAL));
    for (name, value) in
        [("status", json!("in_progress")), ("request_ended_at", Value::Null), ("http_status", Value::Null)]
    {
        started.insert(name.into(), value);
    }
    let mut sparse: Map<String, Value> = members(id(SPARSE)).into_iter().map(|(name, _)| (name, Value::Null)).collect();
    for (name, value) in [
        ("receipt_id", json!(id(SPARSE))),
        ("module_chain", json!([])),
        ("receipt_type", json!("blocked")),
        ("status", json!("blocked")),
        ("created_at", json!("2026-06-05T21:10:51.168Z")),
        ("signing_algorithm", json!("ed25519")),
        ("signing_key_id", json!(rows::KEY_ID)),
    ] {
        sparse.insert(name.into(), value);
    }
    let mut failed = members(id(7));
    failed.insert("status".into(), "failed".into());
    failed.insert("model_id".into(), "claude-sonnet-4-5".into());
    failed.insert("agent_handle".into(), "night-researcher".into());
    let mut rows = vec![
        row(members(id(PLAIN)), Visibility::PublicMinimal),
        row(refund, Visibility::PublicMinimal),
        row(members(id(PRIVATE)), Visibility::Private),
        hmac(),
        ReceiptRow { provisional: true, ..row(started, Visibility::PublicDemo) },
        row(sparse, Visibility::PublicMinimal),
        row(failed, Visibility::PublicMinimal),
    ];
    rows.extend((0..ODDS).map(|place| row(odd(place), Visibility::PublicFull)));
    let shelf = Shelf::with(rows).await;
    rows::receipts(shelf.clone()).issue(call()).await.unwrap();
    let today = u32::try_from(rows::today().unix() / 86_400).unwrap();
    let name =
        |name: &str, receipts, tokens| NameTotal { name: name.into(), receipts, succeeded: receipts - 7, tokens };
    shelf.set_totals(Totals {
        names: vec![
            name("night-researcher", 812, 9_120_455),
            name("us.amazon.nova-micro-v1:0", 401, 1_700_012),
            name("claude-sonnet-4-5", 77, 60_210),
        ],
        days: (0..30).filter(|day| day % 7 != 3).map(|day| (today - day, u64::from(day * 37 % 61 + 4))).collect(),
    });
    shelf
}
