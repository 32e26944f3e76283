//! What the gateway says when it starts: where it is, what of it works, and how to try it.

use std::{
    io::{self, Write},
    net::SocketAddr,
};

use super::{
    report::Report,
    routes::{Pricing, Route},
    settings::Settings,
    upstream::settings::UpstreamSettings,
};

/// What is needed of the settings, which are used up by then.
pub(crate) struct Greeting {
    report: Report,
    example: Option<Example>,
    sandbox: bool,
}

struct Example {
    method: String,
    path: String,
    /// With an apostrophe nowhere, so that it can stand in single quotes.
    body: Option<String>,
}

impl Greeting {
    pub(crate) fn new(settings: &Settings, report: Report) -> Self {
        let demo = matches!(settings.upstream, UpstreamSettings::Demo);
        let paid = |route: &&Route| !matches!(route.pricing, Pricing::Free) && is_shell_safe(&route.path);
        let example = settings.routes.iter().find(paid).map(|route| Example::of(route, demo));
        Self { report, example, sandbox: settings.sandbox }
    }

    /// Nobody has to listen: a closed standard output is fine.
    pub(crate) fn print(&self, address: SocketAddr) {
        let _ = self.write(&mut io::stdout().lock(), address);
    }

    fn write(&self, out: &mut impl Write, address: SocketAddr) -> io::Result<()> {
        writeln!(out, "listening on http://{address}\n\n{}", self.report)?;
        if self.sandbox {
            writeln!(out, "TEST MODE: whoever asks is served for nothing.\n")?;
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
        writeln!(out, "See the price (402 Payment Required):\n  curl -i{method}{data} http://{host}{path}")?;
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
