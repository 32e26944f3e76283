//! A price by the model that the body names: one reading, and nothing is asked for what is not sold.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use axum::{Router, body::Body, extract::Request, routing::post};
use http::request::Parts;
use serde_json::json;
use support::{Answer, TestRail, ask, call, merchant, pay_with, with_credential};
use tower_mpp::{
    Merchant, OfferTerms, Price,
    method::Sandbox,
    pricing::{InvalidModelOptions, ModelOption, ModelOptions, ModelStatus, Prices},
    protocol::{Challenge, MethodId},
};

const NOVA: &str = "bedrock/us.amazon.nova-micro-v1:0";
const SONNET: &str = "bedrock/us.anthropic.claude-sonnet-4-6";
const OPUS: &str = "bedrock/us.anthropic.claude-opus-4-7";

fn usd(amount: &str) -> Price {
    Price::usd(amount).unwrap()
}

/// The three options of prxy.monster, and one that is not sold any more.
fn options() -> ModelOptions {
    ModelOptions::new([
        ModelOption::new("fast", NOVA, usd("0.50")),
        ModelOption::new("balanced", SONNET, usd("0.50")).alias("claude-sonnet-4-6"),
        ModelOption::new("coding", OPUS, usd("1.50")).alias("claude-opus-4-7").alias("opus"),
        ModelOption::new("old", "bedrock/us.anthropic.claude-2", usd("0.10")).status(ModelStatus::Disabled),
    ])
    .unwrap()
}

fn head() -> Parts {
    Request::post("/").body(()).unwrap().into_parts().0
}

fn named(model: &str) -> String {
    json!({"messages": [], "model": model}).to_string()
}

fn chosen<'o>(options: &'o ModelOptions, body: &str) -> Result<&'o str, u16> {
    options.choose(&head(), body.as_bytes()).map(|option| &*option.id).map_err(|refused| refused.status().as_u16())
}

/// A shop for them, and how often its handler was called.
fn shop(rail: &TestRail, options: ModelOptions) -> (Router, Arc<AtomicUsize>) {
    let calls = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&calls);
    let models = options.clone();
    let handler = post(move |request: Request| {
        counter.fetch_add(1, Ordering::SeqCst);
        let models = models.clone();
        async move {
            let (head, body) = request.into_parts();
            let body = axum::body::to_bytes(body, 10_000).await.unwrap();
            models.choose(&head, &body).unwrap().model.clone()
        }
    });
    let charge = merchant(rail).charge(options).unwrap();
    (Router::new().route("/", handler.route_layer(charge)), calls)
}

fn message(body: &str) -> Request {
    Request::post("/").body(Body::from(body.to_owned())).unwrap()
}

fn amount(challenge: &Challenge) -> String {
    let request: serde_json::Value = challenge.request_as().unwrap();
    format!("{} {}", request["amount"].as_str().unwrap(), request["currency"].as_str().unwrap())
}

fn pay(challenge: &Challenge) -> http::HeaderValue {
    pay_with(challenge, None, &json!({"token": "ok"}))
}

#[test]
fn a_model_goes_by_its_id_its_model_its_bare_model_and_its_aliases() {
    let options = options();
    for (name, id) in [
        ("fast", "fast"),
        (NOVA, "fast"),
        ("us.amazon.nova-micro-v1:0", "fast"),
        ("balanced", "balanced"),
        (SONNET, "balanced"),
        ("us.anthropic.claude-sonnet-4-6", "balanced"),
        ("claude-sonnet-4-6", "balanced"),
        (OPUS, "coding"),
        ("opus", "coding"),
    ] {
        assert_eq!(chosen(&options, &named(name)), Ok(id), "{name}");
    }
    // Letter by letter: the service behind is asked for what stands there.
    for name in ["Fast", " fast", "fast ", "", "bedrock", "bedrock/", "bedrock/fast", "claude", "old", "bedrock/us"] {
        assert_eq!(chosen(&options, &named(name)), Err(400), "{name}");
    }
}

#[test]
fn only_a_default_stands_for_no_model() {
    let body = r#"{"messages":[]}"#;
    assert_eq!(chosen(&options(), body), Err(400));
    assert_eq!(chosen(&options().default_option("balanced").unwrap(), body), Ok("balanced"));
}

