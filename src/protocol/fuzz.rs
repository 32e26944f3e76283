//! What the fuzz targets in `fuzz/` run. The bodies live here, so that the ordinary test run drives
//! them too; each asserts that what was read can be written and read again, not only that nothing
//! panics.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};
use serde_json::{Value, value::RawValue};

use super::{
    AcceptPayment, AuthorizationError, Challenge, ChallengeError, Credential, CredentialBytes, Intent, MethodId,
    PaymentCredential, Receipt, ReceiptError, authorization as write_authorization, base64url, has_other_scheme,
    payment_credential, presented_credential, push_quoted, remove_payment_credentials,
};

/// `Authorization` lines: whatever is found, in either form, nothing of it is left behind the gate, and what is not
/// ours comes through untouched. What was read is read again from what it would be written as.
pub fn authorization(data: &[u8]) {
    let values = lines(data);
    let found = payment_credential(&values);
    let left = removed(&values);
    match presented_credential(&values) {
        Ok(Some(PaymentCredential::Params(credential))) => {
            assert_eq!(found, Err(AuthorizationError::Malformed));
            let (id, token) = (credential.id(), credential.token());
            assert!(!id.is_empty() && !token.is_empty() && !format!("{id}{token}").contains('\\'));
            for names in [["id", "credential"], ["ID", "Credential"]] {
                let mut text = String::from("PAYMENT ");
                push_quoted(&mut text, names[1], token);
                text.push_str(",x=y , ");
                push_quoted(&mut text, names[0], id);
                let alone = HeaderValue::from_str(&text).unwrap();
                assert_eq!(presented_credential([&alone]), Ok(Some(PaymentCredential::Params(credential))));
                assert_eq!(payment_credential([&alone]), Err(AuthorizationError::Malformed));
            }
        }
        Ok(Some(PaymentCredential::Token68(token))) => assert_eq!(found, Ok(Some(token))),
        Ok(None) => assert_eq!(found, Ok(None)),
        Err(error) => assert_eq!(found, Err(error)),
    }
    assert!(!has_other_scheme(&left) || has_other_scheme(&values));
    match found {
        Err(AuthorizationError::TooLarge) => return,
        Ok(None) => assert_eq!(left, values),
        Ok(Some(token)) => {
            assert!(base64url::is_plausible(token) || token.contains(['.', '~']), "{token:?}");
            let alone = HeaderValue::from_str(&format!("pAYMENT\t {token} ,")).unwrap();
            assert_eq!(payment_credential([&alone]), Ok(Some(token)));
        }
        Err(_) => assert_ne!(left, values),
    }
    assert_eq!(payment_credential(&left), Ok(None));
    assert_eq!(removed(&left), left);
}

fn removed(values: &[HeaderValue]) -> Vec<HeaderValue> {
    let mut headers = HeaderMap::new();
    for value in values {
        headers.append(AUTHORIZATION, value.clone());
    }
    remove_payment_credentials(&mut headers);
    headers.get_all(AUTHORIZATION).iter().cloned().collect()
}

/// `WWW-Authenticate` lines.
pub fn challenge_header(data: &[u8]) {
    let values = lines(data);
    let Ok(all) = Challenge::parse_all(&values) else {
        return;
    };
    let mut written = Vec::new();
    for challenge in &all {
        match challenge.to_header_value() {
            Ok(value) => {
                assert_eq!(Challenge::parse(value.to_str().unwrap()).as_ref(), Ok(challenge));
                written.push((challenge.clone(), value));
            }
            Err(error) => {
                assert!(matches!(error, ChallengeError::LineEnd(_) | ChallengeError::TooLarge));
            }
        }
        challenge.opaque_members().ok();
        challenge.request_as::<serde_json::Map<String, Value>>().unwrap();
        assert_eq!(challenge.expires_at().is_some(), challenge.expires.is_some());
    }
    let (challenges, values): (Vec<_>, Vec<_>) = written.into_iter().unzip();
    match Challenge::parse_all(&values) {
        Ok(again) => assert_eq!(again, challenges),
        Err(error) => assert_eq!(error, ChallengeError::TooLarge),
    }
}

/// `Accept-Payment` lines.
pub fn accept_payment(data: &[u8]) {
    let Some(preferences) = AcceptPayment::parse(&lines(data)) else {
        return;
    };
    let text = HeaderValue::from_str(&preferences.to_string()).unwrap();
    assert_eq!(AcceptPayment::parse([&text]).as_ref(), Some(&preferences));

    let all = [("tempo", "charge"), ("tempo", "session"), ("stripe", "charge"), ("x402", "charge")];
    let quality = |offer: &(&str, &str)| preferences.quality(offer.0, offer.1);
    let mut kept = all.to_vec();
    preferences.arrange(&mut kept, |offer| *offer);
    if all.iter().all(|offer| quality(offer) == 0) {
        assert_eq!(kept, all);
    } else {
        let place = |offer| all.iter().position(|other| other == offer);
        assert_eq!(kept.len(), all.iter().filter(|offer| quality(offer) > 0).count());
        assert!(kept.is_sorted_by_key(|offer| (1000 - quality(offer), place(offer))));
    }
}

