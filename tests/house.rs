//! The house keeps its shape: who may import whom, how long a file may be, what no file may say.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    fs,
    path::{Path, PathBuf},
};

/// A module of the crate, and those that it may use. `clock`, `key` and `trace` are for everybody.
const MAY_USE: [(&str, &[&str]); 18] = [
    ("protocol", &[]),
    ("clock", &["protocol"]),
    ("key", &["protocol"]),
    ("trace", &["protocol"]),
    ("html", &[]),
    ("pricing", &["protocol"]),
    ("method", &["protocol"]),
    ("store", &["protocol"]),
    ("receipt", &["protocol", "store"]),
    ("refund", &["protocol", "method", "store"]),
    ("flow", &["protocol", "pricing", "method", "store", "receipt", "refund"]),
    ("layer", &["protocol", "pricing", "method", "store", "receipt", "refund", "flow"]),
    ("ledger", &["protocol", "store", "receipt"]),
    ("discovery", &["protocol", "pricing", "method", "refund", "flow"]),
    ("upstream", &["protocol", "receipt", "refund", "flow"]),
    ("proxy", &["protocol", "pricing", "receipt", "refund", "flow", "layer", "discovery", "upstream"]),
    ("conformance", &["protocol", "method", "store", "receipt", "refund", "upstream"]),
    ("lib", &["protocol", "pricing", "method", "store", "receipt", "refund", "flow", "layer", "ledger"]),
];

/// What the root re-exports, and from where.
const ROOT_NAMES: [(&str, &str); 17] = [
    ("Price", "protocol"),
    ("Clock", "clock"),
    ("SystemClock", "clock"),
    ("ManualClock", "clock"),
    ("KeyRing", "key"),
    ("Merchant", "flow"),
    ("MerchantBuilder", "flow"),
    ("ConfigError", "flow"),
    ("OfferTerms", "flow"),
    ("PaymentInfo", "flow"),
    ("PendingPayment", "flow"),
    ("Refusal", "flow"),
    ("RefusalKind", "flow"),
    ("ReplayAnswer", "flow"),
    ("HttpsPolicy", "flow"),
    ("PaymentLayer", "layer"),
    ("Payment", "layer"),
];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn files(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let skipped = path.file_name().is_some_and(|name| name == "target" || name == ".git" || name == "node_modules");
        if path.is_dir() && !skipped {
            files(&path, ending, found);
        } else if path.extension().is_some_and(|extension| extension == ending) {
            found.push(path);
        }
    }
}

fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    files(&root().join(folder), "rs", &mut found);
    found
}

/// The names behind each `crate::` of a file, braces taken apart, comments left out.
fn crate_names(text: &str) -> Vec<String> {
    let code: String = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n");
    let code = code.split("#[cfg(test)]").next().unwrap().to_owned();
    let mut names = Vec::new();
    for rest in code.split("crate::").skip(1) {
        let mut depth = 0;
        let mut name = String::new();
        for character in rest.chars() {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                c if c.is_alphanumeric() || c == '_' => {
                    name.push(c);
                    continue;
                }
                ':' if depth <= 1 && !name.is_empty() => {
                    // Inside braces only the first segment of each path counts.
                    names.push(std::mem::take(&mut name));
                    if depth == 0 {
                        break;
                    }
                    continue;
                }
                _ => {}
            }
            if depth <= 1 && !name.is_empty() {
                names.push(name.clone());
            }
            name.clear();
            if depth <= 0 {
                break;
            }
        }
    }
    names
}

#[test]
fn who_may_import_whom() {
    for path in rust_files("src") {
        let relative = path.strip_prefix(root().join("src")).unwrap();
        let first = relative.iter().next().unwrap().to_str().unwrap();
        let module = first.trim_end_matches(".rs");
        let (_, allowed) = MAY_USE
            .iter()
            .find(|(name, _)| *name == module)
            .unwrap_or_else(|| panic!("a new module {module}: say in this test what it may use"));
        for name in crate_names(&fs::read_to_string(&path).unwrap()) {
            let used = ROOT_NAMES.iter().find(|(root, _)| *root == name).map_or(name.as_str(), |(_, module)| *module);
            let known = MAY_USE.iter().any(|(module, _)| *module == used);
            let fine = used == module || allowed.contains(&used) || ["clock", "key", "trace", "html"].contains(&used);
            assert!(!known || fine, "{}: `{module}` must not use `{used}` ({name})", relative.display());
        }
    }
}

#[test]
fn no_file_is_too_long_to_read() {
    for path in ["src", "examples", "tests", "benches"].iter().flat_map(|folder| rust_files(folder)) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= 620, "{}: {lines} lines; split it by meaning", path.display());
    }
}

#[test]
fn tokio_stays_where_tasks_are() {
    for path in rust_files("src") {
        let relative = path.strip_prefix(root().join("src")).unwrap().to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let allowed = [
            "flow/",
            "layer/future.rs",
            // A body and a store are waited for, but not for ever.
            "ledger/future.rs",
            "method/stripe/",
            "method/testing.rs",
            // A signer that is far away is waited for no longer than it may take.
            "receipt/issue.rs",
            "store/sqlite/",
            "store/postgres/",
            "store/redis/",
            "conformance/",
            // Every wait for an upstream has an end.
            "upstream/",
        ];
        let used = code.lines().any(|line| line.contains("tokio::") && !line.trim_start().starts_with("//"));
        assert!(
            !used || allowed.iter().any(|part| relative.starts_with(part)) || relative.contains("test"),
            "{relative} uses tokio"
        );
    }
}

#[test]
fn every_public_error_and_file_speaks_of_the_project_alone() {
    for folder in ["src", "examples", "tests", "benches"] {
        for path in rust_files(folder) {
            let text = fs::read_to_string(&path).unwrap();
            for word in [concat!("/wo", "rk/"), concat!("TO", "DO"), concat!("FIX", "ME"), concat!("todo", "!(")] {
                assert!(!text.contains(word), "{}: {word}", path.display());
            }
        }
    }
}