#[test]
fn a_body_with_two_readings_is_refused_with_a_default_and_without() {
    for options in [options(), options().default_option("fast").unwrap()] {
        assert_eq!(chosen(&options, r#"{"a":[{"model":"x"}],"model":"fast"}"#), Ok("fast"));
        assert_eq!(chosen(&options, r#"{"model":"f\u0061st"}"#), Ok("fast"));
        for bad in [
            "",
            " ",
            "[]",
            "null",
            r#""fast""#,
            r#"{"model":null}"#,
            r#"{"model":1}"#,
            r#"{"model":["fast"]}"#,
            r#"{"model":"slow"}"#,
            r#"{"model":"fast"}x"#,
            r#"{"model":"fast"}{"model":"coding"}"#,
            r#"{"model":"fast","model":"fast"}"#,
            r#"{"model":"fast","Model":"coding"}"#,
            r#"{"MODEL":"fast"}"#,
            r#"{"model":"fast","mod\u0065l":"coding"}"#,
            r#"{"model":"fast""#,
            r#"{"model":"fast",}"#,
            "\u{feff}{\"model\":\"fast\"}",
        ] {
            assert_eq!(chosen(&options, bad), Err(400), "{bad}");
        }
        let broken = b"{\"model\":\"fast\",\"messages\":\"\xff\"}";
        assert_eq!(options.choose(&head(), broken).unwrap_err().status(), 400);
    }
}

#[test]
fn a_body_in_a_content_encoding_is_415() {
    for encoding in ["gzip", "identity", ""] {
        let mut head = head();
        head.headers.insert("content-encoding", encoding.parse().unwrap());
        assert_eq!(options().choose(&head, named("fast").as_bytes()).unwrap_err().status(), 415);
    }
}

#[test]
fn a_form_is_refused_only_where_somebody_may_read_it_as_one() {
    let form = Request::post("/").header("content-type", "application/x-www-form-urlencoded").body(()).unwrap();
    let (form, _) = form.into_parts();
    let body = named("fast");
    // What `curl -d` says of every body.
    assert_eq!(options().choose(&form, body.as_bytes()).unwrap().id, "fast");
    let strict = options().json_only(true);
    assert_eq!(strict.choose(&form, body.as_bytes()).unwrap_err().status(), 415);
    assert_eq!(strict.choose(&head(), body.as_bytes()).unwrap().id, "fast");
}

#[test]
fn a_refusal_lists_what_is_sold_and_repeats_nothing_of_the_request() {
    for body in [named("<script>secret"), named("old"), r#"{"secret":1}"#.to_owned()] {
        let refused = options().choose(&head(), body.as_bytes()).unwrap_err();
        assert!(refused.detail().ends_with("Models: fast, balanced, coding."), "{refused}");
        assert!(!refused.detail().contains("secret"));
    }
}

#[test]
fn options_that_could_be_taken_for_each_other_are_refused() {
    let option = |id: &str, model: &str| ModelOption::new(id, model, usd("1.00"));
    let error = |options: Vec<ModelOption>| ModelOptions::new(options).unwrap_err();
    let duplicate = |name: &str, first: &str, second: &str| InvalidModelOptions::Duplicate {
        name: name.into(),
        first: first.into(),
        second: second.into(),
    };
    assert_eq!(error(vec![]), InvalidModelOptions::Empty);
    assert_eq!(error(vec![option("a", "x"), option("a", "y")]), duplicate("a", "a", "a"));
    assert_eq!(error(vec![option("a", "x"), option("A", "y")]), duplicate("A", "a", "A"));
    assert_eq!(error(vec![option("a", "x/y"), option("b", "X/Y")]), duplicate("X/Y", "a", "b"));
    assert_eq!(error(vec![option("a", "x").alias("Z"), option("b", "y").alias("z")]), duplicate("z", "a", "b"));
    assert_eq!(error(vec![option("a", "x"), option("b", "y").alias("A")]), duplicate("A", "a", "b"));
    for (empty, field) in [(option("", "x"), "id"), (option("a", ""), "model"), (option("a", "x").alias(""), "aliases")]
    {
        let id = empty.id.clone();
        assert_eq!(error(vec![empty]), InvalidModelOptions::EmptyName { option: id, field });
    }
    // One option may have a name twice.
    assert!(ModelOptions::new([option("a", "a").alias("A").alias("A")]).is_ok());
}

#[test]
fn a_bare_model_that_two_options_could_mean_is_nobodys() {
    let options = ModelOptions::new([
        ModelOption::new("a", "anthropic/claude", usd("1.00")),
        ModelOption::new("b", "bedrock/Claude", usd("2.00")),
        ModelOption::new("c", "bedrock/opus", usd("3.00")),
        ModelOption::new("d", "other", usd("4.00")).alias("opus"),
        ModelOption::new("e", "slash/", usd("5.00")),
    ])
    .unwrap();
    for name in ["claude", "Claude", ""] {
        assert_eq!(chosen(&options, &named(name)), Err(400), "{name}");
    }
    // What somebody says by name counts more than what a prefix leaves over.
    assert_eq!(chosen(&options, &named("opus")), Ok("d"));
    assert_eq!(chosen(&options, &named("bedrock/opus")), Ok("c"));
    assert_eq!(chosen(&options, &named("slash/")), Ok("e"));
}

#[test]
fn there_is_one_default_and_it_is_sold() {
    let error = |options: Result<ModelOptions, _>| options.unwrap_err();
    assert_eq!(error(options().default_option("no")), InvalidModelOptions::UnknownDefault("no".into()));
    // By its id, and not by another name.
    assert_eq!(error(options().default_option(NOVA)), InvalidModelOptions::UnknownDefault(NOVA.into()));
    assert_eq!(error(options().default_option("old")), InvalidModelOptions::DisabledDefault("old".into()));
    let second = options().default_option("fast").unwrap().default_option("coding");
    let both = InvalidModelOptions::SecondDefault { first: "fast".into(), second: "coding".into() };
    assert_eq!(error(second), both);
}

#[test]
fn models_by_name_have_no_other_name() {
    let options = ModelOptions::by_name([("openai/gpt", usd("1.00")), ("fast", usd("2.00"))]).unwrap();
    assert_eq!(chosen(&options, &named("openai/gpt")), Ok("openai/gpt"));
    assert_eq!(chosen(&options, &named("gpt")), Err(400));
    assert!(ModelOptions::by_name([("a", usd("1.00")), ("A", usd("2.00"))]).is_err());
    assert!(ModelOptions::by_name([("", usd("1.00"))]).is_err());
    assert!(ModelOptions::by_name(Vec::<(String, Price)>::new()).is_err());
}

#[test]
fn the_prices_of_what_is_sold_are_told_once_each() {
    assert_eq!(options().prices(), [&usd("0.50"), &usd("1.50")]);
}

#[tokio::test]
async fn each_model_is_asked_for_at_its_own_price_and_served() {
    let rail = TestRail::new("demo");
    let (app, calls) = shop(&rail, options().default_option("fast").unwrap());
    for (body, price, model) in [
        (named("fast"), "50 usd", NOVA),
        (named("claude-sonnet-4-6"), "50 usd", SONNET),
        (named("coding"), "150 usd", OPUS),
        ("{}".to_owned(), "50 usd", NOVA),
    ] {
        let challenge = ask(&app, message(&body)).await;
        assert_eq!(amount(&challenge), price, "{body}");
        let answer = call(&app, with_credential(message(&body), &pay(&challenge))).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, model), "{body}");
    }
    assert_eq!((rail.settlements(), calls.load(Ordering::SeqCst)), (4, 4));
}

#[tokio::test]
async fn what_is_not_sold_is_400_without_a_challenge_whatever_is_presented() {
    let rail = TestRail::new("demo");
    let (app, calls) = shop(&rail, options());
    let credential = pay(&ask(&app, message(&named("fast"))).await);
    let refused = |answer: &Answer| {
        assert_eq!(answer.status, 400, "{answer:?}");
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        answer.assert_no_challenge();
    };
    for body in [named("unheard of"), named("old"), "{}".into(), "[]".into(), String::new()] {
        refused(&call(&app, message(&body)).await);
        refused(&call(&app, with_credential(message(&body), &credential)).await);
    }
    assert_eq!((rail.attempts(), calls.load(Ordering::SeqCst)), (0, 0));
}

#[tokio::test]
async fn a_payment_for_one_model_buys_no_other_of_the_same_price() {
    let rail = TestRail::new("demo");
    let (app, calls) = shop(&rail, options());
    let credential = pay(&ask(&app, message(&named("fast"))).await);
    for other in ["balanced", "coding", NOVA] {
        let answer = call(&app, with_credential(message(&named(other)), &credential)).await;
        answer.assert_challenged("invalid-challenge");
    }
    assert_eq!((rail.attempts(), calls.load(Ordering::SeqCst)), (0, 0));
    assert_eq!(call(&app, with_credential(message(&named("fast")), &credential)).await.status, 200);
}

/// A merchant with two rails.
fn market(rail: &TestRail) -> Merchant {
    support::builder(rail).method(Sandbox::new()).test_mode(true).build().unwrap()
}

/// Rail, amount and currency of each offer.
fn told(offers: &[OfferTerms]) -> Vec<(&str, Option<String>, &str, Option<u8>)> {
    let told = |offer: &'_ OfferTerms| offer.amount.map(|amount| amount.to_string());
    offers.iter().map(|offer| (offer.method.as_str(), told(offer), offer.currency.as_str(), offer.decimals)).collect()
}

#[test]
fn what_a_fixed_price_is_asked_for_with_is_told_challenge_by_challenge() {
    let merchant = market(&TestRail::new("demo"));
    let layer = merchant.charge(usd("0.50")).unwrap();
    let both = [("demo", Some("50".into()), "usd", Some(2)), ("sandbox", Some("50".into()), "usd", Some(2))];
    assert_eq!(told(&layer.offers()), both);
    assert_eq!(layer.offers(), merchant.offers(usd("0.50")));
    // Two offers on one rail stay two, also of one price.
    let prices = Prices::only(MethodId::SANDBOX, usd("0.50")).on(MethodId::SANDBOX, usd("0.50"));
    assert_eq!(merchant.charge(prices).unwrap().offers().len(), 2);
}

#[test]
fn what_depends_on_the_request_is_told_without_an_amount() {
    let merchant = market(&TestRail::new("demo"));
    let layer = merchant.charge(options()).unwrap();
    let unknown = [("demo", None, "usd", Some(2)), ("sandbox", None, "usd", Some(2))];
    assert_eq!(told(&layer.offers()), unknown);
    // What is disabled has no price; where all that is sold costs the same, that is what it costs.
    let same = ModelOptions::new([
        ModelOption::new("a", "a", usd("0.50")),
        ModelOption::new("b", "b", usd("0.50")),
        ModelOption::new("c", "c", usd("9.00")).status(ModelStatus::Disabled),
    ]);
    let known = [("demo", Some("50".into()), "usd", Some(2)), ("sandbox", Some("50".into()), "usd", Some(2))];
    assert_eq!(told(&merchant.charge(same.unwrap()).unwrap().offers()), known);
    // A closure knows nothing before a request comes, but who wrote it does.
    let closure = merchant.charge(move |_: &Parts| usd("0.50")).unwrap();
    assert!(closure.offers().is_empty());
    assert_eq!(told(&merchant.dynamic_offers([usd("0.50")])), unknown);
    let euro = Price::fiat("eur", "1.00").unwrap();
    let currencies: Vec<_> = merchant.dynamic_offers([usd("0.50"), euro, usd("1.50")]);
    let currencies: Vec<_> = currencies.iter().map(|offer| (offer.method.as_str(), offer.currency.as_str())).collect();
    assert_eq!(currencies, [("demo", "usd"), ("sandbox", "usd"), ("demo", "eur"), ("sandbox", "eur")]);
    // A price that no rail can take is not offered.
    assert!(
        merchant
            .dynamic_offers([Price::fiat("jpy", "0").unwrap()])
            .iter()
            .all(|o| o.method != MethodId::new("demo").unwrap())
    );
}
