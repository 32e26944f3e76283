//! The page of the public list.

use std::fmt::{self, Display};

use http::request::Parts;

use super::{
    super::{
        Ledger,
        answer::{Answer, Refusal, SHORT},
        lists::{DAYS, Page, Sums},
        shown::{Kind, Members, paid, shown, visible},
    },
    page,
};
use crate::{html::Escaped, protocol::ReceiptId, store::PublicPage};

/// The measures of the chart, in units of its own.
const BAR: u64 = 20;
const HEIGHT: u64 = 100;

impl Ledger {
    pub(in super::super) async fn list_page(&self, head: &Parts) -> Result<Answer, Refusal> {
        let asked = Page::asked(head)?;
        let shown = self.receipts.store().public_page(asked.before, asked.limit).await?;
        let sums = match asked.before {
            None => Some(self.sums().await?),
            Some(_) => None,
        };
        let body = Body { ledger: self, asked: &asked, shown: &shown, sums: sums.as_ref() };
        Ok(page(self, &"Public receipts", &body, false, SHORT))
    }
}

struct Body<'a> {
    ledger: &'a Ledger,
    asked: &'a Page,
    shown: &'a PublicPage,
    /// Only on the first page.
    sums: Option<&'a Sums>,
}

fn chart(f: &mut fmt::Formatter<'_>, days: &[(String, u64)]) -> fmt::Result {
    let most = days.iter().map(|(_, count)| *count).max().unwrap_or_default();
    let all = days.iter().map(|(_, count)| *count).fold(0, u64::saturating_add);
    write!(f, "<section class=\"card\">\n<h2>Payments per day</h2>\n<p class=\"note\">{all} in {DAYS} days")?;
    if let Some((date, count)) = days.iter().rev().find(|(_, count)| *count == most && most > 0) {
        write!(f, ", the most on {}: {count}", Escaped(date))?;
    }
    write!(
        f,
        "</p>\n<svg class=\"chart\" viewBox=\"0 0 {} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"Payments per day: {all} in {DAYS} days, at most {most} on one\">\n",
        BAR.saturating_mul(days.len() as u64),
    )?;
    for (place, (date, count)) in (0_u64..).zip(days) {
        // A day with any payment has a bar that is seen. In 128 bits: counts may be large.
        let height = u128::from(HEIGHT) * u128::from(*count) / u128::from(most.max(1));
        let height = u64::try_from(height).unwrap_or(HEIGHT).max(if *count > 0 { 3 } else { 1 });
        let class = if *count > 0 { "bar" } else { "bar none" };
        writeln!(
            f,
            "<rect class=\"{class}\" x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\">\
             <title>{date}: {count}</title></rect>",
            x = place * BAR + 3,
            y = HEIGHT.saturating_sub(height),
            width = BAR - 6,
            date = Escaped(date),
        )?;
    }
    f.write_str("</svg>\n")?;
    if let (Some((first, _)), Some((last, _))) = (days.first(), days.last()) {
        writeln!(f, "<p class=\"axis\"><span>{}</span><span>{}</span></p>", Escaped(first), Escaped(last))?;
    }
    f.write_str("</section>\n")
}

/// Who has the most receipts.
fn leaderboard(f: &mut fmt::Formatter<'_>, sums: &Sums) -> fmt::Result {
    if sums.totals.names.is_empty() {
        return Ok(());
    }
    f.write_str(
        "<section class=\"card\">\n<h2>Most receipts</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Most receipts\"><table>\n<thead><tr>\
         <th scope=\"col\">Agent or model</th><th scope=\"col\" class=\"number\">Receipts</th>\
         <th scope=\"col\" class=\"number\">Succeeded</th><th scope=\"col\" class=\"number\">Tokens</th></tr></thead>\n\
         <tbody>\n",
    )?;
    for total in &sums.totals.names {
        let name = if total.name.is_empty() { "not named".to_owned() } else { visible(&total.name) };
        let count = |number: u64| shown(&number.to_string(), Kind::Count);
        writeln!(
            f,
            "<tr><th scope=\"row\">{}</th><td class=\"number\">{}</td><td class=\"number\">{}</td>\
             <td class=\"number\">{}</td></tr>",
            Escaped(&name),
            count(total.receipts),
            count(total.succeeded),
            count(total.tokens),
        )?;
    }
    f.write_str("</tbody>\n</table></div>\n</section>\n")
}

/// One receipt of the list.
fn entry(f: &mut fmt::Formatter<'_>, base: &str, json: &str) -> fmt::Result {
    let Some(receipt) = Members::parse(json) else { return Ok(()) };
    let Some(id) = receipt.text("receipt_id").and_then(|id| id.parse::<ReceiptId>().ok()) else { return Ok(()) };
    let text = |name: &str, kind| receipt.raw(name).map(|raw| shown(raw, kind));
    let name = ["agent_handle", "model_id", "provider"].iter().find_map(|name| text(name, Kind::Plain));
    let status = text("status", Kind::Plain).unwrap_or_default();
    let class = match status.as_str() {
        "succeeded" => "pill good",
        "failed" | "blocked" => "pill bad",
        _ => "pill",
    };
    write!(
        f,
        "<li><a href=\"{base}/r/{id}\"><span class=\"name\">{name}</span><span class=\"amount\">{paid}</span>\
         <span class=\"what\">{kind}",
        base = Escaped(base),
        name = Escaped(name.as_deref().unwrap_or("not named")),
        paid = Escaped(&paid(&receipt)),
        kind = Escaped(&text("receipt_type", Kind::Plain).unwrap_or_default()),
    )?;
    if !status.is_empty() {
        write!(f, " <span class=\"{class}\">{}</span>", Escaped(&status))?;
    }
    let when = text("created_at", Kind::Instant).unwrap_or_default();
    writeln!(f, "</span><time>{}</time></a></li>", Escaped(&when))
}

impl Display for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = self.ledger.base_path();
        f.write_str("<main class=\"wide\">\n<h1>Public receipts</h1>\n")?;
        f.write_str(
            "<p class=\"note\">Each is signed. Open one, and your browser checks its signature against the keys of \
             this ledger.</p>\n",
        )?;
        if let Some(sums) = self.sums {
            f.write_str("<div class=\"cards\">\n")?;
            chart(f, &sums.days)?;
            leaderboard(f, sums)?;
            f.write_str("</div>\n")?;
        }
        if self.shown.receipts.is_empty() {
            f.write_str("<p class=\"empty\">There is no public receipt here yet.</p>\n")?;
        } else {
            f.write_str("<ol class=\"entries\">\n")?;
            for json in &self.shown.receipts {
                entry(f, base, json)?;
            }
            f.write_str("</ol>\n")?;
        }
        f.write_str("<nav class=\"pages\" aria-label=\"Pages\">")?;
        let (base, limit) = (Escaped(base), self.asked.limit);
        if self.asked.before.is_some() {
            write!(f, "<a href=\"{base}/ledger?limit={limit}\">Newest</a>")?;
        }
        if let Some(next) = self.shown.next {
            write!(f, "<a rel=\"next\" href=\"{base}/ledger?limit={limit}&amp;before={next}\">Older</a>")?;
        }
        f.write_str("</nav>\n</main>\n")
    }
}
