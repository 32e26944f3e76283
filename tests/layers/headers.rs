//! Headers stay small and clean.

use super::*;

/// All header lines of an answer, as HTTP/1 writes them.
fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum()
}

#[tokio::test]
async fn many_offers_stay_under_eight_kilobytes() {
    let names: Vec<&'static str> =
        ('a'..='z').flat_map(|a| ['x', 'y'].map(|b| &*format!("rail{a}{b}").leak())).collect();
    let mut builder = Merchant::builder("api.example.com", KeyRing::new(KEY).unwrap())
        .nonce_store(MemoryNonceStore::single_process(100))
        .expose_headers_to_browsers(true);
    for name in &names {
        builder = builder.method(TestRail::new(name));
    }
    let merchant = builder.build().unwrap();
    let charge = || merchant.charge(usd("1.00")).unwrap();
    let long = "A description. ".repeat(200);
    let awkward = "\u{1F600}\"\\\r\n".repeat(300);
    let path = format!("/{}", "\"%22{}".repeat(30));
    for layer in [charge(), charge().description("Short"), charge().description(&long), charge().description(&awkward)]
    {
        let app = Router::new().route("/{*path}", post("served").route_layer(layer));
        for accept in ["", "application/json", "text/html"] {
            let answer = call(&app, header(request(Method::POST, &path, "body"), "accept", accept)).await;
            assert_eq!(answer.status, 402);
            let size = header_bytes(&answer.headers);
            assert!(size < 8192, "{size}");
            // The first ones are the ones that the merchant likes best.
            let all = challenges(&answer.headers);
            assert!(all.len() > 8, "{}", all.len());
            for (challenge, name) in all.iter().zip(&names) {
                assert_eq!(challenge.method.as_str(), *name);
            }
        }
        // What was left out is offered to who asks for it.
        let wanted = header(request(Method::POST, &path, "body"), "accept-payment", "railzy/charge");
        let challenge = ask(&app, wanted).await;
        assert_eq!(challenge.method.as_str(), "railzy");
        let paid = call(&app, with_credential(request(Method::POST, &path, "body"), &pay(&challenge))).await;
        assert_eq!(paid.status, 200);
    }
}

#[tokio::test]
async fn a_description_that_is_too_long_is_left_out_and_never_the_offer() {
    let rail = TestRail::new("demo");
    for length in [100, 1000, 6000, 10_000, 100_000] {
        let text = "x".repeat(length);
        let merchant = merchant(&rail);
        let by_route = merchant.charge(usd("1.00")).unwrap().description(&text);
        let by_price = merchant.charge(Prices::all(usd("1.00")).description(text.clone())).unwrap();
        for layer in [by_route, by_price] {
            let app = Router::new().route("/", get("served").route_layer(layer));
            let answer = call(&app, get_("/")).await;
            assert_eq!(answer.status, 402);
            assert!(header_bytes(&answer.headers) < 8192);
            let description = challenge(&answer.headers).description;
            assert_eq!(description, (length < 6500).then(|| text.clone()), "{length}");
        }
    }
}

#[tokio::test]
async fn long_and_odd_paths_are_bound_and_keep_the_challenge_small() {
    let rail = TestRail::new("demo");
    let charge = merchant(&rail).charge(usd("1.00")).unwrap();
    let app = Router::new().route("/{*path}", get("served").route_layer(charge));
    let paths = [
        format!("/{}", "a".repeat(8000)),
        format!("/{}", "a".repeat(7999)),
        format!("/{}", "%22".repeat(2000)),
        format!("/{}", "\"".repeat(200)),
        format!("/x?{}", "secret=".repeat(1000)),
        "/caf%C3%A9/%F0%9F%98%80".to_owned(),
        "/caf\u{e9}".to_owned(),
        "/%zz%".to_owned(),
        "/a%0d%0aSet-Cookie:%20x=1".to_owned(),
        "/\"quoted\"/{braces}|pipe".to_owned(),
        "/a\\b".to_owned(),
        "/%7C%00%1f%7f".to_owned(),
        "/a,b;c=d, Payment id=\"x\"".replace(' ', "%20"),
    ];
    let mut credentials = Vec::new();
    for path in &paths {
        let Ok(uri) = path.parse::<http::Uri>() else { continue };
        let request = || Request::builder().uri(uri.clone()).body(Body::empty()).unwrap();
        let answer = call(&app, request()).await;
        assert_eq!(answer.status, 402, "{path}");
        let value = answer.headers["www-authenticate"].as_bytes();
        assert!(value.len() < 1024 && value.iter().all(|byte| (b' '..=b'~').contains(byte)), "{path}");
        let challenge = challenge(&answer.headers);
        let opaque = challenge.opaque_members().unwrap();
        assert!(opaque["scope"].len() <= 256 && !opaque["scope"].contains("secret"), "{path}");
        credentials.push((uri, pay(&challenge)));
    }
    assert!(credentials.len() >= 11);
    // Each buys its own, and none another.
    for (own, credential) in &credentials {
        for (uri, _) in &credentials {
            if uri.path() != own.path() {
                let request = Request::builder().uri(uri.clone()).body(Body::empty()).unwrap();
                assert_eq!(call(&app, with_credential(request, credential)).await.status, 402, "{own} {uri}");
            }
        }
        let request = Request::builder().uri(own.clone()).body(Body::empty()).unwrap();
        assert_eq!(call(&app, with_credential(request, credential)).await.status, 200, "{own}");
    }
}

#[tokio::test]
async fn no_text_of_a_merchant_injects_a_header() {
    let texts = [
        "plain",
        "a\r\nSet-Cookie: stolen=1",
        "a\nb",
        "a\rb",
        "\0\u{1}\u{7f}\t",
        "\"quoted\", Payment id=\"forged\"",
        "back\\slash\\",
        "\\",
        "\\u0041 is not A",
        "\u{1F600} caf\u{e9} \u{202e}\u{2028}",
        "",
        ", ",
    ];
    for text in texts {
        let rail = TestRail::new("demo");
        let merchant = merchant(&rail);
        let by_route = merchant.charge(usd("1.00")).unwrap().description(text).scope(text);
        let by_price = merchant.charge(Prices::all(usd("1.00")).description(text).external_id(text)).unwrap();
        for layer in [by_route, by_price] {
            let app = Router::new().route("/", get("served").route_layer(layer));
            let server = support::Server::start(app).await;
            let answer = server.get("/").await;
            assert_eq!(answer.status, 402);
            assert!(!answer.headers.contains_key("set-cookie"));
            let value = answer.headers["www-authenticate"].as_bytes();
            assert!(value.iter().all(|byte| (b' '..=b'~').contains(byte) || *byte == b'\t'), "{text:?}");
            let challenge = challenge(&answer.headers);
            assert_eq!(challenge.description.as_deref(), Some(text));
            let paid = server.get_paid("/", &pay(&challenge)).await;
            assert_eq!((paid.status.as_u16(), paid.text()), (200, "served"), "{text:?}");
            let long = Duration::from_secs(60);
            assert!(
                challenge
                    .expires_at()
                    .is_some_and(|at| at > tower_mpp::Clock::now(&tower_mpp::SystemClock).saturating_add(long))
            );
        }
    }
}
