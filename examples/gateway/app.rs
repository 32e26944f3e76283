//! From the settings to a router. What is opened once stands apart: a router can be replaced around it.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
    routing::{MethodFilter, MethodRouter, get, on},
};
use http::Method;
use tower::{Layer as _, ServiceExt as _};
use tower_http::cors::{AllowHeaders, AllowMethods, CorsLayer};
use tower_mpp::{
    KeyRing, Merchant, PaymentLayer, ReceiptHeader, ledger::Ledger, method::PaymentMethod as _, method::Sandbox,
    store::NonceStore, upstream::UpstreamService,
};
use zeroize::Zeroizing;

use super::{
    admin::{self, Operated, Token},
    agent::{self, Provider, health::Started},
    catalog,
    common::journal::Journal,
    config::ConfigError,
    paths, pricing,
    problem::Problem,
    receipts::{Issuing, ReceiptSettings},
    routes::{self, Pricing, Route},
    services,
    settings::Settings,
    upstream,
};

/// What was opened, or made, at the start.
pub(crate) struct Opened {
    pub(crate) keys: KeyRing,
    pub(crate) journal: Journal,
    /// The operator's token.
    pub(crate) admin: Option<Zeroizing<String>>,
    pub(crate) receipts: Option<Issuing>,
    /// Who answers what agents pay for.
    pub(crate) provider: Option<Provider>,
    /// Where the gateway listens.
    pub(crate) address: String,
}

/// What outlives every configuration: the merchant with its keys, rails and journal, the receipts, the operator.
/// Payments that are in flight in an old router are known here, and can be redeemed in a new one.
pub(crate) struct Foundation {
    /// Everything that takes money here.
    pub(crate) merchant: Merchant,
    pub(crate) payments: Arc<dyn NonceStore>,
    pub(crate) receipts: Option<Issuing>,
    pub(crate) provider: Option<Provider>,
    /// Where the gateway is reached: `https://api.example.com`.
    pub(crate) origin: String,
    started: Started,
    operator: Option<Token>,
    /// What kind of journal it is.
    store: &'static str,
}

impl Foundation {
    /// Builds the merchant. What is taken of the settings here is cold: see `reload.rs`.
    pub(crate) fn new(settings: &Settings, opened: Opened) -> Result<Self, tower_mpp::ConfigError> {
        let Opened { keys, journal, admin, receipts, provider, address } = opened;
        let test_mode = settings.sandbox || settings.stripe.as_ref().is_some_and(|stripe| stripe.is_test());
        let mut builder = Merchant::builder(settings.realm.as_str(), keys)
            .test_mode(test_mode)
            .challenge_ttl(settings.challenge_ttl)
            .redelivery_grace(settings.redelivery_grace)
            .lease(settings.lease)
            .refunds(settings.refunds)
            .nonce_store(Arc::clone(&journal.payments))
            .answer_store(journal.answers)
            // Says nothing to a browser that is not let in at all, and so need not change when that does.
            .expose_headers_to_browsers(true);
        if let Some(policy) = &settings.https {
            builder = builder.require_https(policy.clone());
        }
        if let Some(stripe) = &settings.stripe {
            builder = builder.shared_method(Arc::clone(stripe) as _);
        }
        if settings.sandbox {
            builder = builder.method(Sandbox::new());
        }
        if let Some(issuing) = &receipts {
            builder = builder.receipts(issuing.receipts.clone());
        }
        Ok(Self {
            merchant: builder.build()?,
            payments: journal.payments,
            receipts,
            provider,
            origin: match &settings.realm {
                realm if realm.is_loopback() => format!("http://{address}"),
                realm => format!("https://{realm}"),
            },
            started: Started::now(),
            operator: admin.as_deref().map(|token| Token::new(token)),
            store: settings.journal.kind(),
        })
    }
}

