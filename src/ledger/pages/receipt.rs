//! The page of a receipt.

use std::fmt::{self, Display};

use http::request::Parts;

use super::{
    super::{
        Ledger,
        answer::{Answer, PRIVATE, Refusal, SHORT},
        receipts::{Seen, View, see},
        shown::{Kind, Members, modules, paid, shown, took},
    },
    page,
};
use crate::{
    html::Escaped,
    protocol::{ContentDigest, ReceiptId},
};

/// How many receipts that add to this one are named.
const CHILDREN: usize = 50;

type Facts = &'static [(&'static str, &'static str, Kind)];

/// What is shown, in which words. The script of the page has the same names of members and the same kinds.
const SECTIONS: [(&str, Facts); 6] = [
    (
        "Payment",
        &[
            ("payment.method", "Method", Kind::Plain),
            ("payment.intent", "Intent", Kind::Plain),
            ("settlement_protocol", "Protocol", Kind::Plain),
            ("payment.reference", "Reference", Kind::Plain),
            ("payment.challenge_id", "Challenge", Kind::Plain),
        ],
    ),
    (
        "Call",
        &[
            ("agent_handle", "Agent", Kind::Plain),
            ("provider", "Provider", Kind::Plain),
            ("upstream_provider", "Behind it", Kind::Plain),
            ("model_id", "Model", Kind::Plain),
            ("region", "Region", Kind::Plain),
            ("environment", "Environment", Kind::Plain),
            ("http_status", "HTTP status", Kind::Plain),
            ("provider_status", "Provider's status", Kind::Plain),
            ("error_class", "Kind of error", Kind::Plain),
            ("error_code", "Error", Kind::Plain),
            ("cache_status", "Cache", Kind::Plain),
            ("policy_decision", "Policy", Kind::Plain),
            ("routing_decision", "Routing", Kind::Plain),
        ],
    ),
    (
        "Tokens and cost",
        &[
            ("input_tokens", "Tokens in", Kind::Count),
            ("output_tokens", "Tokens out", Kind::Count),
            ("cache_read_tokens", "Read from cache", Kind::Count),
            ("cache_write_tokens", "Written to cache", Kind::Count),
            ("tokens_source", "Counted by", Kind::Plain),
            ("cost_estimated_usd", "Cost, estimated", Kind::Dollars),
            ("cost_estimate_confidence", "Estimate is", Kind::Plain),
            ("cost_final_usd", "Cost, final", Kind::Dollars),
            ("cost_source", "Cost from", Kind::Plain),
            ("pricing_table_id", "Price table", Kind::Plain),
            ("pricing_version", "Its version", Kind::Plain),
            ("pricing_effective_at", "In force since", Kind::Instant),
        ],
    ),
    (
        "Time",
        &[
            ("request_started_at", "Began", Kind::Instant),
            ("request_ended_at", "Ended", Kind::Instant),
            ("took", "Took", Kind::Plain),
            ("created_at", "Signed", Kind::Instant),
        ],
    ),
    (
        "Names and accounts",
        &[
            ("request_id", "Request", Kind::Plain),
            ("client_request_id", "Client's request", Kind::Plain),
            ("idempotency_key", "Idempotency key", Kind::Plain),
            ("agent_id", "Agent's id", Kind::Plain),
            ("tenant_id", "Tenant", Kind::Plain),
            ("project_id", "Project", Kind::Plain),
            ("customer_id", "Customer", Kind::Plain),
            ("user_id", "User", Kind::Plain),
            ("api_key_id", "API key", Kind::Plain),
            ("aws_account_id", "AWS account", Kind::Plain),
            ("iam_principal", "IAM principal", Kind::Plain),
        ],
    ),
    (
        "Signature and hashes",
        &[
            ("receipt_id", "Receipt", Kind::Plain),
            ("visibility", "Visibility", Kind::Plain),
            ("redaction_policy", "Redacted by", Kind::Plain),
            ("signing_algorithm", "Algorithm", Kind::Plain),
            ("signing_key_id", "Key", Kind::Plain),
            ("digest", "Digest", Kind::Plain),
            ("payload_capture", "Payloads kept", Kind::Plain),
            ("client_request_hash", "Client's request", Kind::Plain),
            ("provider_request_hash", "Provider's request", Kind::Plain),
            ("provider_response_hash", "Provider's answer", Kind::Plain),
            ("client_response_hash", "Client's answer", Kind::Plain),
        ],
    ),
];

