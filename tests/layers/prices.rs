//! Prices of all kinds.

use super::*;

#[tokio::test]
async fn subscribers_are_free() {
    let rail = TestRail::new("demo");
    let who = |payment: Option<PaymentInfo>| async move {
        payment.map_or("subscriber".to_owned(), |payment| format!("paid {}", payment.amount()))
    };
    let charge = merchant(&rail).charge(usd("1.00")).unwrap();
    let charge = charge.free_when(|head| head.headers.get("x-plan").is_some_and(|plan| plan == "gold"));
    let app = Router::new().route("/", get(who).route_layer(charge));
    let gold = call(&app, header(get_("/"), "x-plan", "gold")).await;
    assert_eq!((gold.status.as_u16(), gold.text()), (200, "subscriber"));
    gold.assert_no_challenge();
    assert_eq!(call(&app, header(get_("/"), "x-plan", "tin")).await.status, 402);
    assert_eq!(buy(&app, || get_("/")).await.text(), "paid 100");
    assert_eq!(rail.settlements(), 1);
}

#[tokio::test]
async fn a_handler_that_asks_who_paid_on_a_free_route_is_a_500_and_not_a_lie() {
    let app = Router::new().route("/", get(|payment: PaymentInfo| async move { payment.reference().to_owned() }));
    let answer = call(&app, get_("/")).await;
    assert_eq!(answer.status, 500);
    assert!(answer.body.is_empty());
}

#[tokio::test]
async fn a_price_by_head_is_what_is_asked_and_what_is_taken() {
    let rail = TestRail::new("demo");
    let pricing = |head: &Parts| match head.uri.path().rsplit('/').next() {
        Some("small") => Ok(Some(usd("0.10"))),
        Some("large") => Ok(Some(usd("10.00"))),
        Some("free") => Ok(None),
        _ => Err(Refused::new(StatusCode::NOT_FOUND, "There is no such size.")),
    };
    let charge = merchant(&rail).charge(pricing).unwrap();
    let paid = |Path(_): Path<String>, payment: Option<PaymentInfo>| async move {
        payment.map_or("free".to_owned(), |payment| format!("{} {}", payment.amount(), payment.currency()))
    };
    let app = Router::new().route("/{size}", get(paid).route_layer(charge));
    assert_eq!(amount(&ask(&app, get_("/small")).await), "10 usd");
    assert_eq!(amount(&ask(&app, get_("/large")).await), "1000 usd");
    assert_eq!(buy(&app, || get_("/small")).await.text(), "10 usd");
    assert_eq!(call(&app, get_("/free")).await.text(), "free");
    let unknown = call(&app, get_("/huge")).await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.text().contains("There is no such size."));
    unknown.assert_no_challenge();
}

#[tokio::test]
async fn a_price_that_changed_is_asked_anew_and_the_old_one_not_taken() {
    let rail = TestRail::new("demo");
    let price = Arc::new(Mutex::new(usd("1.00")));
    let current = Arc::clone(&price);
    let charge = merchant(&rail).charge(move |_: &Parts| current.lock().unwrap().clone()).unwrap();
    let app = Router::new().route("/", get("served").route_layer(charge));
    let credential = pay(&ask(&app, get_("/")).await);
    *price.lock().unwrap() = usd("0.50");
    let answer = call(&app, with_credential(get_("/"), &credential)).await;
    answer.assert_challenged("invalid-challenge");
    assert_eq!(amount(&challenge(&answer.headers)), "50 usd");
    *price.lock().unwrap() = usd("1.00");
    assert_eq!(call(&app, with_credential(get_("/"), &credential)).await.status, 200);
    // More prices than a route remembers.
    for cents in 1..200_u32 {
        *price.lock().unwrap() = usd(&format!("3.{:02}", cents % 100));
        assert_eq!(buy(&app, || get_("/")).await.status, 200);
    }
}

