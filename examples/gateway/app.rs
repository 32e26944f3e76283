//! From the settings to a router.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{MethodFilter, MethodRouter, get, on},
};
use http::Method;
use tower_http::cors::{AllowHeaders, AllowMethods, CorsLayer};
use tower_mpp::{KeyRing, Merchant, PaymentLayer, ReceiptHeader, ledger::Ledger, method::Sandbox};
use zeroize::Zeroizing;

use super::{
    admin::{self, Operated, Token},
    common::journal::Journal,
    config::ConfigError,
    paths, pricing,
    problem::Problem,
    receipts::{Issuing, ReceiptSettings},
    routes::{self, Pricing, Route},
    settings::Settings,
    upstream::{self, Upstream},
};

/// The gateway, ready to be served.
pub(crate) struct App {
    pub(crate) router: Router,
    /// Everything that takes money here.
    pub(crate) merchant: Merchant,
}

/// What was opened, or made, at the start.
pub(crate) struct Opened {
    pub(crate) keys: KeyRing,
    pub(crate) journal: Journal,
    /// The operator's token.
    pub(crate) admin: Option<Zeroizing<String>>,
    pub(crate) receipts: Option<Issuing>,
}

/// Builds the gateway. Whatever can be wrong is found here.
pub(crate) fn app(settings: Settings, opened: Opened) -> Result<App, Box<dyn std::error::Error>> {
    let Settings {
        realm,
        https,
        cors,
        challenge_ttl,
        redelivery_grace,
        lease,
        refunds,
        receipts: receipts_settings,
        ..
    } = settings;
    let Settings { journal: location, sandbox, stripe, upstream, routes, .. } = settings;
    let Opened { keys, journal, admin, receipts } = opened;
    let ledger_paths = receipts_settings.as_ref().map(ReceiptSettings::paths).unwrap_or_default();
    let test_mode = sandbox || stripe.as_ref().is_some_and(tower_mpp::method::PaymentMethod::is_test);
    let mut builder = Merchant::builder(realm.as_str(), keys)
        .test_mode(test_mode)
        .challenge_ttl(challenge_ttl)
        .redelivery_grace(redelivery_grace)
        .lease(lease)
        .refunds(refunds)
        .nonce_store(Arc::clone(&journal.payments))
        .answer_store(journal.answers)
        .expose_headers_to_browsers(cors.is_some());
    if let Some(policy) = https {
        builder = builder.require_https(policy);
    }
    if let Some(stripe) = stripe {
        builder = builder.method(stripe);
    }
    if sandbox {
        builder = builder.method(Sandbox::new());
    }
    if let Some(issuing) = &receipts {
        builder = builder.receipts(issuing.receipts.clone());
    }
    let merchant = builder.build()?;

    let upstream = Arc::new(Upstream::new(upstream)?);
    let mut router = Router::new();
    let operator = admin.as_deref().map(|token| Token::new(token));
    if let Some(token) = operator {
        let operated = Operated { merchant: merchant.clone(), payments: journal.payments, store: location.kind() };
        // As one service, so that no pattern of the configuration gets what it does not know.
        router = router.nest_service(routes::ADMIN, admin::router(operated, token));
    }
    let mut router = router.route(routes::HEALTH, get(|| async { axum::Json(serde_json::json!({"ok": true})) }));
    let header = receipts.as_ref().map(|issuing| issuing.header);
    if let Some(Issuing { receipts, title, .. }) = receipts {
        // The operator owns every receipt.
        let mut ledger = Ledger::new(receipts).title(title);
        if let Some(token) = operator {
            ledger = ledger.owner(move |head| token.is_in(&head.headers));
        }
        for path in ledger_paths {
            router = router.route_service(&path, ledger.clone());
        }
    }
    for route in routes {
        let path = route.path.clone();
        router = router.route(&path, serve(&merchant, route, header, Arc::clone(&upstream))?);
    }
    let mut router = router
        .fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "There is no such resource.") })
        .layer(middleware::from_fn(paths::refuse_ambiguous));
    if let Some(origins) = cors {
        // Answers preflights, so outside of everything else.
        router = router.layer(
            CorsLayer::new()
                .allow_origin(origins)
                .allow_methods(AllowMethods::mirror_request())
                .allow_headers(AllowHeaders::mirror_request())
                .max_age(Duration::from_secs(600)),
        );
    }
    Ok(App { router, merchant })
}

/// A route: its size limit, then its price, then the upstream.
fn serve(
    merchant: &Merchant,
    route: Route,
    header: Option<ReceiptHeader>,
    upstream: Arc<Upstream>,
) -> Result<MethodRouter, ConfigError> {
    let limit = route.body_limit;
    let priced_as_json = matches!(route.pricing, Pricing::ByModel(_));
    let handler = on(filter(&route), move |mut request: Request| {
        let upstream = Arc::clone(&upstream);
        if priced_as_json {
            pricing::declare_json(request.headers_mut());
        }
        async move { upstream.answer(request, limit).await }
    });
    let priced = match (charge(merchant, &route)?, header) {
        (Some(charge), None) => handler.route_layer(charge),
        (Some(charge), Some(header)) => {
            let wrong = |error| ConfigError::new("receipts.header", error);
            handler.route_layer(charge.receipt_header(header).map_err(wrong)?)
        }
        (None, _) => handler,
    };
    // Before anything is paid for, or read.
    Ok(priced.route_layer(middleware::from_fn(move |request, next| refuse_large(limit, request, next))))
}

fn filter(route: &Route) -> MethodFilter {
    let known = route.methods.iter().filter_map(|name| {
        let method = name.parse::<Method>().ok()?;
        MethodFilter::try_from(method).ok()
    });
    known.reduce(MethodFilter::or).unwrap_or(MethodFilter::GET)
}

fn charge(merchant: &Merchant, route: &Route) -> Result<Option<PaymentLayer>, ConfigError> {
    let wrong = |field: &str, error| ConfigError::new(format_args!("{}.{field}", route.place), error);
    let charge = match &route.pricing {
        Pricing::Free => return Ok(None),
        Pricing::Fixed(price) => merchant.charge(price.clone()).map_err(|error| wrong("price", error))?,
        Pricing::ByModel(prices) => {
            // What a request costs is looked up when it comes; whether it can be paid is known now.
            for (model, price) in prices {
                let payable = merchant.charge(price.clone()).map(drop);
                payable.map_err(|error| wrong(&format!("price_by_model.{model}"), error))?;
            }
            let place = format!("{}.price_by_model", route.place);
            let models = pricing::by_model(prices.clone()).map_err(|error| ConfigError::new(place, error))?;
            merchant.charge(models).map_err(|error| wrong("price_by_model", error))?
        }
    };
    let charge = charge.body_limit(route.body_limit).bind_body(route.bind_body).bind_query(route.bind_query);
    Ok(Some(match &route.description {
        Some(description) => charge.description(description),
        None => charge,
    }))
}

async fn refuse_large(limit: usize, request: Request, next: Next) -> Response {
    if upstream::too_large(&request, limit) {
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "The request body is too large.").into_response();
    }
    next.run(request).await
}