/// A `Payment-Receipt` value, or the JSON in one.
pub fn receipt(data: &[u8]) {
    for value in [String::from_utf8_lossy(data).into_owned(), encode(data)] {
        let Ok(receipt) = Receipt::parse(&value) else {
            continue;
        };
        match receipt.encode() {
            Ok(value) => {
                let again = Receipt::parse(value.to_str().unwrap()).unwrap();
                // serde_json reads decimals to the last bit but one.
                if !receipt.extra.values().any(has_float) {
                    assert_eq!(again, receipt);
                }
            }
            // Numbers may take more room than before.
            Err(error) => assert_eq!(error, ReceiptError::TooLarge),
        }
    }
}

fn has_float(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(values) => values.iter().any(has_float),
        Value::Object(members) => members.values().any(has_float),
        _ => false,
    }
}

/// The token of a credential, or the JSON in one.
pub fn credential(data: &[u8]) {
    for token in [String::from_utf8_lossy(data).into_owned(), encode(data)] {
        let Ok(bytes) = CredentialBytes::decode(&token) else {
            continue;
        };
        let Ok(credential) = bytes.parse() else {
            continue;
        };
        assert_eq!(bytes.text(bytes.payload_range(&credential)), credential.payload);
        let payload: &RawValue = serde_json::from_str(credential.payload).unwrap();
        let written = write_authorization(&challenge_of(&credential), credential.source.as_deref(), payload);
        let Ok(value) = written else {
            assert_eq!(written, Err(ChallengeError::TooLarge));
            continue;
        };
        let token = payment_credential([&value]).unwrap().unwrap();
        let bytes = CredentialBytes::decode(token).unwrap();
        let again = bytes.parse().unwrap();
        assert_eq!(again.challenge, credential.challenge);
        assert_eq!(again.source, credential.source);
        assert_eq!(again.payload, credential.payload);
        // The same without the detour over a header, as it is made for a bare token.
        if let Ok(Value::Object(payload)) = serde_json::from_str(credential.payload) {
            let made = CredentialBytes::answering(&challenge_of(&credential), &payload).unwrap();
            let made = made.parse().unwrap();
            assert_eq!((made.challenge, made.source), (credential.challenge, None));
            assert_eq!(made.payload, serde_json::to_string(&payload).unwrap());
        }
    }
}

fn challenge_of(credential: &Credential<'_>) -> Challenge {
    let echoed = credential.challenge.clone();
    let owned = |text: Option<std::borrow::Cow<'_, str>>| text.map(|text| text.into_owned());
    Challenge {
        id: echoed.id.into_owned(),
        realm: echoed.realm.into_owned(),
        method: MethodId::new(echoed.method.into_owned()).unwrap(),
        intent: Intent::new(echoed.intent.into_owned()).unwrap(),
        request: echoed.request.into_owned(),
        expires: owned(echoed.expires),
        digest: owned(echoed.digest),
        description: owned(echoed.description),
        opaque: owned(echoed.opaque),
    }
}

/// Header values, one a line.
fn lines(data: &[u8]) -> Vec<HeaderValue> {
    data.split(|byte| *byte == b'\n').filter_map(|line| HeaderValue::from_bytes(line).ok()).collect()
}

