//! `/openapi.json`: the discovery draft's way to say what is paid (`draft-payment-discovery-00`).

mod paths;

use http::Method;
use serde_json::Value;

use self::paths::Template;
use super::{
    catalog::{Catalog, Route, Service, Terms},
    node::Node,
};

const TITLE: &str = "API Proxy";
const VERSION: &str = "1.0.0";
/// What a route that takes any method is shown with.
const ANY: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];

/// The document. Routes come in the order of the catalog, and of two for the same request the first counts, as it
/// does when the request comes.
pub(super) fn document(catalog: &Catalog) -> Node {
    let origin = catalog.origin.as_deref().unwrap_or_default();
    let base = format!("{origin}{}", catalog.base_path);
    let info = Node::object()
        .with("title", catalog.title.as_deref().filter(|title| !title.is_empty()).unwrap_or(TITLE))
        .with("version", catalog.version.as_deref().filter(|version| !version.is_empty()).unwrap_or(VERSION))
        .maybe("description", catalog.description.as_ref())
        .maybe("x-guidance", catalog.guidance.as_ref());
    let docs = Node::object()
        .maybe("apiReference", catalog.api_reference.as_ref())
        .maybe("homepage", catalog.homepage.as_ref())
        .with("llms", format!("{base}/llms.txt"));
    let service_info = Node::object()
        .maybe("categories", (!catalog.categories.is_empty()).then(|| Node::list(&catalog.categories)))
        .with("docs", docs);
    let tags = catalog.services.iter().map(|service| {
        let node = Node::object().with("name", &service.id);
        let node = node.maybe("description", service.description.as_ref());
        node.maybe("externalDocs", service.docs_llms_url.as_ref().map(external))
    });
    Node::object()
        .with("openapi", "3.1.0")
        .with("info", info)
        .maybe("servers", (!base.is_empty()).then(|| Node::list([Node::object().with("url", base)])))
        .with("x-service-info", service_info)
        .with("tags", Node::list(tags))
        .with("paths", paths(catalog))
        .with("components", components())
}

fn external(url: &String) -> Node {
    Node::object().with("url", url)
}

/// What is known of one path so far.
struct Item {
    shape: String,
    template: Template,
    operations: Vec<(String, Node)>,
}

fn paths(catalog: &Catalog) -> Node {
    let mut items: Vec<Item> = Vec::new();
    let mut ids = Vec::new();
    for service in &catalog.services {
        for route in &service.routes {
            let template = Template::of(&route.path);
            let shape = template.shape();
            let at = items.iter().position(|item| item.shape == shape).unwrap_or_else(|| {
                items.push(Item { shape, template, operations: Vec::new() });
                items.len() - 1
            });
            let Some(item) = items.get_mut(at) else { continue };
            for method in route.method.as_ref().map_or(ANY.as_slice(), std::slice::from_ref) {
                let Some(name) = name(method) else { continue };
                if !item.operations.iter().any(|(known, _)| known == name) {
                    let id = unused_id(name, &item.template.path, &mut ids);
                    item.operations.push((name.to_owned(), operation(service, route, method, id)));
                }
            }
        }
    }
    let mut node = Node::object();
    for item in items.into_iter().filter(|item| !item.operations.is_empty()) {
        let mut path = Node::object();
        if !item.template.parameters.is_empty() {
            path.push("parameters", Node::list(item.template.parameters.iter().map(parameter)));
        }
        for (method, operation) in item.operations {
            path.push(method, operation);
        }
        node.push(item.template.path, path);
    }
    node
}

/// The methods that OpenAPI 3.1 has a place for.
fn name(method: &Method) -> Option<&'static str> {
    Some(match method.as_str() {
        "GET" => "get",
        "PUT" => "put",
        "POST" => "post",
        "DELETE" => "delete",
        "OPTIONS" => "options",
        "HEAD" => "head",
        "PATCH" => "patch",
        "TRACE" => "trace",
        _ => return None,
    })
}

