//! What a merchant says about itself before anybody pays.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

#[path = "../support/mod.rs"]
mod support;

mod documents;
mod openapi;
mod own;
mod peers;
mod properties;
mod rail;
mod runtime;
mod shop;
mod well_known;

use http::{Method, Request};
use tower_mpp::discovery::Discovery;

use support::Answer;

/// Sends a request without a body.
async fn send(discovery: &Discovery, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    support::call(discovery, request.body(()).unwrap()).await
}

async fn get(discovery: &Discovery, path: &str) -> Answer {
    send(discovery, Method::GET, path, &[]).await
}

fn text(answer: &Answer) -> &str {
    std::str::from_utf8(&answer.body).unwrap()
}

fn header<'a>(answer: &'a Answer, name: &str) -> Option<&'a str> {
    answer.headers.get(name).map(|value| value.to_str().unwrap())
}

/// JSON as it stands in a file, without the white space between its parts.
fn compact(json: &str) -> String {
    let mut written = String::new();
    let (mut quoted, mut escaped) = (false, false);
    for character in json.chars() {
        if !quoted && character.is_ascii_whitespace() {
            continue;
        }
        written.push(character);
        match (quoted, escaped, character) {
            (true, true, _) => escaped = false,
            (true, false, '\\') => escaped = true,
            (_, false, '"') => quoted = !quoted,
            _ => {}
        }
    }
    written
}
