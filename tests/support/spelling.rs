//! Paths in many spellings, and what servers make of them.

use proptest::prelude::*;

/// What a normalising server does, written down a second time, one step at a time and in any order.
pub fn normalised(path: &str, steps: &[u8]) -> String {
    let mut path = path.to_owned();
    for (index, step) in steps.iter().enumerate() {
        path = match step {
            // An ending is taken off once.
            6 if steps[..index].contains(step) => path,
            0 => path.replace("%67", "g").replace("%47", "G").replace("%3B", ";").replace("%2E", "."),
            1 => path.replace("%2F", "/"),
            2 => path.replace("%25", "%"),
            3 => path.split('/').map(|part| part.split(';').next().unwrap()).collect::<Vec<_>>().join("/"),
            4 => path.to_ascii_lowercase().replace("%2f", "%2F").replace("%3b", ";").replace("%2e", "."),
            5 if path.len() > 1 => path.strip_suffix('/').unwrap_or(&path).to_owned(),
            6 => path.strip_suffix(".json").unwrap_or(&path).to_owned(),
            7 => path.replace("%20", " ").split('/').map(str::trim).collect::<Vec<_>>().join("/"),
            _ => {
                while path.contains("//") {
                    path = path.replace("//", "/");
                }
                path
            }
        };
    }
    path
}

/// Paths that a server may read as one of `/v1/generate`, `/v1/items/a`, `/v1/named/dear`, `/v1/whole/a`, and others.
pub fn paths() -> impl Strategy<Value = String> {
    let piece = prop::sample::select(vec![
        "/",
        "/",
        "/",
        "v1",
        "V1",
        "generate",
        "%67enerate",
        "%2567enerate",
        "Generate",
        "%2F",
        "%252F",
        "items",
        "a",
        "named",
        "dear",
        "whole",
        "x",
        "X",
        ";",
        ";v=1",
        "%3B",
        ".json",
        "%2Ejson",
        "%20",
        ".x",
    ]);
    let paths = prop_oneof![
        1 => prop::collection::vec(piece.clone(), 0..9).prop_map(|pieces| pieces.concat()),
        4 => (
            prop::sample::select(vec!["v1", "V1", "/v1", "v1;x", "v1%2F", "%20v1"]),
            prop::sample::select(vec!["/", "//", "%2F", "%252F", "/;/"]),
            prop::sample::select(vec!["generate", "%67enerate", "items/a", "named/dear", "Named/de%61r", "whole/a"]),
            prop::collection::vec(piece, 0..3),
        )
            .prop_map(|(first, between, last, rest)| [first, between, last, &rest.concat()].concat()),
    ];
    paths.prop_map(|path| format!("/{path}"))
}

/// For [`normalised`].
pub fn steps() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0..9_u8, 0..16)
}
