//! Pages for people. They load nothing from anywhere, and run no script but the one that is named here by its hash.

mod list;
mod receipt;

use std::{
    fmt::{Display, Write as _},
    sync::LazyLock,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use http::{
    HeaderValue,
    header::{CONTENT_SECURITY_POLICY, CONTENT_TYPE},
};
use sha2::{Digest as _, Sha256};

use super::{
    Ledger,
    answer::{Answer, NO_STORE, Refusal, answer},
};
use crate::html::Escaped;

const HTML: HeaderValue = HeaderValue::from_static("text/html; charset=utf-8");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("verify.js");

/// Which scripts and styles may be on a page: ours, by their hashes, and nothing that was slipped in.
static POLICIES: LazyLock<[HeaderValue; 2]> = LazyLock::new(|| {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    let policy = |scripts: &str| {
        let policy = format!(
            "default-src 'none'; {scripts}style-src {}; img-src data:; base-uri 'none'; form-action 'none'; \
             frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'",
            hash(STYLE)
        );
        // What cannot be said, which does not happen, must not allow anything.
        HeaderValue::try_from(policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
    };
    [policy(""), policy(&format!("script-src {}; connect-src 'self'; ", hash(SCRIPT)))]
});

/// A page with a body that is markup already.
fn page(ledger: &Ledger, title: &dyn Display, main: &dyn Display, script: bool, cache: HeaderValue) -> Answer {
    let mut page = String::with_capacity(32 * 1024);
    let home = Escaped(&ledger.title);
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title} · {home}</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <header class=\"top\"><a href=\"{base}/ledger\">{home}</a></header>\n{main}",
        base = Escaped(ledger.base_path()),
    );
    if script {
        let _ = writeln!(page, "<script>{SCRIPT}</script>");
    }
    page.push_str("</body>\n</html>\n");
    let mut answer = answer(page, HTML, cache);
    let [plain, scripted] = &*POLICIES;
    let policy = if script { scripted } else { plain };
    answer.headers_mut().insert(CONTENT_SECURITY_POLICY, policy.clone());
    answer.headers_mut().insert(CONTENT_TYPE, HTML);
    answer
}

/// What went wrong, for people.
pub(super) fn refusal(ledger: &Ledger, refusal: Refusal) -> Answer {
    let title = match refusal.status.as_u16() {
        404 => "No such receipt",
        410 => "Not public as a whole",
        503 => "Not available at the moment",
        _ => "Not understood",
    };
    let main = format!(
        "<main class=\"paper short\">\n<p class=\"eyebrow\">{}</p>\n<h1>{title}</h1>\n<p>{}</p>\n</main>\n",
        refusal.status.as_u16(),
        Escaped(refusal.message)
    );
    let mut answer = page(ledger, &title, &main, false, NO_STORE);
    refusal.mark(&mut answer);
    answer
}

impl Ledger {
    /// The path under which the ledger is reached from outside, without a slash at the end.
    fn base_path(&self) -> &str {
        let rest = self.receipts.base_url().split_once("://").map_or("", |(_, rest)| rest);
        rest.split_once('/').map_or("", |(host, _)| rest.strip_prefix(host).unwrap_or_default()).trim_end_matches('/')
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::protocol::Currency;

    #[test]
    fn script_and_style_cannot_end_early() {
        for text in [SCRIPT, STYLE] {
            assert!(!text.contains("</") && !text.contains("<!--") && !text.contains('\r'));
        }
    }

    /// The script knows how many decimals an amount has, as the server does: it must not take the page's word.
    #[test]
    fn the_script_knows_every_currency() {
        let table: Vec<(u8, &str)> = SCRIPT
            .lines()
            .filter_map(|line| line.trim().strip_prefix("DECIMALS[")?.split_once("] = \""))
            .map(|(digits, codes)| (digits.parse().unwrap(), codes.trim_end_matches("\";")))
            .collect();
        let letters = || 'a'..='z';
        for code in letters().flat_map(|a| letters().flat_map(move |b| letters().map(move |c| format!("{a}{b}{c}")))) {
            let upper = code.to_uppercase();
            let known = table.iter().find(|(_, codes)| codes.split(' ').any(|known| known == upper));
            let decimals = Currency::new(&code).unwrap().iso_decimals();
            assert_eq!(known.map(|(digits, _)| *digits), decimals, "{upper}");
        }
    }
}