fn by_model(_: &Parts, body: &Bytes) -> Result<Price, Refused> {
    let request: Value = serde_json::from_slice(body).map_err(|_| Refused::bad_request("The body is not JSON."))?;
    match request["model"].as_str() {
        Some("fast") => Ok(usd("0.10")),
        Some("wise") => Ok(usd("5.00")),
        _ => Err(Refused::bad_request("There is no such model.")),
    }
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_before_any_challenge() {
    let rail = TestRail::new("demo");
    let merchant = merchant(&rail);
    let layers = [
        merchant.charge(pricing::with_body(by_model)).unwrap(),
        merchant
            .charge(pricing::with_async(|head, body| {
                let quote = by_model(head, body);
                async {
                    tokio::task::yield_now().await;
                    quote
                }
            }))
            .unwrap(),
    ];
    for charge in layers {
        let app = Router::new().route("/", post(|body: String| async move { body }).route_layer(charge));
        let ask_for = |body| request(Method::POST, "/", body);
        for (body, words) in [
            (r#"{"model":"unheard of"}"#, "There is no such model."),
            ("{}", "There is no such model."),
            ("not json", "The body is not JSON."),
            ("", "The body is not JSON."),
        ] {
            // With any credential or none.
            for credential in ["", "Payment garbage"] {
                let answer = call(&app, header(ask_for(body), "authorization", credential)).await;
                assert_eq!(answer.status, 400);
                assert!(answer.text().contains(words), "{}", answer.text());
                answer.assert_no_challenge();
            }
        }
        assert_eq!(amount(&ask(&app, ask_for(r#"{"model":"fast"}"#)).await), "10 usd");
        let wise = ask(&app, ask_for(r#"{"model":"wise"}"#)).await;
        assert_eq!(amount(&wise), "500 usd");
        assert_eq!(buy(&app, || ask_for(r#"{"model":"fast"}"#)).await.text(), r#"{"model":"fast"}"#);
        // The price of one model does not buy another.
        let fast = pay(&ask(&app, ask_for(r#"{"model":"fast"}"#)).await);
        let answer = call(&app, with_credential(ask_for(r#"{"model":"wise"}"#), &fast)).await;
        answer.assert_challenged("invalid-challenge");
    }
    assert_eq!(rail.settlements(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_price_that_cannot_be_looked_up_in_time_is_503() {
    let rail = TestRail::new("demo");
    let charge = merchant(&rail)
        .charge(pricing::with_async(|head: &Parts, _| {
            let stuck = head.headers.contains_key("x-stuck");
            async move {
                if stuck {
                    std::future::pending::<()>().await;
                }
                usd("1.00")
            }
        }))
        .unwrap();
    let app = Router::new().route("/", get("served").route_layer(charge));
    let credential = pay(&ask(&app, get_("/")).await);
    let begun = tokio::time::Instant::now();
    let stuck = header(with_credential(get_("/"), &credential), "x-stuck", "1");
    let answer = call(&app, stuck).await;
    assert_eq!((answer.status.as_u16(), begun.elapsed().as_secs()), (503, 5));
    assert!(answer.headers.contains_key("retry-after"));
    answer.assert_no_challenge();
    assert_eq!(rail.attempts(), 0);
    assert_eq!(call(&app, with_credential(get_("/"), &credential)).await.status, 200);
}

#[tokio::test]
async fn a_price_that_no_rail_takes_is_our_mistake_and_says_so_without_a_challenge() {
    let rail = TestRail::new("demo");
    let merchant = merchant(&rail);
    let nobody: [Quote; 2] = [usd("0.00").into(), Prices::only(MethodId::new("unheard").unwrap(), usd("1.00")).into()];
    for quote in nobody {
        let charge = merchant.charge(move |_: &Parts| quote.clone()).unwrap();
        let app = Router::new().route("/", get("served").route_layer(charge));
        let answer = call(&app, get_("/")).await;
        assert_eq!(answer.status, 500);
        answer.assert_no_challenge();
    }
}

#[tokio::test]
async fn every_rail_has_its_price() {
    let (card, coin) = (TestRail::new("card"), TestRail::new("coin"));
    let merchant = builder(&card).method(coin.clone()).build().unwrap();
    let id = |name: &'static str| MethodId::new(name).unwrap();
    let app = |prices: Prices| Router::new().route("/", get("served").route_layer(merchant.charge(prices).unwrap()));
    let offered = async |app: &Router| -> Vec<String> {
        let all = challenges(&call(app, get_("/")).await.headers);
        all.iter().map(|challenge| format!("{} {}", challenge.method, amount(challenge))).collect()
    };
    // `builder` begins with the rail `demo`, which is `card` here.
    let cheaper = app(Prices::all(usd("1.00")).on(id("coin"), usd("0.90")));
    assert_eq!(offered(&cheaper).await, ["card 100 usd", "coin 90 usd"]);
    assert_eq!(offered(&app(Prices::only(id("coin"), usd("0.90")))).await, ["coin 90 usd"]);
    let two = Prices::only(id("coin"), usd("0.90")).on(id("coin"), Price::fiat("eur", "0.80").unwrap());
    assert_eq!(offered(&app(two)).await, ["coin 90 usd", "coin 80 eur"]);
    // The cheap price is not good on the dear rail.
    let all = challenges(&call(&cheaper, get_("/")).await.headers);
    let mut swapped = all[1].clone();
    swapped.method = id("card");
    assert_eq!(call(&cheaper, with_credential(get_("/"), &pay(&swapped))).await.status, 402);
    assert_eq!(call(&cheaper, with_credential(get_("/"), &pay(&all[1]))).await.status, 200);
    assert_eq!((card.settlements(), coin.settlements()), (0, 1));
}

#[tokio::test]
async fn two_routes_of_one_merchant_are_two_things() {
    let rail = TestRail::new("demo");
    let merchant = merchant(&rail);
    let charge = |price| merchant.charge(usd(price)).unwrap();
    let app = Router::new()
        .route("/a", get("a").route_layer(charge("1.00")).post("free post"))
        .route("/b", get("b").route_layer(charge("2.00")).merge(post("paid post").route_layer(charge("3.00"))));
    assert_eq!(amount(&ask(&app, get_("/a")).await), "100 usd");
    assert_eq!(amount(&ask(&app, get_("/b")).await), "200 usd");
    assert_eq!(amount(&ask(&app, request(Method::POST, "/b", "")).await), "300 usd");
    assert_eq!(call(&app, request(Method::POST, "/a", "")).await.text(), "free post");
    for (path, text) in [("/a", "a"), ("/b", "b")] {
        assert_eq!(buy(&app, || get_(path)).await.text(), text);
    }
    assert_eq!(buy(&app, || request(Method::POST, "/b", "x")).await.text(), "paid post");
    assert_eq!(rail.settlements(), 3);
}
