//! The services as markdown, line by line as deployed peers write them.
//!
//! Titles and descriptions are text: what would be markup in them is escaped and they stay on their line, so that no
//! text can look like a route or a price.

use std::fmt::Write as _;

use serde_json::Value;

use super::{
    catalog::{Catalog, Route, Service, Terms},
    node::trimmed,
};
use crate::protocol::Amount;

const TITLE: &str = "API Proxy";
const DESCRIPTION: &str = "Paid API proxy powered by [Machine Payments Protocol](https://mpp.tempo.xyz).";

/// `/llms.txt`, `/discover.md` and `/discover` as text.
pub(super) fn llms(catalog: &Catalog) -> String {
    let title = some(catalog.title.as_deref()).map_or_else(|| TITLE.into(), inline);
    let description = some(catalog.description.as_deref()).map_or_else(|| DESCRIPTION.into(), line);
    let base = &catalog.base_path;
    let mut text = format!("# {title}\n\n> {description}\n");
    if !catalog.services.is_empty() {
        text.push_str("\n## Services\n\n");
        for service in &catalog.services {
            item(&mut text, service.name(), &format!("{base}/discover/{}.md", service.id), &service.description);
        }
        let _ = write!(text, "\n[See all service definitions]({base}/discover/all.md)");
    }
    if !catalog.links.is_empty() {
        let blank = if catalog.services.is_empty() { "" } else { "\n" };
        let _ = write!(text, "{blank}\n## Documents\n\n");
        for link in &catalog.links {
            item(&mut text, &link.title, &link.url.replace('(', "%28").replace(')', "%29"), &link.description);
        }
    }
    text
}

fn item(text: &mut String, title: &str, url: &str, description: &Option<String>) {
    let _ = write!(text, "- [{}]({url})", inline(title));
    if let Some(description) = some(description.as_deref()) {
        let _ = write!(text, ": {}", inline(description));
    }
    text.push('\n');
}

/// `/discover/all.md`.
pub(super) fn all(catalog: &Catalog) -> String {
    let mut blocks = vec!["# Services".to_owned()];
    for service in &catalog.services {
        let base = &catalog.base_path;
        blocks.push(format!("## [{}]({base}/discover/{}.md)", inline(service.name()), service.id));
        blocks.extend(some(service.description.as_deref()).map(line));
        push_routes(&mut blocks, "### Routes", service, base);
    }
    blocks.join("\n\n") + "\n"
}

/// `/discover/{id}.md`.
pub(super) fn service(service: &Service, base: &str) -> String {
    let mut blocks = vec![format!("# {}", inline(service.name()))];
    blocks.extend(service.docs_llms_url.as_ref().map(|url| format!("> Documentation: {url}")));
    blocks.extend(some(service.description.as_deref()).map(line));
    push_routes(&mut blocks, "## Routes", service, base);
    blocks.join("\n\n") + "\n"
}

fn push_routes(blocks: &mut Vec<String>, heading: &str, service: &Service, base: &str) {
    if !service.routes.is_empty() {
        blocks.push(heading.to_owned());
        blocks.extend(service.routes.iter().map(|each| route(each, base)));
    }
}

fn route(route: &Route, base: &str) -> String {
    let mut text = match &route.method {
        Some(method) => format!("- `{method} {base}{}`", route.path),
        None => format!("- `{base}{}`", route.path),
    };
    if let Some(says) = route.says() {
        let _ = write!(text, ": {}", inline(says));
    }
    let (kind, terms) = match route.offers() {
        None => ("free".into(), [].as_slice()),
        // What peers write about a price that nobody knows.
        Some([]) => ("undefined".into(), [].as_slice()),
        Some([first, ..]) => {
            (first.text("intent").map_or_else(|| "undefined".into(), inline), route.offers().unwrap_or_default())
        }
    };
    let _ = write!(text, "\n  - Type: {kind}");
    for (at, terms) in terms.iter().enumerate() {
        let (price, currency) = (price(terms), terms.text("currency").map(inline));
        if at == 0 {
            let _ = price.map(|(label, price)| write!(text, "\n  - {label}: {price}"));
            let _ = currency.map(|currency| write!(text, "\n  - Currency: {currency}"));
        } else {
            let _ = write!(text, "\n  - Or: {}", or(terms, price, currency));
        }
    }
    if let Some(url) = &route.docs_llms_url {
        let _ = write!(text, "\n  - Docs: {url}");
    }
    text
}

