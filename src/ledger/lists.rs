//! The public list and its sums, as JSON.

use http::{header::LINK, request::Parts};
use serde_json::json;

use super::{
    Ledger,
    answer::{Answer, Refusal, SHORT, insert, json, open},
    receipts::parameter,
};
use crate::{protocol::Timestamp, store::Totals};

/// How many receipts a page has unless it is asked for fewer or more.
const PAGE: usize = 20;
const LARGEST_PAGE: usize = 100;
/// How many names the leaderboard has.
pub(super) const NAMES: usize = 20;
/// How many days the sums are for, today included.
pub(super) const DAYS: u32 = 30;

const SECONDS_PER_DAY: i64 = 86_400;

/// Which page of the list.
pub(super) struct Page {
    pub(super) before: Option<u64>,
    pub(super) limit: usize,
}

impl Page {
    pub(super) fn asked(head: &Parts) -> Result<Self, Refusal> {
        const LIMIT: Refusal = Refusal::bad_request("invalid_limit", "Write limit=1 to limit=100.");
        const CURSOR: Refusal =
            Refusal::bad_request("invalid_cursor", "Write before= and what stands in the `next` of a page.");
        // Digits alone: a sign is none.
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        let limit = match parameter(head, "limit").map_err(|_| LIMIT)? {
            Some(text) => number(text).and_then(|limit: u64| usize::try_from(limit).ok()).ok_or(LIMIT)?,
            None => PAGE,
        };
        let before = match parameter(head, "before").map_err(|_| CURSOR)? {
            Some(text) => Some(number(text).ok_or(CURSOR)?),
            None => None,
        };
        if !(1..=LARGEST_PAGE).contains(&limit) {
            return Err(LIMIT);
        }
        Ok(Self { before, limit })
    }
}

/// The sums, and how many paid receipts were made on each of the last days.
pub(super) struct Sums {
    pub(super) totals: Totals,
    /// The day as a date, and its number.
    pub(super) days: Vec<(String, u64)>,
}

impl Ledger {
    pub(super) async fn sums(&self) -> Result<Sums, Refusal> {
        let today = u32::try_from(self.clock.now().unix().div_euclid(SECONDS_PER_DAY)).unwrap_or_default();
        let since = today.saturating_sub(DAYS - 1);
        let totals = self.receipts.store().totals(NAMES, since).await?;
        let count = |day| totals.days.iter().find(|(known, _)| *known == day).map_or(0, |(_, count)| *count);
        let days = (since..=today).map(|day| (date(day), count(day))).collect();
        Ok(Sums { totals, days })
    }

    pub(super) async fn public_list(&self, head: &Parts) -> Result<Answer, Refusal> {
        let Page { before, limit } = Page::asked(head)?;
        let page = self.receipts.store().public_page(before, limit).await?;
        let next = match page.next {
            // As text: a number in JSON is not exact everywhere.
            Some(next) => format!("\"{next}\""),
            None => "null".to_owned(),
        };
        let mut answer = json(format!("{{\"next\":{next},\"receipts\":[{}]}}", page.receipts.join(",")), SHORT);
        if let Some(next) = page.next {
            let base = self.receipts.base_url();
            let next = format!("<{base}/v1/receipts/public?limit={limit}&before={next}>; rel=\"next\"");
            insert(answer.headers_mut(), LINK, &next);
        }
        Ok(open(answer))
    }

    pub(super) async fn leaderboard(&self) -> Result<Answer, Refusal> {
        let Sums { totals, days } = self.sums().await?;
        let names: Vec<_> = totals
            .names
            .iter()
            .map(|name| {
                json!({
                    "name": name.name,
                    "receipts": name.receipts,
                    "succeeded": name.succeeded,
                    "tokens": name.tokens,
                })
            })
            .collect();
        let days: Vec<_> = days.iter().map(|(date, paid)| json!({"date": date, "paid": paid})).collect();
        Ok(open(json(json!({"days": days, "names": names}).to_string(), SHORT)))
    }
}

/// `2026-06-05`, of a day since the Unix epoch.
fn date(day: u32) -> String {
    let instant = Timestamp::from_unix(i64::from(day) * SECONDS_PER_DAY).map(|instant| instant.to_string());
    instant.as_deref().and_then(|text| text.split('T').next()).unwrap_or_default().to_owned()
}
