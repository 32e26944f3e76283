//! The documents over HTTP: paths, methods, caches, and catalogs that cannot be published.

use http::{Method, Request, StatusCode};
use serde_json::json;
use tower_mpp::discovery::{Catalog, Discovery, Link, Route, Service};

use crate::{get, header, send, shop, text};

fn live() -> Discovery {
    Discovery::new(&shop::live()).unwrap()
}

#[tokio::test]
async fn a_cache_is_told_how_long_and_for_whom() {
    let discovery = live();
    for path in ["/discover", "/discover/all", "/discover/openai"] {
        let answer = get(&discovery, path).await;
        assert_eq!(header(&answer, "vary"), Some("accept, user-agent"), "{path}");
        assert_eq!(header(&answer, "cache-control"), Some("public, max-age=300"), "{path}");
    }
    for path in ["/openapi.json", "/llms.txt", "/discover/all.md"] {
        let answer = get(&discovery, path).await;
        assert_eq!(header(&answer, "vary"), None, "{path}");
        assert_eq!(header(&answer, "cache-control"), Some("public, max-age=300"), "{path}");
    }
    let missing = get(&discovery, "/discover/nope").await;
    assert_eq!((header(&missing, "cache-control"), header(&missing, "etag")), (None, None));
}

#[tokio::test]
async fn who_has_a_version_already_is_not_sent_it_again() {
    let discovery = live();
    for path in ["/discover", "/openapi.json", "/llms.txt"] {
        let first = get(&discovery, path).await;
        let etag = header(&first, "etag").unwrap();
        for known in [etag.to_owned(), format!("\"x\", W/{etag}"), "*".to_owned()] {
            let again = send(&discovery, Method::GET, path, &[("if-none-match", &known)]).await;
            assert_eq!(again.status, StatusCode::NOT_MODIFIED, "{path} {known}");
            assert!(again.body.is_empty());
            assert_eq!(header(&again, "etag"), Some(etag));
        }
        let other = send(&discovery, Method::GET, path, &[("if-none-match", "\"x\"")]).await;
        assert_eq!(other.status, StatusCode::OK);
    }
    // The two forms of one resource are two versions.
    let json = get(&discovery, "/discover").await;
    let known = [("if-none-match", header(&json, "etag").unwrap()), ("user-agent", "curl/8.5.0")];
    assert_eq!(send(&discovery, Method::GET, "/discover", &known).await.status, StatusCode::OK);
}

#[tokio::test]
async fn head_of_the_standard_documents_tells_their_length() {
    let discovery = live();
    let whole = get(&discovery, "/openapi.json").await;
    let head = send(&discovery, Method::HEAD, "/openapi.json", &[]).await;
    assert_eq!((head.status, head.body.len()), (StatusCode::OK, 0));
    assert_eq!(head.headers, whole.headers);
    assert_eq!(header(&head, "content-length").unwrap(), whole.body.len().to_string());
}

#[tokio::test]
async fn our_paths_are_ours_whatever_the_method() {
    let discovery = Discovery::new(&shop::live().base_path("/api")).unwrap();
    for (path, ours) in [
        ("/api/discover", true),
        ("/api/discover/", true),
        ("/api/discover/none/at/all", true),
        ("/api/discover.md", true),
        ("/api/llms.txt", true),
        ("/api/openapi.json", true),
        ("/api/discovery", false),
        ("/api/openapi.json5", false),
        ("/apix/openapi.json", false),
        ("/openapi.json", false),
        ("/api", false),
        ("/api/openai/v1/models", false),
        ("/.well-known/mpp", false),
    ] {
        for method in [Method::GET, Method::DELETE] {
            let (head, ()) = Request::builder().method(&method).uri(path).body(()).unwrap().into_parts();
            assert_eq!(discovery.answers(&head), ours, "{method} {path}");
            let answer = discovery.try_answer(&head);
            assert_eq!(answer.is_some(), ours, "{method} {path}");
            if method == Method::DELETE {
                assert!(answer.is_none_or(|answer| answer.status() == StatusCode::NOT_FOUND), "{path}");
            }
        }
    }
}

#[tokio::test]
async fn links_lead_below_the_base_path() {
    let discovery = Discovery::new(&shop::live().base_path("/api")).unwrap();
    let llms = get(&discovery, "/api/llms.txt").await;
    for link in text(&llms).split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
        assert_eq!(get(&discovery, link).await.status, StatusCode::OK, "{link}");
    }
    let markdown = get(&discovery, "/api/discover/my-api.md").await;
    assert!(text(&markdown).contains("- `POST /api/my-api/v1/generate`"), "{}", text(&markdown));
}

#[tokio::test]
async fn a_merchant_names_its_other_documents() {
    let mut catalog = Catalog::new().title("Shop").service(
        Service::new("agent").route(Route::new(Method::POST, "/v1/agent/messages").description("One model call")),
    );
    catalog.links.push(Link::new("Skill", "/SKILL.md").description("How to pay"));
    let llms = get(&Discovery::new(&catalog).unwrap(), "/llms.txt").await;
    assert!(text(&llms).ends_with("(/discover/all.md)\n\n## Documents\n\n- [Skill](/SKILL.md): How to pay\n"));
    catalog.services.clear();
    let llms = get(&Discovery::new(&catalog).unwrap(), "/llms.txt").await;
    assert!(text(&llms).ends_with(".\n\n## Documents\n\n- [Skill](/SKILL.md): How to pay\n"), "{}", text(&llms));
}

#[test]
fn what_cannot_be_published_is_an_error_that_names_its_field() {
    let with = |id: &str| Catalog::new().service(Service::new(id));
    let route = |path: &str| Catalog::new().service(Service::new("a").route(Route::new(None, path)));
    for (catalog, field) in [
        (with(""), "services."),
        (with("discover"), "services.discover"),
        (with("llms.txt"), "services.llms.txt"),
        (with("openapi.json"), "services.openapi.json"),
        (with("all"), "services.all"),
        (with("x.md"), "services.x.md"),
        (with(".."), "services..."),
        (with("a/b"), "services.a/b"),
        (with("a").service(Service::new("a")), "services.a"),
        (with("a").base_path("/api/"), "base_path"),
        (with("a").base_path("api"), "base_path"),
        (route("no/slash"), "services.a.routes.no/slash"),
        (route("/a`b"), "services.a.routes./a`b"),
        (route("/a\n- `GET /free`"), "services.a.routes./a\\n- `GET /free`"),
        (route("/a?b=c"), "services.a.routes./a?b=c"),
        (
            Catalog::new().service(Service::new("a").docs_llms_url("https://example.com/a b")),
            "services.a.docs_llms_url",
        ),
        (
            Catalog::new().service(Service::new("a").route(Route::new(None, "/a").request_schema(json!("text")))),
            "services.a.routes./a.request_schema",
        ),
    ] {
        let error = Discovery::new(&catalog).unwrap_err();
        assert_eq!(error.field(), field, "{error}");
        assert!(error.to_string().starts_with(field), "{error}");
    }
}