impl Ledger {
    pub(in super::super) async fn receipt_page(&self, head: &Parts, id: Option<ReceiptId>) -> Result<Answer, Refusal> {
        let seen = self.seen(head, id).await?;
        let view = if seen.owned { View::Most } else { View::Public };
        let store = self.receipts.store();
        let mut children = Vec::new();
        for row in store.children(seen.row.id, CHILDREN).await? {
            children.extend(see(row, seen.owned, view).ok());
        }
        let receipt = Members::parse(&seen.json).ok_or(Refusal::unavailable())?;
        let named = receipt.text("parent_receipt_id").and_then(|id| id.parse().ok());
        // A link that leads nowhere for the reader is none.
        let parent = match named {
            Some(id) => store.get(id).await?.and_then(|row| see(row, seen.owned, view).ok()).map(|_| id),
            None => None,
        };
        let cache = if seen.owned || seen.row.provisional { PRIVATE } else { SHORT };
        let title = format!("Receipt {}", seen.row.id);
        let body = Body { ledger: self, seen: &seen, receipt, parent, children: &children };
        Ok(page(self, &title, &body, true, cache))
    }
}

struct Body<'a> {
    ledger: &'a Ledger,
    seen: &'a Seen,
    receipt: Members<'a>,
    parent: Option<ReceiptId>,
    children: &'a [Seen],
}

impl Body<'_> {
    /// A member in the words of the page.
    fn text(&self, member: &str, kind: Kind) -> Option<String> {
        match member {
            "took" => took(&self.receipt),
            "digest" => Some(ContentDigest::of(self.receipt.without("signature").as_bytes()).to_string()),
            _ => match member.split_once('.') {
                Some((outer, inner)) => {
                    Members::parse(self.receipt.raw(outer)?)?.raw(inner).map(|raw| shown(raw, kind))
                }
                None => self.receipt.raw(member).map(|raw| shown(raw, kind)),
            },
        }
    }

    fn facts(&self, f: &mut fmt::Formatter<'_>, title: &str, facts: Facts) -> fmt::Result {
        let mut open = false;
        for (member, label, kind) in facts {
            let Some(text) = self.text(member, *kind) else { continue };
            if !open {
                write!(f, "<section>\n<h2>{title}</h2>\n<dl>\n")?;
                open = true;
            }
            writeln!(f, "<div><dt>{label}</dt><dd data-show=\"{member}\">{}</dd></div>", Escaped(&text))?;
        }
        f.write_str(if open { "</dl>\n</section>\n" } else { "" })
    }

    fn lead(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("<p class=\"lead\">")?;
        for member in ["receipt_type", "status", "model_id"] {
            let Some(text) = self.text(member, Kind::Plain) else { continue };
            let class = match (member, text.as_str()) {
                ("status", "succeeded") => "pill good",
                ("status", "failed" | "blocked") => "pill bad",
                ("status", _) => "pill",
                _ => "word",
            };
            write!(f, "<span class=\"{class}\" data-show=\"{member}\">{}</span> ", Escaped(&text))?;
        }
        f.write_str("</p>\n")
    }

    fn modules(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let modules = modules(&self.receipt);
        if modules.is_empty() {
            return Ok(());
        }
        f.write_str("<section>\n<h2>Modules</h2>\n<ol class=\"chain\" data-show=\"module_chain\">")?;
        for module in &modules {
            write!(f, "<li>{}</li>", Escaped(module))?;
        }
        f.write_str("</ol>\n</section>\n")
    }

    fn related(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = Escaped(self.ledger.base_path());
        if let Some(id) = self.text("parent_receipt_id", Kind::Plain) {
            let text = format!("<span data-show=\"parent_receipt_id\">{}</span>", Escaped(&id));
            f.write_str("<section>\n<h2>Adds to</h2>\n<p class=\"mono\">")?;
            match self.parent {
                Some(parent) => write!(f, "<a href=\"{base}/r/{parent}\">{text}</a>")?,
                None => f.write_str(&text)?,
            }
            f.write_str("</p>\n</section>\n")?;
        }
        if self.children.is_empty() {
            return Ok(());
        }
        f.write_str("<section>\n<h2>Added later</h2>\n<ul class=\"related\">\n")?;
        for child in self.children {
            let Some(receipt) = Members::parse(&child.json) else { continue };
            let text = |name, kind| receipt.raw(name).map(|raw| shown(raw, kind)).unwrap_or_default();
            writeln!(
                f,
                "<li><a href=\"{base}/r/{id}\">{kind}</a> <span>{status}</span> <span>{paid}</span> \
                 <time>{when}</time></li>",
                id = child.row.id,
                kind = Escaped(&text("receipt_type", Kind::Plain)),
                status = Escaped(&text("status", Kind::Plain)),
                paid = Escaped(&paid(&receipt)),
                when = Escaped(&text("created_at", Kind::Instant)),
            )?;
        }
        f.write_str("</ul>\n<p class=\"note\">Each is a receipt with a signature of its own.</p>\n</section>\n")
    }

    fn commands(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let receipts = &self.ledger.receipts;
        let (id, base) = (self.seen.row.id, receipts.base_url());
        let keys = format!("{base}{}", receipts.keys_path());
        let commands = [
            format!("cargo run --example verify_receipt -- {} --keys {keys}", receipts.url(id)),
            format!("curl -s {base}/v1/receipts/{id}"),
            format!("curl -s {keys}"),
        ];
        f.write_str(
            "<section>\n<h2>Check it yourself</h2>\n<p class=\"note\">This page and its script come from the server \
             that has made the receipt. These do not: the first command checks the signature on your machine, the \
             others fetch the receipt and the keys for a program of yours.</p>\n",
        )?;
        for (place, command) in commands.iter().enumerate() {
            writeln!(
                f,
                "<div class=\"command\"><code id=\"command-{place}\">{}</code><button type=\"button\" \
                 data-copy=\"command-{place}\" hidden>Copy</button></div>",
                Escaped(command)
            )?;
        }
        f.write_str("</section>\n")
    }
}

