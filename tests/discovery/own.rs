//! Our own vectors, computed a second time by `tests/vectors/discovery.py`.

use http::Method;
use serde_json::Value;
use tower_mpp::discovery::{
    Catalog, Discovery, Payment, Route, Service, Terms,
    well_known::{Built, Facts, Form, Stage, WellKnown},
};

use crate::{
    get, text,
    well_known::{facts, prxy, seed_time, whole},
};

fn some(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn terms(members: &Value) -> Terms {
    let members = members.as_array().unwrap().iter();
    members.fold(Terms::new(), |terms, member| terms.member(member[0].as_str().unwrap(), member[1].clone()))
}

fn route(given: &Value) -> Route {
    let method = given["method"].as_str().map(|method| Method::from_bytes(method.as_bytes()).unwrap());
    let mut route = Route::new(method, given["path"].as_str().unwrap());
    if let Some(offers) = given["offers"].as_array() {
        route.payment = Payment::Offers(offers.iter().map(terms).collect());
    }
    route.docs_llms_url = some(&given["docs"]);
    route.description = some(&given["description"]);
    route.request_schema = given.get("request_schema").cloned();
    route
}

fn catalog(given: &Value) -> Catalog {
    let mut catalog = Catalog::new().base_path(given["base_path"].as_str().unwrap_or_default());
    catalog.title = some(&given["title"]);
    catalog.description = some(&given["description"]);
    catalog.version = some(&given["version"]);
    catalog.origin = some(&given["origin"]);
    catalog.homepage = some(&given["homepage"]);
    catalog.categories = given["categories"].as_array().into_iter().flatten().filter_map(some).collect();
    for given in given["services"].as_array().unwrap() {
        let mut service = Service::new(given["id"].as_str().unwrap());
        service.title = some(&given["title"]);
        service.description = some(&given["description"]);
        service.docs_llms_url = some(&given["docs"]);
        service.routes = given["routes"].as_array().unwrap().iter().map(route).collect();
        catalog.services.push(service);
    }
    catalog
}

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/discovery.json")).unwrap()
}

#[tokio::test]
async fn documents_of_catalogs() {
    let vectors = vectors();
    for vector in vectors["catalogs"].as_array().unwrap() {
        let catalog = catalog(&vector["catalog"]);
        let base = catalog.base_path.clone();
        let discovery = Discovery::new(&catalog).unwrap();
        let mut wanted = vec![
            ("/discover".to_owned(), &vector["discover"]),
            ("/discover/all".to_owned(), &vector["discover"]),
            ("/discover/all.md".to_owned(), &vector["all_md"]),
            ("/discover.md".to_owned(), &vector["llms"]),
            ("/llms.txt".to_owned(), &vector["llms"]),
            ("/openapi.json".to_owned(), &vector["openapi"]),
        ];
        for (id, service) in vector["services"].as_object().unwrap() {
            wanted.push((format!("/discover/{id}"), &service["json"]));
            wanted.push((format!("/discover/{id}.md"), &service["md"]));
        }
        for (path, wanted) in wanted {
            let answer = get(&discovery, &format!("{base}{path}")).await;
            assert_eq!(text(&answer), wanted.as_str().unwrap(), "{path}");
        }
    }
}

#[test]
fn documents_of_the_example() {
    type State = fn(Facts) -> Facts;
    let states: [(&str, Form, State); 4] = [
        ("live", Form::Full, |facts| facts),
        ("without_sessions_and_mcp", Form::Full, |facts| facts.built(Built::default())),
        ("private_preview", Form::Full, |facts| facts.stage(Stage::PrivatePreview)),
        ("minimal", Form::Minimal, |facts| facts),
    ];
    let vectors = vectors();
    assert_eq!(vectors["well_known"].as_object().unwrap().len(), states.len());
    for (name, form, state) in states {
        let mut prxy = prxy();
        prxy.well_known.form = form;
        let facts = state(facts(&whole(), &prxy.models));
        let document = WellKnown::new(&prxy.well_known, &prxy.models, &facts).unwrap().document(seed_time()).unwrap();
        assert_eq!(std::str::from_utf8(&document).unwrap(), vectors["well_known"][name].as_str().unwrap(), "{name}");
    }
}
