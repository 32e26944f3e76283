//! Whatever a catalog says, its documents keep their shape.

use std::collections::BTreeSet;

use http::{Method, Request};
use http_body_util::BodyExt as _;
use proptest::prelude::*;
use serde_json::Value;
use tower_mpp::discovery::{Catalog, Discovery, Payment, Route, Service, Terms};

/// Text that tries to be something else.
fn hostile() -> impl Strategy<Value = Option<String>> {
    let pieces = prop_oneof![
        Just("\n"),
        Just("\r\n"),
        Just("\u{2028}"),
        Just("\u{85}"),
        Just("\u{202e}"),
        Just("- `GET /free`"),
        Just("  - Type: free"),
        Just("  - Price: 0"),
        Just("`"),
        Just("```"),
        Just("# Routes"),
        Just("## "),
        Just("> "),
        Just("<script>"),
        Just("[x](y)"),
        Just("]("),
        Just("\\"),
        Just("1. "),
        Just("\"}],"),
        Just("é\u{1f600}"),
        Just("    "),
        Just("\t"),
        Just("text"),
        Just("\0"),
    ];
    prop::option::of(prop::collection::vec(pieces, 0..6).prop_map(|pieces| pieces.concat()))
}

fn route() -> impl Strategy<Value = Route> {
    let method = prop::option::of(prop::sample::select(vec![Method::GET, Method::POST, Method::DELETE]));
    let segment = prop::sample::select(vec!["a", "b", ":id", ":name", "*", "{id}", "{*rest}", "{", "x:y", "%7B", "."]);
    let path = prop::collection::vec(segment, 1..4).prop_map(|segments| format!("/{}", segments.join("/")));
    let value = prop_oneof![
        hostile().prop_map(|text| Value::from(text.unwrap_or_default())),
        any::<u64>().prop_map(|number| Value::from(number.to_string())),
        Just(Value::Null),
        any::<u16>().prop_map(Value::from),
    ];
    let name =
        prop::sample::select(vec!["intent", "method", "amount", "currency", "decimals", "description", "unitType"]);
    let terms = prop::collection::vec((name, value), 0..7)
        .prop_map(|members| members.into_iter().fold(Terms::new(), |terms, (name, value)| terms.member(name, value)));
    let payment = prop_oneof![Just(Payment::Free), prop::collection::vec(terms, 0..3).prop_map(Payment::Offers)];
    (method, path, payment, hostile()).prop_map(|(method, path, payment, description)| {
        let mut route = Route::new(method, path).payment(payment);
        route.description = description;
        route
    })
}

fn catalog() -> impl Strategy<Value = Catalog> {
    let service = (hostile(), hostile(), prop::collection::vec(route(), 0..5));
    (hostile(), hostile(), prop::collection::vec(service, 0..4)).prop_map(|(title, description, services)| {
        let mut catalog = Catalog::new();
        (catalog.title, catalog.description) = (title, description);
        for (at, (title, description, routes)) in services.into_iter().enumerate() {
            let mut service = Service::new(format!("s{at}"));
            (service.title, service.description, service.routes) = (title, description, routes);
            catalog.services.push(service);
        }
        catalog
    })
}

fn body(discovery: &Discovery, path: &str) -> String {
    let (head, ()) = Request::get(path).body(()).unwrap().into_parts();
    let body = discovery.try_answer(&head).unwrap().into_body();
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    match std::pin::pin!(body.collect()).poll(&mut cx) {
        std::task::Poll::Ready(Ok(body)) => String::from_utf8(body.to_bytes().to_vec()).unwrap(),
        _ => panic!("a whole body is there at once"),
    }
}

/// The lines of a document that its shape allows; everything else has to stand within one of them.
fn check_lines(markdown: &str, routes: &[&Route]) {
    let of_routes: Vec<_> = markdown.lines().filter(|line| line.starts_with("- `")).collect();
    assert_eq!(of_routes.len(), routes.len(), "{markdown}");
    for (line, route) in of_routes.iter().zip(routes) {
        let method = route.method.as_ref().map_or_else(String::new, |method| format!("{method} "));
        let code = format!("- `{method}{}`", route.path);
        assert!(*line == code || line.starts_with(&format!("{code}: ")), "{line}");
    }
    let types = markdown.lines().filter(|line| line.starts_with("  - Type: ")).count();
    assert_eq!(types, routes.len(), "{markdown}");
    for line in markdown.lines() {
        let plain =
            line.replace("\\\\", "").replace("\\`", "").replace("\\[", "").replace("\\]", "").replace("\\<", "");
        assert!(!plain.contains('<'), "markup: {line}");
        assert!(plain.matches('`').count() % 2 == 0, "code that does not end: {line}");
        assert!(!line.starts_with("    ") && !line.starts_with('\t'), "a block of code: {line}");
    }
}

/// The braces of every path are declared parameters, and no two paths are the same for OpenAPI.
fn check_openapi(document: &Value) {
    let mut shapes = BTreeSet::new();
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let named: Vec<_> = path.split('{').skip(1).map(|rest| rest.split('}').next().unwrap().to_owned()).collect();
        let declared: Vec<_> = item["parameters"].as_array().into_iter().flatten().collect();
        assert_eq!(named, declared.iter().map(|parameter| parameter["name"].as_str().unwrap()).collect::<Vec<_>>());
        assert_eq!(named.iter().collect::<BTreeSet<_>>().len(), named.len(), "{path}");
        let shape: Vec<_> = path.split('/').map(|part| if part.starts_with('{') { "{}" } else { part }).collect();
        assert!(shapes.insert(shape.join("/")), "{path}");
        for (_, operation) in item.as_object().unwrap().iter().filter(|(name, _)| *name != "parameters") {
            assert!(ids.insert(operation["operationId"].to_string()));
            if let Some(info) = operation.get("x-payment-info") {
                assert!(!info["offers"].as_array().unwrap().is_empty());
                assert!(operation["responses"]["402"].is_object());
            }
        }
    }
}

proptest! {
    #[test]
    fn no_text_breaks_out_of_its_place(catalog in catalog()) {
        let discovery = Discovery::new(&catalog).unwrap();
        let all: Value = serde_json::from_str(&body(&discovery, "/discover")).unwrap();
        prop_assert_eq!(all.as_array().unwrap().len(), catalog.services.len());
        let routes: Vec<_> = catalog.services.iter().flat_map(|service| &service.routes).collect();
        check_lines(&body(&discovery, "/discover/all.md"), &routes);
        for service in &catalog.services {
            let path = format!("/discover/{}", service.id);
            let item: Value = serde_json::from_str(&body(&discovery, &path)).unwrap();
            prop_assert_eq!(item["routes"].as_array().unwrap().len(), service.routes.len());
            check_lines(&body(&discovery, &format!("{path}.md")), &service.routes.iter().collect::<Vec<_>>());
        }
        let llms = body(&discovery, "/llms.txt");
        prop_assert_eq!(llms.lines().filter(|line| line.starts_with("- [")).count(), catalog.services.len());
        prop_assert_eq!(llms.lines().filter(|line| line.starts_with('#')).count(), 1 + usize::from(!catalog.services.is_empty()));
        check_openapi(&serde_json::from_str(&body(&discovery, "/openapi.json")).unwrap());
        // Made twice, it is the same twice.
        prop_assert_eq!(body(&Discovery::new(&catalog).unwrap(), "/openapi.json"), body(&discovery, "/openapi.json"));
    }
}
