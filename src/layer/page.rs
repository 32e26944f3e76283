//! A page for people who open a paid address in a browser. No scripts, no assets.

use std::fmt::Write as _;

use crate::{
    flow::{Offers, Refusal},
    html::Escaped,
};

pub(super) fn page(refusal: &Refusal, offers: Option<&Offers>) -> String {
    let status = refusal.status();
    let title = status.canonical_reason().unwrap_or("Not served");
    let mut page = String::with_capacity(2048);
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{code} {title}</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<p class=\"code\">{code}</p>\n<h1>{title}</h1>\n<p>{detail}</p>\n",
        code = status.as_u16(),
        detail = Escaped(refusal.detail()),
    );
    if let Some(offers) = offers.filter(|_| refusal.has_challenge()) {
        page.push_str("<h2>Ways to pay</h2>\n<ul>\n");
        for offer in &offers.list {
            let amount = match offer.terms.currency.iso_decimals() {
                Some(decimals) => offer.terms.amount.to_decimal(decimals),
                None => offer.terms.amount.to_string(),
            };
            let _ = writeln!(
                page,
                "<li><b>{amount} {currency}</b> by {method} ({intent}){test}</li>",
                currency = Escaped(&offer.terms.currency.as_str().to_uppercase()),
                method = offer.method.method(),
                intent = offer.method.intent(),
                test = if offer.method.is_test() { ", a test rail: no real money" } else { "" },
            );
        }
        page.push_str(
            "</ul>\n<p class=\"small\">This address is paid for by programs: an agent that speaks the Machine Payments \
             Protocol reads the <code>WWW-Authenticate: Payment</code> header of this answer, pays, and repeats the request.</p>\n",
        );
    }
    page.push_str("</main>\n</body>\n</html>\n");
    page
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;margin:0;display:grid;min-height:100vh;place-items:center;\
background:#f6f6f4;color:#1c1c1a}main{max-width:34rem;padding:2rem}h1{margin:.2em 0;font-size:1.8rem}h2{font-size:1.1rem;\
margin-top:1.6rem}.code{font-size:.9rem;letter-spacing:.1em;color:#6a6a64;margin:0}.small{font-size:.85rem;color:#6a6a64}\
@media(prefers-color-scheme:dark){body{background:#1c1c1a;color:#eee}.code,.small{color:#a5a59d}}";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::RefusalKind;

    #[test]
    fn no_text_becomes_markup() {
        let refusal = Refusal::detailed(RefusalKind::NotPriced, "<script>\"&'");
        let page = page(&refusal, None);
        assert!(page.contains("&lt;script&gt;&quot;&amp;&#39;"));
        assert!(!page.contains("<script"));
    }
}
