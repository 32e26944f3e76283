//! Recordings of deployed peers, byte for byte, when `MPP_VECTORS_DIR` names the folder with them.

use std::{collections::BTreeMap, path::PathBuf};

use http::{Method, StatusCode};
use serde::Deserialize;
use serde_json::value::RawValue;
use tower_mpp::discovery::{Catalog, Discovery};

use crate::{compact, get, header, send, shop, text};

fn read(file: &str) -> Option<String> {
    let Some(folder) = std::env::var_os("MPP_VECTORS_DIR") else {
        eprintln!("MPP_VECTORS_DIR is not set: {file} is not run");
        return None;
    };
    let path = PathBuf::from(folder).join(file);
    Some(std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

fn discovery(catalog: Catalog) -> Discovery {
    Discovery::new(&catalog).unwrap()
}

#[tokio::test]
async fn documents_of_proxy_discover() {
    let Some(file) = read("proxy-discover.json") else { return };
    let mut sections: BTreeMap<String, Box<RawValue>> = serde_json::from_str(&file).unwrap();
    sections.remove("source");
    let full = shop::recorded().into_iter().fold(Catalog::new(), Catalog::service);
    let titled = discovery(full.clone().title("My AI Gateway").description("A paid proxy for LLM and AI services."));
    let (defaults, empty) = (discovery(full), discovery(Catalog::new()));
    assert_eq!(sections.len(), 11);
    for (name, section) in sections {
        let name = name.strip_prefix("GET ").unwrap();
        let (path, variant) = name.split_once(' ').unwrap_or((name, ""));
        let of = match variant {
            "(no services)" => &empty,
            "(defaults)" => &defaults,
            "" | "(JSON)" => &titled,
            other => panic!("{other}"),
        };
        let wanted = match variant {
            "(JSON)" => compact(section.get()),
            _ => serde_json::from_str(section.get()).unwrap(),
        };
        assert_eq!(text(&get(of, path).await), wanted, "{name}");
    }
}

#[derive(Deserialize)]
struct Case {
    name: String,
    request: Asked,
    response: Told,
}

#[derive(Deserialize)]
struct Asked {
    method: String,
    path: String,
    headers: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Told {
    status: u16,
    headers: BTreeMap<String, serde_json::Value>,
    body: String,
}

/// 0.4.8 has no such document, and we do.
const OURS: &str = "default UA GET /openapi.json";

#[tokio::test]
async fn discovery_of_a_live_proxy() {
    #[derive(Deserialize)]
    struct File {
        cases: Vec<Case>,
    }
    let Some(file) = read("proxy-live-mppx-0.4.8.json") else { return };
    let File { cases } = serde_json::from_str(&file).unwrap();
    let (plain, based) = (discovery(shop::live()), discovery(shop::live().base_path("/api/proxy")));
    let mut run = 0;
    for case in cases {
        let path = &case.request.path;
        let ours = ["/discover", "/llms.txt", "/openapi.json"].iter().any(|part| path.contains(part));
        // The rest of the file is for the proxy. What nobody serves is 404 here as well.
        if !ours && path != "/" && path != "/nope/x" {
            continue;
        }
        run += 1;
        let of = if case.name.starts_with("basePath") { &based } else { &plain };
        let headers: Vec<_> = case.request.headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let method = Method::from_bytes(case.request.method.as_bytes()).unwrap();
        let answer = send(of, method, path, &headers).await;
        if case.name == OURS {
            assert_eq!((answer.status, case.response.status), (StatusCode::OK, 404));
            continue;
        }
        assert_eq!(answer.status.as_u16(), case.response.status, "{}", case.name);
        assert_eq!(text(&answer), case.response.body, "{}", case.name);
        for (name, value) in case.response.headers {
            assert_eq!(header(&answer, &name), value.as_str(), "{}: {name}", case.name);
        }
    }
    assert_eq!(run, 60);
}
