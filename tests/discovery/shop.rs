//! Catalogs as peers have them.

use http::Method;
use serde_json::{Value, json};
use tower_mpp::discovery::{Catalog, Payment, Route, Service, Terms};

const OPENAI: &str = "https://context7.com/websites/platform_openai/llms.txt";
const STRIPE: &str = "https://context7.com/websites/stripe/llms.txt";

/// Terms from a list of members, in this order.
pub(crate) fn terms(members: &[(&str, Value)]) -> Payment {
    let terms = members.iter().fold(Terms::new(), |terms, (name, value)| terms.member(*name, value.clone()));
    Payment::Offers(vec![terms])
}

pub(crate) fn openai() -> Service {
    Service::new("openai")
        .title("OpenAI")
        .description("Chat completions, embeddings, image generation, and audio transcription.")
        .docs_llms_url(OPENAI)
}

pub(crate) fn anthropic() -> Service {
    Service::new("anthropic").title("Anthropic").description("Claude language models for messages and completions.")
}

fn stripe() -> Service {
    Service::new("stripe")
        .title("Stripe")
        .description("Payment processing, customers, subscriptions, and invoices.")
        .docs_llms_url("https://docs.stripe.com/llms.txt")
}

/// The services behind `proxy-live-mppx-0.4.8.json`.
pub(crate) fn live() -> Catalog {
    let paid = |amount: &str, description: Option<&str>| {
        let members = [
            ("intent", json!("charge")),
            ("method", json!("acme")),
            ("currency", json!("usd")),
            ("decimals", json!(2)),
            ("recipient", json!("acct_1")),
            ("amount", json!(amount)),
        ];
        let description = description.map(|text| ("description", json!(text)));
        terms(&members.into_iter().chain(description).collect::<Vec<_>>())
    };
    let get = |path| Route::new(Method::GET, path);
    let post = |path, amount| Route::new(Method::POST, path).payment(paid(amount, None));
    Catalog::new()
        .title("My Proxy")
        .description("Multi-service paid API proxy")
        .service(
            openai()
                .route(
                    Route::new(Method::POST, "/openai/v1/chat/completions")
                        .payment(paid("50", Some("Chat completion")))
                        .docs_llms_url(format!("{OPENAI}?topic=POST%20%2Fv1%2Fchat%2Fcompletions")),
                )
                .route(get("/openai/v1/models").docs_llms_url(format!("{OPENAI}?topic=GET%20%2Fv1%2Fmodels"))),
        )
        .service(anthropic().route(post("/anthropic/v1/messages", "30")))
        .service(
            stripe()
                .route(
                    post("/stripe/v1/charges", "100").docs_llms_url(format!("{STRIPE}?topic=POST%20%2Fv1%2Fcharges")),
                )
                .route(
                    get("/stripe/v1/customers/:id")
                        .docs_llms_url(format!("{STRIPE}?topic=GET%20%2Fv1%2Fcustomers%2F%3Aid")),
                ),
        )
        .service(
            Service::new("my-api")
                .title("My API")
                .description("Example upstream API")
                .route(post("/my-api/v1/generate", "1"))
                .route(get("/my-api/v1/status"))
                .route(get("/my-api/v1/teapot").payment(paid("1", None)))
                .route(get("/my-api/v1/items/:id")),
        )
        .service(Service::new("hdr").route(post("/hdr/v1/query", "2")).route(get("/hdr/v1/free")))
}

const TOKEN: &str = "0x20c0000000000000000000000000000000000001";
const PAYEE: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

/// The services behind `proxy-discover.json`.
pub(crate) fn recorded() -> Vec<Service> {
    let tempo = |intent: &str, amount: &str, description: &str| {
        vec![
            ("intent", json!(intent)),
            ("method", json!("tempo")),
            ("amount", json!(amount)),
            ("currency", json!(TOKEN)),
            ("decimals", json!(6)),
            ("description", json!(description)),
            ("recipient", json!(PAYEE)),
        ]
    };
    let mut stream = tempo("session", "10000", "Stream message");
    stream.push(("unitType", json!("token")));
    let card = [
        ("intent", json!("charge")),
        ("method", json!("stripe")),
        ("amount", json!("100")),
        ("currency", json!("usd")),
        ("decimals", json!(2)),
        ("description", json!("Card priced")),
        ("networkId", json!("internal")),
        ("paymentMethodTypes", json!(["card"])),
    ];
    let any =
        [("intent", json!("charge")), ("method", json!("tempo")), ("amount", json!("250")), ("currency", json!("usd"))];
    let post = |path, members: &[(&str, Value)]| Route::new(Method::POST, path).payment(terms(members));
    vec![
        openai()
            .route(
                post("/openai/v1/chat/completions", &tempo("charge", "50000", "Chat completion"))
                    .docs_llms_url(format!("{OPENAI}?topic=POST%20%2Fv1%2Fchat%2Fcompletions")),
            )
            .route(
                Route::new(Method::GET, "/openai/v1/models")
                    .docs_llms_url(format!("{OPENAI}?topic=GET%20%2Fv1%2Fmodels")),
            ),
        anthropic()
            .route(post("/anthropic/v1/messages", &tempo("charge", "30000", "Send message")))
            .route(post("/anthropic/v1/messages/stream", &stream)),
        Service::new("my-api")
            .route(post("/my-api/v1/generate", &card))
            .route(Route::new(None, "/my-api/v1/anymethod").payment(terms(&any)))
            .route(Route::new(Method::GET, "/my-api/v1/bare").payment(Payment::Offers(Vec::new())))
            .route(Route::new(Method::GET, "/my-api/v1/items/:id")),
    ]
}
