//! What the gateway says when it starts: where it is and how to try it.

use std::io::{self, Write};
use std::net::SocketAddr;

use tower_mpp::receipt::Receipts;

use super::{
    common::journal::Location,
    routes::{ADMIN, Pricing, Route},
    settings::Settings,
    upstream::settings::UpstreamSettings,
};

/// What is needed of the settings, which are used up by then.
pub(crate) struct Greeting {
    example: Option<Example>,
    sandbox: bool,
    demo: bool,
    journal: String,
    forgets: bool,
    admin: bool,
    /// Where signed receipts are read, and where the keys are that they verify with.
    ledger: Option<(String, String)>,
}

struct Example {
    method: String,
    path: String,
    /// With an apostrophe nowhere, so that it can stand in single quotes.
    body: Option<String>,
}

impl Greeting {
    pub(crate) fn new(settings: &Settings) -> Self {
        let demo = matches!(settings.upstream, UpstreamSettings::Demo);
        let paid = |route: &&Route| !matches!(route.pricing, Pricing::Free) && is_shell_safe(&route.path);
        Self {
            example: settings.routes.iter().find(paid).map(|route| Example::of(route, demo)),
            sandbox: settings.sandbox,
            demo,
            journal: settings.journal.to_string(),
            forgets: matches!(settings.journal, Location::Memory { .. }),
            admin: settings.admin.is_some(),
            ledger: None,
        }
    }

    /// Receipts are signed.
    pub(crate) fn ledger(&mut self, receipts: Option<&Receipts>) {
        self.ledger = receipts.map(|receipts| {
            let base = receipts.base_url();
            (format!("{base}/ledger"), format!("{base}{}", receipts.keys_path()))
        });
    }

    /// Nobody has to listen: a closed standard output is fine.
    pub(crate) fn print(&self, address: SocketAddr) {
        let _ = self.write(&mut io::stdout().lock(), address);
    }

    fn write(&self, out: &mut impl Write, address: SocketAddr) -> io::Result<()> {
        writeln!(out, "listening on http://{address}")?;
        if self.sandbox {
            writeln!(
                out,
                "\nTEST MODE: the sandbox takes play money that every payer has. Whoever asks is served for nothing."
            )?;
        }
        if self.demo {
            writeln!(out, "The upstream is the built-in demo: no model is asked.")?;
        }
        if self.forgets {
            writeln!(
                out,
                "Payments are remembered in memory: a restart forgets what was paid and what was delivered."
            )?;
        } else {
            writeln!(out, "Payments are remembered in {}.", self.journal)?;
        }
        if self.admin {
            writeln!(out, "The operator's routes are on, under {ADMIN}.")?;
        }
        if let Some((ledger, keys)) = &self.ledger {
            writeln!(out, "Every paid call gets a signed receipt: {ledger} (keys: {keys}).")?;
        }
        let Some(Example { method, path, body }) = &self.example else { return out.flush() };
        let host =
            if address.ip().is_unspecified() { format!("127.0.0.1:{}", address.port()) } else { address.to_string() };
        let method = if method == "GET" || (method == "POST" && body.is_some()) {
            String::new()
        } else {
            format!(" -X {method}")
        };
        let data = body.as_ref().map(|body| format!(" -d '{body}'")).unwrap_or_default();
        writeln!(out, "\nSee the price (402 Payment Required):\n  curl -i{method}{data} http://{host}{path}")?;
        if self.sandbox {
            writeln!(out, "\nPay it:\n  cargo run --example agent --{method}{data} http://{host}{path}")?;
        }
        writeln!(out)?;
        out.flush()
    }
}

impl Example {
    fn of(route: &Route, demo: bool) -> Self {
        let method = match route.methods.first().map(String::as_str) {
            _ if route.methods.contains("GET") => "GET",
            _ if route.methods.contains("POST") => "POST",
            Some(other) => other,
            None => "GET",
        };
        // The cheapest model stands for a small first payment.
        let model = match &route.pricing {
            Pricing::ByModel(prices) => prices.iter().min_by_key(|(_, price)| price.amount()).map(|(model, _)| model),
            Pricing::Fixed(_) | Pricing::Free => None,
        };
        let chat = r#""max_tokens":100,"messages":[{"role":"user","content":"Hello"}]"#;
        let stream = if demo { r#","stream":true"# } else { "" };
        let body =
            model.filter(|model| is_shell_safe(model)).map(|model| format!(r#"{{"model":"{model}",{chat}{stream}}}"#));
        let method = if body.is_some() && route.methods.contains("POST") { "POST" } else { method };
        Self { method: method.to_owned(), path: example_path(&route.path), body }
    }
}

fn is_shell_safe(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-{}*:@".contains(&byte))
}

/// `/items/{id}/{*rest}` with something in it.
fn example_path(pattern: &str) -> String {
    let segment = |segment: &str| match segment.split_once('{') {
        Some((before, _)) => format!("{before}1"),
        None => segment.to_owned(),
    };
    pattern.split('/').map(segment).collect::<Vec<_>>().join("/")
}