fn encode(data: &[u8]) -> String {
    use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
    URL_SAFE_NO_PAD.encode(data)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
pub(crate) mod tests {
    use super::*;

    const AUTHORIZATION_SEEDS: &[&str] = &[
        "Payment abc",
        "Bearer t0ken, Payment abc==",
        "Digest username=\"a, Payment b\", realm=x\npayment\tabc",
        "Payment id=\"x\", credential=\"\\\"\\\\\"",
        "Payment\n\nid=x, Basic Zm9v",
        "Payment id=\"abc\", credential=\"spt_1\"",
        "payment Credential=spt_1\nID = x, other=\"\\\"\", Bearer t0ken",
        "Bearer \"never closed, Payment abc",
        "AWS4-HMAC-SHA256 Credential=A/b/s3, SignedHeaders=host;date, Signature=f",
    ];
    const CHALLENGE_SEEDS: &[&str] = &[
        "Payment id=\"abc\", realm=\"api\", method=\"tempo\", intent=\"charge\", request=\"e30\"",
        "Bearer realm=\"a, Payment\", Payment id=\"a\", realm=\"\", method=a:b, intent=c-1, request=e30=, opaque=\"e30\"\npayment ID = x,, realm=\"r\\u00e9\\ud83d\\ude00\", method=\"m\", intent=\"i\", request=\"eyJhIjoiYiJ9\", foo=\"bar\"",
        "Payment id=\"a\", realm=\"caf\u{e9}\", method=\"tempo\", intent=\"charge\", request=\"e30\", expires=\"2016-12-31T23:59:60Z\", description=\"a\\\"b\\\\c\\u000d\", digest=\"sha-256=:LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ=:\"",
    ];
    const ACCEPT_SEEDS: &[&str] = &[
        "tempo/charge, tempo/session;q=0.5, stripe/charge;q=0.25",
        "tempo/*, x402/*;Q=0.6, */session;q=0",
        " stripe/charge ; q = 0.25 , */* ; q=0.001;foo=bar\n,tempo/charge;q=1.000",
    ];
    const RECEIPT_SEEDS: &[&str] = &[
        r#"{"status":"success","method":"tempo","timestamp":"2024-01-01T00:00:00Z","reference":"0xabc123"}"#,
        r#"{"challengeId":"x","status":"success","method":"a:b","timestamp":"2025-01-21T12:00:00.5+05:30","reference":"","extra":{"a":[1,2.5,null,true]},"\u00e9":"\ud83d\ude00"}"#,
        "eyJzdGF0dXMiOiJzdWNjZXNzIiwibWV0aG9kIjoidGVtcG8iLCJ0aW1lc3RhbXAiOiIyMDI0LTAxLTAxVDAwOjAwOjAwWiIsInJlZmVyZW5jZSI6IjB4YWJjMTIzIn0",
    ];
    const CREDENTIAL_SEEDS: &[&str] = &[
        r#"{"challenge":{"id":"abc","realm":"api","method":"tempo","intent":"charge","request":"e30"},"payload":{"type":"hash","hash":"0xdeadbeef"}}"#,
        r#"{"source":"did:x","payload":{"a":[{"b":1}],"\u0061b":2},"challenge":{"id":"\u0061","realm":"","method":"x402","intent":"c-1","request":"e30=","expires":"x","digest":"y","opaque":{"pi":"1"},"description":"d","zzz":1},"more":null}"#,
        "eyJjaGFsbGVuZ2UiOnsiaWQiOiJhYmMiLCJyZWFsbSI6ImFwaSIsIm1ldGhvZCI6InRlbXBvIiwiaW50ZW50IjoiY2hhcmdlIiwicmVxdWVzdCI6ImUzMCJ9LCJwYXlsb2FkIjp7InAiOiI/Pz4+In19",
    ];
    const WORDS: &[&[u8]] = &[
        b"Payment ",
        b"payment",
        b", ",
        b"\"",
        b"\\",
        b"\\u",
        b"\\ud83d\\ude00",
        b"=",
        b"\n",
        b"\t",
        b"id=\"",
        b"q=0",
        b";",
        b"/",
        b"*",
        b"\xe9",
        b"\"a\":1,",
        b"{",
        b"}",
        b"[",
        b"]",
        b"null",
        b"e30",
        b"\\\"",
    ];

    /// A small generator with a fixed start: the same inputs in every run.
    struct Random(u64);

    impl Random {
        fn below(&mut self, bound: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 11).unwrap() % bound.max(1)
        }

        fn mutate(&mut self, data: &mut Vec<u8>, others: &[&str]) {
            let at = self.below(data.len() + 1);
            let end = (at + self.below(12)).min(data.len());
            match self.below(5) {
                0 => {
                    data.drain(at..end);
                }
                1 if at < data.len() => data[at] = self.below(256).to_le_bytes()[0],
                2 => {
                    let copy = data[at..end].to_vec();
                    data.splice(end..end, copy);
                }
                3 => {
                    let other = others[self.below(others.len())].as_bytes();
                    let from = self.below(other.len());
                    let to = (from + self.below(40)).min(other.len());
                    data.splice(at..end, other[from..to].iter().copied());
                }
                _ => {
                    let word = WORDS[self.below(WORDS.len())];
                    data.splice(at..at, word.iter().copied());
                }
            }
        }
    }

    pub(crate) fn drive(target: fn(&[u8]), seeds: &[&str]) {
        for seed in seeds {
            target(seed.as_bytes());
        }
        let mut random = Random(0x5eed_0402);
        for _ in 0..20_000 {
            let mut data = seeds[random.below(seeds.len())].as_bytes().to_vec();
            for _ in 0..=random.below(6) {
                random.mutate(&mut data, seeds);
            }
            target(&data);
        }
    }

    #[test]
    fn authorization_holds() {
        drive(authorization, AUTHORIZATION_SEEDS);
    }

    #[test]
    fn challenge_header_holds() {
        drive(challenge_header, CHALLENGE_SEEDS);
    }

    #[test]
    fn accept_payment_holds() {
        drive(accept_payment, ACCEPT_SEEDS);
    }

    #[test]
    fn receipt_holds() {
        drive(receipt, RECEIPT_SEEDS);
    }

    #[test]
    fn credential_holds() {
        drive(credential, CREDENTIAL_SEEDS);
    }
}
