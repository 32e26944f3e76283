#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::protocol::{CredentialBytes, jcs, payment_credential};

const MINIMAL: &str = r#"id="abc", realm="api", method="tempo", intent="charge", request="e30""#;

fn parse(params: &str) -> Result<Challenge, ChallengeError> {
    Challenge::parse(&format!("Payment {params}"))
}

fn minimal() -> Challenge {
    parse(MINIMAL).unwrap()
}

fn parse_all(lines: &[&str]) -> Result<Vec<String>, ChallengeError> {
    let lines: Vec<_> = lines.iter().map(|line| HeaderValue::from_bytes(line.as_bytes()).unwrap()).collect();
    Challenge::parse_all(&lines).map(|all| all.into_iter().map(|challenge| challenge.id).collect())
}

#[test]
fn parameters_are_written_in_one_order() {
    let full = r#"Payment id="abc", realm="api", method="tempo", intent="charge", request="e30", expires="2025-01-15T12:05:00Z", description="d", digest="sha-256=:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=:", opaque="e30""#;
    assert_eq!(Challenge::parse(full).unwrap().to_header_value().unwrap(), full);
}

#[test]
fn duplicates_are_refused_in_any_case_known_or_not() {
    for more in [r#"id="b""#, r#"ID="b""#, r#"Id=abc"#, "foo=1, FOO=2", "header=a, header=b"] {
        assert_eq!(parse(&format!("{MINIMAL}, {more}")), Err(ChallengeError::Duplicate), "{more}");
    }
}

