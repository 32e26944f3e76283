//! Routes and paths, judged a second time by `tests/vectors/generate.py`.

use std::path::Path;

use http::Response;
use serde::Deserialize;
use tower_mpp::{
    proxy::{Context, Route, Service},
    upstream::{Body, ServiceUpstream},
};

use crate::{shop::*, support::call};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    routes: Vec<Table>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    keys: Vec<String>,
    requests: Vec<Asked>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    method: String,
    path: String,
    status: u16,
    /// The pattern that matched, and its parameters.
    pattern: Option<String>,
    params: Vec<(String, String)>,
}

#[tokio::test]
async fn requests_find_their_routes() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/proxy_routes.json");
    let File { routes } = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(routes.iter().map(|table| table.requests.len()).sum::<usize>() > 100);
    for table in routes {
        let upstream = ServiceUpstream::new("here", axum::Router::new().fallback(|| async {}));
        let tell = |response: Response<Body>, context: &Context| {
            let params = ["a", "b"].map(|name| (name, context.param(name)));
            let given: Vec<_> = params.iter().filter_map(|(name, value)| value.map(|value| (name, value))).collect();
            response.map(|_| Body::from(serde_json::to_vec(&(context.pattern(), given)).unwrap()))
        };
        let mut service = Service::new("s", "").upstream(upstream).rewrite_response(tell);
        for key in &table.keys {
            service = service.route(key.as_str(), Route::free());
        }
        let proxy = proxy_of(&Acme::new()).service(service).build().unwrap();
        for Asked { method, path, status, pattern, params } in table.requests {
            let asked = request(method.parse().unwrap(), &format!("/s{path}"), &[], "");
            let answer = call(&proxy, asked).await;
            assert_eq!(answer.status, status, "{:?}: {method} {path}", table.keys);
            if status == 200 {
                let told: (String, Vec<(String, String)>) = serde_json::from_slice(&answer.body).unwrap();
                assert_eq!(told, (pattern.unwrap(), params), "{:?}: {method} {path}", table.keys);
            }
        }
    }
}
