//! The services as JSON, member by member as deployed peers write them.

use super::{
    catalog::{Catalog, Route, Service, Terms},
    node::Node,
};

/// `/discover` and `/discover/all`.
pub(super) fn all(catalog: &Catalog) -> Node {
    Node::list(catalog.services.iter().map(service))
}

/// `/discover/{id}`.
pub(super) fn service(service: &Service) -> Node {
    Node::object()
        .maybe("description", service.description.as_ref())
        .with("id", &service.id)
        .maybe("docsLlmsUrl", service.docs_llms_url.as_ref())
        .with("routes", Node::list(service.routes.iter().map(route)))
        .maybe("title", service.title.as_ref())
}

fn route(route: &Route) -> Node {
    let method = route.method.as_ref().map(http::Method::as_str);
    let pattern = method.map_or_else(|| route.path.clone(), |method| format!("{method} {}", route.path));
    let offers = route.offers();
    // Peers know the text of an offer only.
    let bought = offers.and_then(|offers| offers.first()?.find("description"));
    let node = Node::object()
        .maybe("description", route.description.as_ref().filter(|_| bought.is_none()))
        .maybe("docsLlmsUrl", route.docs_llms_url.as_ref())
        .maybe("method", method)
        .with("path", &route.path)
        .with("pattern", pattern);
    match offers {
        None => node.with("payment", Node::Null),
        Some([]) => node.with("payment", Node::object()),
        Some([only]) => node.with("payment", terms(only)),
        // The form of peers has room for one. All of them follow, so that nobody takes it for the only one.
        Some([first, ..]) => {
            node.with("payment", terms(first)).maybe("offers", offers.map(|all| Node::list(all.iter().map(terms))))
        }
    }
}

fn terms(terms: &Terms) -> Node {
    Node::of(terms)
}
