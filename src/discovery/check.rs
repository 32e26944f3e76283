//! A catalog is checked once, before anything is made of it.

use super::{
    Invalid,
    catalog::{Catalog, Route, Service},
};

/// First segments that are ours.
const RESERVED: [&str; 5] = ["discover", "discover.md", "llms.txt", "openapi.json", ".well-known"];

/// # Errors
/// [`Invalid`] for what would collide with our own paths or break out of the place where it is written.
pub(super) fn check(catalog: &Catalog) -> Result<(), Invalid> {
    let base = &catalog.base_path;
    if !base.is_empty() && (!is_path(base) || base.ends_with('/')) {
        return Err(Invalid::new("base_path", "write it with a slash at the front and none at the end, such as /api"));
    }
    let urls =
        [("origin", &catalog.origin), ("api_reference", &catalog.api_reference), ("homepage", &catalog.homepage)];
    for (field, value) in urls {
        url(field, value.as_deref())?;
    }
    if catalog.origin.as_ref().is_some_and(|origin| origin.ends_with('/')) {
        return Err(Invalid::new("origin", "write it without a slash at the end, such as https://api.example.com"));
    }
    for (at, link) in catalog.links.iter().enumerate() {
        url(&format!("links.{at}.url"), Some(&link.url))?;
    }
    for (at, service) in catalog.services.iter().enumerate() {
        let earlier = catalog.services.iter().take(at);
        if earlier.clone().any(|other| other.id == service.id) {
            return Err(Invalid::new(format_args!("services.{}", service.id), "there are two with this id"));
        }
        of_service(service)?;
    }
    Ok(())
}

fn of_service(service: &Service) -> Result<(), Invalid> {
    let field = format!("services.{}", service.id);
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    let id = service.id.as_str();
    if id.is_empty() || !id.bytes().all(known) || id.bytes().all(|byte| byte == b'.') {
        return Err(Invalid::new(field, "an id is one segment of a path: letters, digits and -._~"));
    }
    if id == "all" || id.ends_with(".md") || RESERVED.contains(&id) {
        return Err(Invalid::new(field, "this id stands for a document of ours; choose another"));
    }
    url(&format!("{field}.docs_llms_url"), service.docs_llms_url.as_deref())?;
    service.routes.iter().try_for_each(|route| of_route(&field, route))
}

fn of_route(service: &str, route: &Route) -> Result<(), Invalid> {
    let field = format!("{service}.routes.{}", route.path.escape_debug());
    if !is_path(&route.path) {
        let problem = "a path begins with a slash and has no spaces, quotes, backslashes, queries or fragments";
        return Err(Invalid::new(field, problem));
    }
    url(&format!("{field}.docs_llms_url"), route.docs_llms_url.as_deref())?;
    for (name, schema) in [("request_schema", &route.request_schema), ("response_schema", &route.response_schema)] {
        if schema.as_ref().is_some_and(|schema| !schema.is_object() && !schema.is_boolean()) {
            return Err(Invalid::new(format_args!("{field}.{name}"), "a JSON Schema is an object or a boolean"));
        }
    }
    Ok(())
}

/// What may stand in a path, in braces and behind colons too. A backtick would end the code in which it is shown.
fn is_path(path: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@%/{}".contains(&byte);
    path.starts_with('/') && path.bytes().all(known)
}

fn url(field: &str, url: Option<&str>) -> Result<(), Invalid> {
    let fine = |byte: u8| byte.is_ascii_graphic() && !b"<>\"`\\^{}|".contains(&byte);
    match url {
        Some(url) if url.is_empty() || !url.bytes().all(fine) => {
            Err(Invalid::new(field, "it is no URL; percent-encode what may not stand in one"))
        }
        _ => Ok(()),
    }
}
