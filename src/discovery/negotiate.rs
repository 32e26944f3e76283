//! Who gets markdown, and who JSON.

use http::{
    HeaderMap,
    header::{ACCEPT, USER_AGENT},
};

/// Parts of the names by which readers of text call themselves, letter by letter as they write them.
const READERS: [&str; 32] = [
    // Agents.
    "GPTBot",
    "OAI-SearchBot",
    "ChatGPT-User",
    "anthropic-ai",
    "ClaudeBot",
    "claude-web",
    "PerplexityBot",
    "Perplexity-User",
    "Google-Extended",
    "Googlebot",
    "Bingbot",
    "Amazonbot",
    "Applebot",
    "Applebot-Extended",
    "FacebookBot",
    "meta-externalagent",
    "Bytespider",
    "DuckAssistBot",
    "cohere-ai",
    "AI2Bot",
    "CCBot",
    "Diffbot",
    "YouBot",
    "MistralAI-User",
    "GoogleAgent-Mariner",
    // Terminals.
    "curl",
    "Wget",
    "HTTPie",
    "httpie-go",
    "mppx",
    "presto",
    "xh",
];

/// Whether the answer is markdown: it was asked for, or the client is known to read text.
pub(super) fn wants_markdown(headers: &HeaderMap) -> bool {
    let says = |value: &http::HeaderValue, part: &str| value.to_str().is_ok_and(|value| value.contains(part));
    let asked = |value| says(value, "text/markdown") || says(value, "text/plain");
    let reads = |value| READERS.iter().any(|reader| says(value, reader));
    headers.get_all(ACCEPT).iter().any(asked) || headers.get_all(USER_AGENT).iter().any(reads)
}