/// Builds the gateway of a configuration. Whatever can be wrong in it is found here.
pub(crate) fn router(settings: &Settings, foundation: &Foundation) -> Result<Router, ConfigError> {
    let Foundation { merchant, payments, receipts, provider, started, operator, store, .. } = foundation;
    let upstream = upstream::service(settings.upstream.clone());
    let mut router = Router::new();
    if let Some(token) = *operator {
        let operated = Operated { merchant: merchant.clone(), payments: Arc::clone(payments), store };
        // As one service, so that no pattern of the configuration gets what it does not know.
        router = router.nest_service(routes::ADMIN, admin::router(operated, token));
    }
    let mut router = router.route(routes::HEALTH, health(*started, provider.clone()));
    let header = receipts.as_ref().map(|issuing| issuing.header);
    if let Some(Issuing { receipts, title, .. }) = receipts {
        // The operator owns every receipt.
        let mut ledger = Ledger::new(receipts.clone()).title(title.as_str());
        if let Some(token) = *operator {
            ledger = ledger.owner(move |head| token.is_in(&head.headers));
        }
        for path in settings.receipts.as_ref().map(ReceiptSettings::paths).unwrap_or_default() {
            router = router.route_service(&path, ledger.clone());
        }
    }
    if let Some(agent) = &settings.agent {
        router = router.merge(agent::router(agent, settings, foundation)?);
    }
    if let Some(keyed) = &settings.api {
        router = router.merge(agent::keyed::router(keyed, settings, foundation, &upstream)?);
    }
    for route in &settings.routes {
        router = router.route(&route.path, serve(merchant, route, header, upstream.clone())?);
    }
    let proxy = services::proxy(&settings.services, foundation)?;
    let documents = catalog::documents(settings, foundation, proxy.as_ref())?;
    let router = match proxy {
        Some(proxy) if settings.discovery.is_some() => router.fallback_service(proxy),
        Some(proxy) => {
            // It has documents of its own.
            let own = catalog::own_documents(settings, &proxy)?;
            let hide = middleware::from_fn(move |request, next| catalog::hide(own.clone(), request, next));
            router.fallback_service(hide.layer(proxy))
        }
        None => router.fallback(|| async { Problem::new(StatusCode::NOT_FOUND, "There is no such resource.") }),
    };
    let mut router =
        router.layer(middleware::from_fn(move |request, next| catalog::answer(documents.clone(), request, next)));
    if let Some(spellings) = paths::Spellings::of(settings).map(Arc::new) {
        router = router.layer(middleware::from_fn(move |request, next| {
            let spellings = Arc::clone(&spellings);
            async move { paths::refuse_respelled(&spellings, request, next).await }
        }));
    }
    router = router.layer(middleware::from_fn(paths::refuse_ambiguous));
    if let Some(origins) = &settings.cors {
        // Answers preflights, so outside of everything else.
        router = router.layer(
            CorsLayer::new()
                .allow_origin(origins.clone())
                .allow_methods(AllowMethods::mirror_request())
                .allow_headers(AllowHeaders::mirror_request())
                .max_age(Duration::from_secs(600)),
        );
    }
    Ok(router)
}

/// A route: its size limit, then its price, then the upstream.
fn serve(
    merchant: &Merchant,
    route: &Route,
    header: Option<ReceiptHeader>,
    upstream: UpstreamService,
) -> Result<MethodRouter, ConfigError> {
    let limit = route.body_limit;
    let upstream = upstream.body_limit(limit);
    let priced_as_json = matches!(route.pricing, Pricing::ByModel(_));
    let handler = on(filter(&route.methods), move |mut request: Request| {
        let upstream = upstream.clone();
        if priced_as_json {
            pricing::declare_json(request.headers_mut());
        }
        upstream.oneshot(request)
    });
    let priced = match (charge(merchant, route)?, header) {
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

pub(super) fn filter(methods: &BTreeSet<String>) -> MethodFilter {
    let known = methods.iter().filter_map(|name| {
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

fn health(started: Started, provider: Option<Provider>) -> MethodRouter {
    get(move || {
        let answer = started.health(provider.as_ref());
        async move { answer }
    })
}

pub(super) async fn refuse_large(limit: usize, request: Request, next: Next) -> Response {
    if upstream::too_large(&request, limit) {
        return Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "The request body is too large.").into_response();
    }
    next.run(request).await
}
