//! `GET /SKILL.md`: how an agent pays here, made from what is configured.

use std::fmt::Write as _;

use tower_mpp::{Merchant, Price};

use super::{CAPABILITIES, CATALOG, MESSAGES, QUOTE, Stated, WELL_KNOWN, menu, menu::Menu};

/// What the text is made of.
pub(super) struct Skill<'a> {
    pub(super) name: &'a str,
    pub(super) merchant: &'a Merchant,
    pub(super) menu: &'a Menu,
    pub(super) state: &'a Stated,
    /// Where the gateway is reached.
    pub(super) origin: &'a str,
    /// Whether there are documents for everybody beside those of this surface.
    pub(super) discovery: bool,
    pub(super) refunds: bool,
    pub(super) challenge_secs: u64,
    pub(super) max_tokens: u64,
    pub(super) token_credentials: bool,
}

impl Skill<'_> {
    /// The whole text.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a text cannot fail.
        let _ = self.write(&mut text);
        text
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        let name = line(self.name);
        let base = self.origin;
        let model = self.menu.options().live().next().map_or("", |option| &option.id);
        writeln!(
            out,
            "---\nname: pay-{}\ndescription: Buy single model calls from {name} with a wallet, without an account or an API key.\n---\n",
            slug(self.merchant.realm().as_str()),
        )?;
        writeln!(out, "# Paying {name} for model calls\n")?;
        writeln!(out, "Status: **{}**. {}\n", self.state.status, line(&self.state.reason))?;
        if self.merchant.is_test_mode() {
            writeln!(out, "This is test mode: no real money moves.\n")?;
        }
        writeln!(out, "## What is sold\n")?;
        writeln!(
            out,
            "`POST {MESSAGES}` takes a body in the shape of Anthropic's Messages API (`model`, `max_tokens`, `messages`, and what else it knows, `stream` included) and answers in the same shape. One payment buys one call of at most {} tokens.\n",
            self.max_tokens
        )?;
        writeln!(out, "| model | is | price of a call | |\n|---|---|---|---|")?;
        let default = self.menu.options().default().map(|option| option.id.as_str());
        for option in self.menu.options().live() {
            let note = if default == Some(option.id.as_str()) { "when the body names no model" } else { "" };
            writeln!(
                out,
                "| `{}` | `{}` | {} | {note} |",
                cell(&option.id),
                cell(&option.model),
                price(&option.price)
            )?;
        }
        writeln!(
            out,
            "\nAsk for a model by its id, by its name, or by an alias that `GET {CATALOG}` lists. Any other is answered 400 before any challenge.\n"
        )?;
        writeln!(out, "## How to pay\n")?;
        writeln!(
            out,
            "1. Optional, free: `POST {QUOTE}` with the body that you are going to send, or with `{{\"model\":\"{model}\"}}`. It tells the price and the terms.\n\
             2. Send the request without an `Authorization` header:\n\n   \
             ```sh\n   curl -i {base}{MESSAGES} -H 'content-type: application/json' \\\n     -d '{{\"model\":\"{model}\",\"max_tokens\":256,\"messages\":[{{\"role\":\"user\",\"content\":\"Hello\"}}]}}'\n   ```\n\n   \
             The answer is `402 Payment Required` with `WWW-Authenticate: Payment ...`. Its `request` parameter (base64url JSON) says amount, currency and recipient.\n\
             3. Decide whether that is what you want to buy. Let your wallet answer the challenge before it expires ({} seconds).\n\
             4. Send the same request again with `Authorization: Payment ...`. **Keep the body byte for byte the same**: the challenge is bound to its SHA-256, and another body is answered 402 without a charge.\n\
             5. Read `Payment-Receipt` of the answer. It is there only when the call succeeded, and says what was paid.\n",
            self.challenge_secs
        )?;
        writeln!(out, "Ways to pay:\n")?;
        let first = self.menu.options().live().next();
        for offer in first.map(|option| self.merchant.offers(option.price.clone())).unwrap_or_default() {
            let to = offer.recipient.as_deref().map(|to| format!(" to `{}`", cell(to))).unwrap_or_default();
            writeln!(out, "- `{}` / `{}` in {}{to}", offer.method, offer.intent, offer.currency)?;
        }
        if self.token_credentials {
            writeln!(
                out,
                "\nA wallet that hands out a bare token may send `Authorization: Payment id=\"CHALLENGE_ID\", credential=\"TOKEN\"` instead of the base64url form."
            )?;
        }
        writeln!(out, "\n## Rules\n")?;
        writeln!(
            out,
            "- Never send `Authorization: Bearer` or an API key to `{MESSAGES}`. It is refused, and it is no payment.\n\
             - A credential buys one call, once. Never make a second payment by reflex: when something fails, send the same request with the same credential again. It is not charged twice.\n\
             - An `Idempotency-Key` on the paid request makes a lost answer repeatable: same key, same credential, same body.\n\
             - 409 and 503 come with `Retry-After`: wait, and send the same credential again.\n\
             - A paid call that failed says in `Payment-Outcome` what became of the money: `redeliverable`, `refunded` or `unfulfilled`."
        )?;
        let refunds = if self.refunds {
            "Refunds are on; the rules stand in the discovery document."
        } else {
            "There are no refunds by rule. What was paid and not delivered stays good for the same credential for a while."
        };
        writeln!(out, "- {refunds}\n- Funded sessions are not live.\n")?;
        writeln!(out, "## Where to read more\n")?;
        let own = [
            (WELL_KNOWN, "the discovery document"),
            (CATALOG, "models, prices and routes"),
            (CAPABILITIES, "what is switched on"),
        ];
        let others =
            [("/openapi.json", "the routes, with schemas and prices"), ("/llms.txt", "the same for language models")];
        for (path, what) in own.into_iter().chain(others.into_iter().filter(|_| self.discovery)) {
            writeln!(out, "- `GET {path}`: {what}")?;
        }
        Ok(())
    }
}

fn price(price: &Price) -> String {
    format!("{} {}", menu::decimal(price), price.currency().as_str().to_uppercase())
}

/// One line, whatever is in the configuration.
fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The same within a table and code.
fn cell(text: &str) -> String {
    line(text).replace(['|', '`'], " ")
}

/// Letters, digits and hyphens.
fn slug(text: &str) -> String {
    let plain =
        text.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter.to_ascii_lowercase() } else { '-' });
    plain.collect::<String>().trim_matches('-').to_owned()
}