impl Display for Body<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base = Escaped(self.ledger.base_path());
        writeln!(
            f,
            "<main class=\"paper\" id=\"receipt\" data-id=\"{id}\" data-api=\"{base}/v1/receipts/{id}?view={view}\" \
             data-keys=\"{base}{keys}\">",
            id = self.seen.row.id,
            view = if self.seen.owned { "full" } else { "public" },
            keys = Escaped(&self.ledger.receipts.keys_path()),
        )?;
        f.write_str(
            "<div class=\"badge\" id=\"badge\" data-state=\"unchecked\" role=\"status\" aria-live=\"polite\">\
             <span class=\"mark\" aria-hidden=\"true\"></span><p><strong id=\"verdict\">Not checked in your \
             browser</strong> <span id=\"reason\">That needs JavaScript. The commands below need none.</span></p></div>\n",
        )?;
        f.write_str("<p class=\"eyebrow\">Receipt</p>\n")?;
        writeln!(f, "<h1 data-show=\"amount\">{}</h1>", Escaped(&paid(&self.receipt)))?;
        self.lead(f)?;
        if self.seen.row.provisional {
            f.write_str(
                "<p class=\"note\">Provisional: it was signed when the answer began. The final one takes its place \
                 under the same address.</p>\n",
            )?;
        }
        let [payment, call, tokens, time, names, signature] = &SECTIONS;
        for (title, facts) in [payment, call, tokens, time] {
            self.facts(f, title, facts)?;
        }
        self.modules(f)?;
        self.related(f)?;
        self.facts(f, names.0, names.1)?;
        self.facts(f, signature.0, signature.1)?;
        self.commands(f)?;
        writeln!(
            f,
            "<details>\n<summary>All that is signed</summary>\n<pre data-show=\"json\">{}</pre>\n</details>\n</main>",
            Escaped(&self.receipt.lines())
        )
    }
}