#[test]
fn an_empty_or_missing_id_is_refused() {
    let error = Err(ChallengeError::Missing("id"));
    assert_eq!(parse(&MINIMAL.replace("abc", "")), error);
    assert_eq!(parse(&MINIMAL.replace(r#"id="abc", "#, "")), error);
}

#[test]
fn names_have_no_case_and_unknown_ones_are_ignored() {
    let other = r#"ID="abc", Realm = "api",	METHOD=tempo,, iNtEnT=charge,request	=	e30, payment ="x", foo="b\"ar", __proto__=x"#;
    assert_eq!(parse(other), Ok(minimal()));
}

#[test]
fn what_is_no_list_of_parameters_is_refused() {
    for params in [
        format!("{MINIMAL}, description=\"oops"),
        format!("{MINIMAL}, description="),
        format!("{MINIMAL}, description=\"a\"b"),
        format!("{MINIMAL}, description=a b"),
        format!("{MINIMAL}, description=\"a\nb\""),
        format!("{MINIMAL}, description=\"a\\\nb\""),
        format!("{MINIMAL}, description=\"a\u{7f}b\""),
        format!("{MINIMAL}, =x"),
        MINIMAL.replace(',', ""),
        "eyJhYmMi".to_owned(),
    ] {
        assert_eq!(parse(&params), Err(ChallengeError::Syntax), "{params}");
    }
}

#[test]
fn another_scheme_is_no_payment_challenge() {
    for value in [
        "",
        "Bearer realm=\"a\"",
        "Bearer error=\"use Payment id=1, Payment id=2\"",
        "\u{b}Payment id=\"abc\"",
        "\u{a0}Payment id=\"abc\"",
        "PaymentX id=\"abc\"",
    ] {
        assert_eq!(Challenge::parse(value), Err(ChallengeError::NotPayment), "{value:?}");
    }
    let value = format!("Payment {MINIMAL}, payment {MINIMAL}");
    assert_eq!(Challenge::parse(&value), Err(ChallengeError::Multiple));
}

#[test]
fn parameters_have_the_form_of_the_draft() {
    for (name, values) in [
        ("method", &["Tempo", "1tempo", "*", "", "te mpo"][..]),
        ("intent", &["payment plan", "charge|x", "a_b", ""]),
        ("request", &["", "e30|e30", "W10", "bm90IGpzb24", "bnVsbA", "eyJhIjoxLCJhIjoyfQ", "_w"]),
        ("expires", &["", "not-a-date", "2025-01-15|12:00:00Z", "2025-01-15 12:00:00Z", "2025-01-15T12:00:00Z|x"]),
        ("digest", &["", "sha-512=abc", "md5=:abc:", "sha-256=X|y", "sha-256=", "sha-256=::", "sha-256=:a"]),
        ("opaque", &["", "not base64url", "a|b", "caf\u{e9}"]),
    ] {
        for value in values {
            let mut params = Vec::new();
            for param in MINIMAL.split(", ").filter(|param| !param.starts_with(name)) {
                params.push(param.to_owned());
            }
            params.push(format!("{name}=\"{value}\""));
            let found = parse(&params.join(", "));
            assert_eq!(found, Err(ChallengeError::Invalid(name)), "{name} {value:?}");
        }
    }
}

#[test]
fn one_unreadable_challenge_does_not_hide_the_others() {
    let good = |id: &str| format!("Payment {}", MINIMAL.replace("abc", id));
    let bad = format!("Payment {}", MINIMAL.replace("charge", "payment plan"));
    let (a, b) = (good("a"), good("b"));
    assert_eq!(parse_all(&[&format!("{bad}, {a}"), &bad, &b]), Ok(vec!["a".into(), "b".into()]));
    assert_eq!(parse_all(&[&a, "Payment id=\"open", &b]), Ok(vec!["a".into(), "b".into()]));
    assert_eq!(parse_all(&[&bad, "Payment"]), Err(ChallengeError::Invalid("intent")));
    assert_eq!(parse_all(&["Payment id=\"open"]), Err(ChallengeError::Syntax));
    assert_eq!(parse_all(&["Payment abc"]), Err(ChallengeError::Syntax));
    assert_eq!(parse_all(&["Basic realm=x", ""]), Ok(vec![]));
    assert_eq!(parse_all(&[]), Ok(vec![]));
}

#[test]
fn schemes_are_told_apart_wherever_they_stand() {
    let line = format!(
        "Bearer error_description=\"use Payment id=x\", Payment {MINIMAL}, Digest realm=\"Payment y\", nonce=z, pAyMeNt\t{}",
        MINIMAL.replace("abc", "second")
    );
    assert_eq!(parse_all(&[&line]), Ok(vec!["abc".into(), "second".into()]));
    // Lines of one name are one list.
    let (head, tail) = MINIMAL.split_once(", method").unwrap();
    let lines = [&*format!("Payment {head}"), &*format!("method{tail}")];
    assert_eq!(parse_all(&lines), Ok(vec!["abc".into()]));
}

#[test]
fn the_size_and_the_parameters_are_capped() {
    let large = format!("Payment {MINIMAL}, a=\"{}\"", "x".repeat(MAX_HEADER_BYTES));
    assert_eq!(Challenge::parse(&large), Err(ChallengeError::TooLarge));
    assert_eq!(parse_all(&["Payment ", &large]), Err(ChallengeError::TooLarge));
    let many = |count: usize| (0..count).fold(MINIMAL.to_owned(), |params, index| format!("{params}, p{index}=x"));
    assert_eq!(parse(&many(MAX_UNKNOWN_PARAMS)), Ok(minimal()));
    assert_eq!(parse(&many(MAX_UNKNOWN_PARAMS + 1)), Err(ChallengeError::TooManyParameters));
}

#[test]
fn latin_1_and_utf_8_are_both_read() {
    for description in [&b"caf\xe9"[..], b"caf\xc3\xa9"] {
        let line = [b"Payment ", MINIMAL.as_bytes(), b", description=\"", description, b"\""].concat();
        let line = HeaderValue::from_bytes(&line).unwrap();
        let all = Challenge::parse_all([&line]).unwrap();
        assert_eq!(all[0].description.as_deref(), Some("caf\u{e9}"));
    }
}

#[test]
fn line_ends_never_reach_a_header() {
    for text in ["a\r\nb", "a\nb", "a\r"] {
        let challenge = Challenge { description: Some(text.to_owned()), ..minimal() };
        assert_eq!(challenge.to_header_value(), Err(ChallengeError::LineEnd("description")));
        let challenge = Challenge { id: text.to_owned(), ..minimal() };
        assert_eq!(challenge.to_header_value(), Err(ChallengeError::LineEnd("id")));
    }
}

#[test]
fn what_would_not_be_read_is_not_written() {
    let base = minimal();
    for challenge in [
        Challenge { id: String::new(), ..base.clone() },
        Challenge { request: "W10".to_owned(), ..base.clone() },
        Challenge { expires: Some("tomorrow".to_owned()), ..base.clone() },
        Challenge { digest: Some("sha-512=abc".to_owned()), ..base.clone() },
        Challenge { opaque: Some("a|b".to_owned()), ..base.clone() },
        Challenge { realm: "\u{7f}".repeat(MAX_HEADER_BYTES / 6), ..base },
    ] {
        assert!(challenge.to_header_value().is_err());
    }
}

#[test]
fn what_stands_inside_is_read() {
    let challenge = Challenge {
        request: jcs::to_base64url(&json!({"amount": "1"})).unwrap(),
        opaque: Some(jcs::to_base64url(&json!({"pi": "pi_1"})).unwrap()),
        expires: Some("2025-01-15T12:05:00+02:00".to_owned()),
        ..minimal()
    };
    assert_eq!(challenge.request_as::<Value>(), Ok(json!({"amount": "1"})));
    assert_eq!(challenge.request_as::<String>(), Err(ChallengeError::Invalid("request")));
    assert_eq!(challenge.opaque_members(), Ok(BTreeMap::from([("pi".into(), "pi_1".into())])));
    assert_eq!(challenge.expires_at().unwrap().to_string(), "2025-01-15T10:05:00Z");
    assert_eq!(minimal().opaque_members(), Ok(BTreeMap::new()));
    for opaque in ["eyJhIjoxfQ", "eyJhIjoiYiIsImEiOiJjIn0", "eXkgd3Jvbmc", "W10"] {
        let challenge = Challenge { opaque: Some(opaque.to_owned()), ..minimal() };
        assert_eq!(challenge.opaque_members(), Err(ChallengeError::Invalid("opaque")), "{opaque}");
    }
}

#[test]
fn a_proof_that_is_no_object_is_not_sent() {
    for payload in [json!("x"), json!([]), json!(null)] {
        assert_eq!(authorization(&minimal(), None, &payload), Err(ChallengeError::Payload));
    }
    let large = json!({"a": "x".repeat(MAX_HEADER_BYTES)});
    assert_eq!(authorization(&minimal(), None, &large), Err(ChallengeError::TooLarge));
}

/// Text without line ends, mostly of characters that need care.
fn text() -> impl Strategy<Value = String> {
    prop_oneof!["[\"\\\\u0-9a-f ,=;|]{0,12}", "[^\r\n]{0,12}"]
}

prop_compose! {
    fn challenge()(
        id in text().prop_filter("empty", |id| !id.is_empty()),
        realm in text(),
        method in "[a-z][a-z0-9:_-]{0,10}",
        intent in "[A-Za-z0-9-]{1,10}",
        request in prop::collection::btree_map(any::<String>(), any::<(String, i32)>(), 0..3),
        expires in prop::option::of(0i64..10_000_000_000),
        digest in prop::option::of(any::<[u8; 8]>()),
        description in prop::option::of(text()),
        opaque in prop::option::of(prop::collection::btree_map(any::<String>(), any::<String>(), 0..3)),
    ) -> Challenge {
        Challenge {
            id,
            realm,
            method: MethodId::new(method).unwrap(),
            intent: Intent::new(intent).unwrap(),
            request: jcs::to_base64url(&request).unwrap(),
            expires: expires.map(|at| Timestamp::from_unix(at).unwrap().to_string()),
            digest: digest.map(|body| super::super::ContentDigest::of(&body).to_string()),
            description,
            opaque: opaque.map(|members| jcs::to_base64url(&members).unwrap()),
        }
    }
}

proptest! {
    #[test]
    fn challenges_round_trip(first in challenge(), second in challenge()) {
        let values = [first.to_header_value().unwrap(), second.to_header_value().unwrap()];
        prop_assert_eq!(Challenge::parse(values[0].to_str().unwrap()), Ok(first.clone()));
        let joined = format!("{}, {}", values[0].to_str().unwrap(), values[1].to_str().unwrap());
        let joined = HeaderValue::from_str(&joined).unwrap();
        let both = vec![first, second];
        prop_assert_eq!(Challenge::parse_all(&values), Ok(both.clone()));
        prop_assert_eq!(Challenge::parse_all([&joined]), Ok(both));
    }

    #[test]
    fn credentials_round_trip(
        challenge in challenge(),
        source in prop::option::of(any::<String>()),
        payload in prop::collection::btree_map(any::<String>(), any::<(String, i64)>(), 0..4),
    ) {
        let value = authorization(&challenge, source.as_deref(), &payload).unwrap();
        prop_assert!(value.is_sensitive());
        let token = payment_credential([&value]).unwrap().unwrap();
        let bytes = CredentialBytes::decode(token).unwrap();
        let credential = bytes.parse().unwrap();
        let echoed = &credential.challenge;
        prop_assert_eq!(&*echoed.id, &*challenge.id);
        prop_assert_eq!(&*echoed.realm, &*challenge.realm);
        prop_assert_eq!(&*echoed.method, challenge.method.as_str());
        prop_assert_eq!(&*echoed.intent, challenge.intent.as_str());
        prop_assert_eq!(&*echoed.request, &*challenge.request);
        prop_assert_eq!(echoed.expires.as_deref(), challenge.expires.as_deref());
        prop_assert_eq!(echoed.digest.as_deref(), challenge.digest.as_deref());
        prop_assert_eq!(echoed.description.as_deref(), challenge.description.as_deref());
        prop_assert_eq!(echoed.opaque.as_deref(), challenge.opaque.as_deref());
        prop_assert_eq!(credential.source.as_deref(), source.as_deref());
        prop_assert_eq!(serde_json::from_str::<Value>(credential.payload).unwrap(), json!(payload));
    }

    #[test]
    fn any_text_is_read(text in prop_oneof![any::<String>(), "(Payment )?[a-z,= \"\\\\]{0,40}"]) {
        if let Ok(challenge) = Challenge::parse(&text) {
            prop_assert!(!challenge.id.is_empty());
        }
    }
}