/// One more way to pay: `charge by stripe, 0.5 (50 units, 2 decimals), usd`.
fn or(terms: &Terms, price: Option<(&str, String)>, currency: Option<String>) -> String {
    let name = |member| terms.text(member).map_or_else(|| "undefined".into(), inline);
    let mut text = format!("{} by {}", name("intent"), name("method"));
    match price {
        Some(("Units", units)) => text += &format!(", {units} units"),
        Some((_, price)) => text += &format!(", {price}"),
        None => {}
    }
    currency.into_iter().for_each(|currency| text += &format!(", {currency}"));
    text
}

/// The price of one offer, with its label: exact, however large or small it is.
fn price(terms: &Terms) -> Option<(&'static str, String)> {
    let per = terms.text("unitType").map_or_else(String::new, |unit| format!("/{}", inline(unit)));
    let amount = match terms.find("amount")? {
        Value::Null => return Some(("Price", "depends on the request".into())),
        Value::String(amount) => amount.clone(),
        other => other.to_string(),
    };
    let decimals = terms.find("decimals").and_then(Value::as_u64).and_then(|decimals| u8::try_from(decimals).ok());
    Some(match (amount.parse::<Amount>(), decimals) {
        (Ok(units), Some(decimals)) => {
            let price = units.to_decimal(decimals);
            ("Price", format!("{}{per} ({units} units, {decimals} decimals)", trimmed(&price)))
        }
        _ => ("Units", inline(&amount)),
    })
}

fn some(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}

/// Text on a line of its own: not a heading, an item, a quote or a rule either.
fn line(text: &str) -> String {
    let text = inline(text);
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let mut after = text.bytes().skip(digits);
    if digits > 0 && matches!((after.next(), after.next()), (Some(b'.' | b')'), None | Some(b' '))) {
        let (number, rest) = text.split_at(digits);
        return format!("{number}\\{rest}");
    }
    if text.starts_with(['#', '-', '+', '*', '_', '>', '=', '~', '|', ':']) { format!("\\{text}") } else { text }
}

/// Text within a line.
fn inline(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            // Whatever some reader may take for the end of a line, or for a change of direction.
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{200e}' | '\u{200f}') => written.push(' '),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => written.push(' '),
            '\\' | '`' | '[' | ']' | '<' => written.extend(['\\', character]),
            other => written.push(other),
        }
    }
    written.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_exact_at_any_size() {
        let of = |amount: &str, decimals: u64| {
            price(&Terms::new().member("amount", amount).member("decimals", decimals)).map(|(_, text)| text)
        };
        for (amount, decimals, text) in [
            ("50000", 6, "0.05 (50000 units, 6 decimals)"),
            ("100", 2, "1 (100 units, 2 decimals)"),
            ("0", 2, "0 (0 units, 2 decimals)"),
            ("1", 18, "0.000000000000000001 (1 units, 18 decimals)"),
            ("123456789012345678901", 6, "123456789012345.678901 (123456789012345678901 units, 6 decimals)"),
            ("100", 0, "100 (100 units, 0 decimals)"),
            ("1e3", 2, "1e3"),
            ("1", 300, "1"),
        ] {
            assert_eq!(of(amount, decimals).as_deref(), Some(text));
        }
    }

    #[test]
    fn text_stays_text() {
        assert_eq!(inline(" a\nb\u{2028}c `d` [e](f) <g> \\ "), "a b c \\`d\\` \\[e\\](f) \\<g> \\\\");
        assert_eq!(line("- `GET /x`"), "\\- \\`GET /x\\`");
        assert_eq!(line("1. one"), "1\\. one");
        assert_eq!(line("4.6 is a number"), "4.6 is a number");
        assert_eq!(line("\u{1}- one"), "\\- one");
        assert_eq!(line("plain, with - and # inside."), "plain, with - and # inside.");
    }
}