/// `post_openai_v1_chat_completions`, with a number where that is taken.
fn unused_id(method: &str, path: &str, taken: &mut Vec<String>) -> String {
    let mut id = method.to_owned();
    for part in path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|part| !part.is_empty()) {
        id.push('_');
        id.push_str(part);
    }
    if taken.contains(&id) {
        let numbered = (2..).map(|number: usize| format!("{id}_{number}")).find(|id| !taken.contains(id));
        id = numbered.unwrap_or(id);
    }
    taken.push(id.clone());
    id
}

fn parameter(parameter: &paths::Parameter) -> Node {
    Node::object()
        .with("name", &parameter.name)
        .with("in", "path")
        .with("required", true)
        .maybe("description", parameter.rest.then_some("All that is left of the path, slashes included."))
        .with("schema", Node::object().with("type", "string"))
}

fn operation(service: &Service, route: &Route, method: &Method, id: String) -> Node {
    let offers = route.offers();
    let paid = offers.is_some();
    let takes_body = route.request_schema.is_some() || matches!(method.as_str(), "POST" | "PUT" | "PATCH");
    let body = |schema: &Value| {
        let content = json_content(schema);
        Node::object().with("required", true).with("content", content)
    };
    let described = route.description.as_deref().filter(|text| route.says() != Some(*text));
    let ok = Node::object()
        .with("description", "Successful response")
        .maybe("headers", paid.then(|| Node::object().with("Payment-Receipt", reference("headers/PaymentReceipt"))))
        .maybe("content", route.response_schema.as_ref().map(json_content));
    let bad = || Node::object().with("description", "The body cannot be read, or asks for what is not sold here");
    let responses = Node::object()
        .with("200", ok)
        .maybe("400", takes_body.then(bad))
        .maybe("402", paid.then(payment_required))
        .with("default", Node::object().with("description", "Any other answer"));
    Node::object()
        .with("operationId", id)
        .maybe("summary", route.says())
        .maybe("description", described)
        .with("tags", Node::list([&service.id]))
        .maybe("externalDocs", route.docs_llms_url.as_ref().map(external))
        .maybe("x-payment-info", offers.and_then(payment_info))
        .maybe("requestBody", route.request_schema.as_ref().map(body))
        .with("responses", responses)
}

fn json_content(schema: &Value) -> Node {
    Node::object().with("application/json", Node::object().with("schema", schema.clone()))
}

/// The offers in the members that the draft allows. Nothing where no offer is known: a list of none is not allowed.
fn payment_info(offers: &[Terms]) -> Option<Node> {
    let offer = |terms: &Terms| {
        let amount = terms.text("amount").filter(|text| text.parse::<crate::protocol::Amount>().is_ok());
        Some(
            Node::object()
                .with("intent", terms.text("intent")?)
                .with("method", terms.text("method")?)
                .with("amount", amount)
                .maybe("currency", terms.text("currency"))
                .maybe("description", terms.text("description")),
        )
    };
    let offers: Vec<_> = offers.iter().filter_map(offer).collect();
    (!offers.is_empty()).then(|| Node::object().with("offers", Node::List(offers)))
}

fn payment_required() -> Node {
    let problem = Node::object().with("schema", reference("schemas/Problem"));
    let page = Node::object().with("schema", Node::object().with("type", "string"));
    Node::object()
        .with("description", "Payment Required")
        .with("headers", Node::object().with("WWW-Authenticate", reference("headers/PaymentChallenge")))
        .with("content", Node::object().with("application/problem+json", problem).with("text/html", page))
}

fn reference(to: &str) -> Node {
    Node::object().with("$ref", format!("#/components/{to}"))
}

fn components() -> Node {
    let text = || Node::object().with("type", "string");
    let header = |description: &str| Node::object().with("description", description).with("schema", text());
    let members = Node::object()
        .with("type", text())
        .with("title", text())
        .with("status", Node::object().with("type", "integer"))
        .with("detail", text())
        .with("challengeId", text());
    let problem = Node::object()
        .with("type", "object")
        .with("description", "Problem details (RFC 9457)")
        .with("properties", members);
    let headers = Node::object()
        .with("PaymentChallenge", header("One challenge of the Payment scheme for each way to pay"))
        .with("PaymentReceipt", header("The receipt of what was paid"));
    Node::object().with("headers", headers).with("schemas", Node::object().with("Problem", problem))
}
