#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::cell::Cell;

use proptest::prelude::*;

use super::*;

thread_local! {
    pub(super) static BYTES_READ: Cell<usize> = const { Cell::new(0) };
}

fn lines(texts: &[&str]) -> Vec<HeaderValue> {
    texts.iter().map(|text| HeaderValue::from_bytes(text.as_bytes()).unwrap()).collect()
}

fn find(texts: &[&str]) -> Result<Option<String>, AuthorizationError> {
    payment_credential(&lines(texts)).map(|token| token.map(str::to_owned))
}

fn remove(texts: &[&str]) -> Vec<String> {
    let mut headers = HeaderMap::new();
    for value in lines(texts) {
        headers.append(AUTHORIZATION, value);
    }
    remove_payment_credentials(&mut headers);
    headers
        .get_all(AUTHORIZATION)
        .iter()
        .map(|value| {
            assert!(value.is_sensitive(), "{value:?}");
            String::from_utf8(value.as_bytes().to_vec()).unwrap()
        })
        .collect()
}

#[test]
fn a_credential_is_found_wherever_it_stands() {
    for (texts, token) in [
        (&["Payment abc"][..], "abc"),
        (&["payment abc=="], "abc=="),
        (&["pAyMeNt\tabc"], "abc"),
        (&["Payment   abc  "], "abc"),
        (&[",,Payment abc,"], "abc"),
        (&["Payment a-b._~+/9="], "a-b._~+/9="),
        (&["Bearer t0ken, Payment abc"], "abc"),
        (&["Payment abc, Bearer t0ken"], "abc"),
        (&["Bearer t0ken", "Payment abc"], "abc"),
        (&["Payment abc", "Bearer t0ken"], "abc"),
        (&["", "Payment abc"], "abc"),
        (&["Digest username=\"a, Payment b\", Payment abc"], "abc"),
        (&["Digest a=\"\\\", Payment x, \\\"\",Payment abc"], "abc"),
        (&["AWS4-HMAC-SHA256 Credential=A/b/s3, SignedHeaders=host;date, Signature=f, Payment abc"], "abc"),
    ] {
        assert_eq!(find(texts), Ok(Some(token.to_owned())), "{texts:?}");
    }
}

#[test]
fn other_schemes_are_no_payment() {
    for texts in [
        &[][..],
        &[""],
        &[" , ,"],
        &["Bearer abc"],
        &["Basic dXNlcjpwYXNz"],
        &["Bearer a,b,c"],
        &["PaymentX abc"],
        &["xPayment abc"],
        &["Digest username=\"a, Payment b\""],
        &["Digest username=\"a\\\", Payment b\""],
        &["Bearer Payment"],
        &["Digest payment=abc"],
        &["Payment =="],
        &["Digest a=b, payment = \"abc\""],
        &["Digest a=\"never closed"],
        &["AWS4-HMAC-SHA256 Credential=A/b/s3/aws4_request, SignedHeaders=host;date, Signature=f"],
        &["caf\u{e9} \u{e9}"],
    ] {
        assert_eq!(find(texts), Ok(None), "{texts:?}");
    }
}

#[test]
fn a_payment_without_a_token68_is_malformed_and_not_absent() {
    for texts in [
        &["Payment"][..],
        &["Payment "],
        &["payment,"],
        &["Bearer abc, Payment"],
        &["Payment !"],
        &["Payment a b"],
        &["Payment a|b"],
        &["Payment a=b"],
        &["Payment \"abc\""],
        &["Payment caf\u{e9}"],
        &["Payment id=\"x\", credential=\"abc\""],
        &["Payment abc, id=\"x\""],
        &["Payment abc", "id=\"x\""],
        &["Payment abc, \"never closed"],
        &["Payment abc", "id=\"never closed"],
        &["Bearer \"never closed, Payment abc"],
        &["Digest a=\"never closed, Payment abc", "Payment abc"],
    ] {
        assert_eq!(find(texts), Err(AuthorizationError::Malformed), "{texts:?}");
    }
}

#[test]
fn two_credentials_are_refused_and_none_is_chosen() {
    for texts in [
        &["Payment abc, Payment abc"][..],
        &["Payment abc", "payment def"],
        &["Payment abc, Bearer x", "Bearer y, PAYMENT def"],
        &["Payment , Payment abc"],
        &["Payment, Payment"],
    ] {
        assert_eq!(find(texts), Err(AuthorizationError::Multiple), "{texts:?}");
    }
}

#[test]
fn the_size_is_capped_over_all_lines() {
    let half = format!("Bearer {}", "a".repeat(MAX_HEADER_BYTES / 2 - 7));
    assert_eq!(find(&[&half, &half]), Ok(None));
    assert_eq!(find(&[&half, &half, "x"]), Err(AuthorizationError::TooLarge));
    let large = format!("Payment {}", "a".repeat(MAX_HEADER_BYTES - 7));
    assert_eq!(find(&[&large]), Err(AuthorizationError::TooLarge));
}

#[test]
fn latin_1_is_a_typed_error_and_no_panic() {
    let value = HeaderValue::from_bytes(b"Payment caf\xe9").unwrap();
    assert_eq!(payment_credential([&value]), Err(AuthorizationError::Malformed));
    let value = HeaderValue::from_bytes(b"Basic \xe9, Payment abc").unwrap();
    assert_eq!(payment_credential([&value]), Ok(Some("abc")));
}

#[test]
fn only_payment_credentials_are_removed() {
    for (before, after) in [
        (&["Payment abc"][..], &[][..]),
        (&["Payment"], &[]),
        (&["Payment abc", "payment def"], &[]),
        (&["Bearer abc"], &["Bearer abc"]),
        (&["Bearer t0ken, Payment abc"], &["Bearer t0ken"]),
        (&["Payment abc, Bearer t0ken"], &["Bearer t0ken"]),
        (&["Bearer t0ken", "Payment abc"], &["Bearer t0ken"]),
        (&["Payment id=\"a, Digest b\", credential=\"c\", Bearer t0ken"], &["Bearer t0ken"]),
        (&["Payment abc", "id=\"x\", Basic Zm9v"], &["Basic Zm9v"]),
        (
            &["Digest  username=\"a, Payment b\" ,\trealm = \"\\\"\", Payment abc"],
            &["Digest  username=\"a, Payment b\", realm = \"\\\"\""],
        ),
        (&["Digest username=\"a, Payment b\" ,realm=x"], &["Digest username=\"a, Payment b\" ,realm=x"]),
        (&["Bearer \"never closed, Payment abc"], &[]),
        (&["Bearer \"never closed"], &["Bearer \"never closed"]),
        (&["Payment abc", "id=\"never closed"], &[]),
    ] {
        assert_eq!(remove(before), after, "{before:?}");
    }
}

#[test]
fn nothing_to_remove_changes_nothing() {
    let mut headers = HeaderMap::new();
    remove_payment_credentials(&mut headers);
    assert_eq!((headers.len(), headers.capacity()), (0, 0));
}

#[test]
fn unicode_escapes_are_utf_16() {
    for (quoted, text) in [
        (r"plain", "plain"),
        (r"\u2014 \u00E9", "\u{2014} \u{e9}"),
        (r"\ud83d\ude00!", "\u{1f600}!"),
        (r"\ud83d here", "\u{fffd} here"),
        (r"\ude00 here", "\u{fffd} here"),
        (r"\ud83d\u0041", "\u{fffd}A"),
        (r"\ud83d\ud83d\ude00", "\u{fffd}\u{1f600}"),
        (r"\\u2014", r"\u2014"),
        (r"\u12 tail", "u12 tail"),
        (r"\u+123", "u+123"),
        (r"\uZZZZ", "uZZZZ"),
        ("\\\u{e9}", "\u{e9}"),
        (r#"\"a\,b\c\\"#, r#""a,bc\"#),
        (r"api\u0061", "apia"),
    ] {
        assert_eq!(ParamValue::Quoted(quoted.as_bytes()).decode(), text, "{quoted}");
    }
    assert_eq!(ParamValue::Quoted(b"caf\xe9 \\u2014").decode(), "caf\u{e9} \u{2014}");
}

#[test]
fn what_is_written_is_one_ascii_line() {
    let mut out = String::new();
    push_quoted(&mut out, "a", "x\"y\\z\t\r\n\0\u{7f}\u{e9}\u{1f600}");
    assert_eq!(out, r#"a="x\"y\\z	\u000d\u000a\u0000\u007f\u00e9\ud83d\ude00""#);
}

/// Every byte is looked at a bounded number of times, whatever the header says.
#[test]
fn the_work_is_linear() {
    let unit = ["\"", ",", " ", "=", "\\", "\\\"", "a", "a ", "a=", "a,", ", \"", "\",", "Payment ", "Payment,"];
    for (first, second) in unit.iter().flat_map(|a| unit.iter().map(move |b| (a, b))) {
        let line = format!("{first}{second}").repeat(MAX_HEADER_BYTES / (first.len() + second.len()));
        let value = HeaderValue::from_str(&line).unwrap();
        BYTES_READ.set(0);
        let _ = payment_credential([&value]);
        let read = BYTES_READ.get();
        assert!(read <= 8 * line.len(), "{first:?} {second:?}: {read} bytes read");
    }
}

proptest! {
    #[test]
    fn any_text_comes_back(text in any::<String>()) {
        let mut out = String::new();
        push_quoted(&mut out, "name", &text);
        let all: Vec<_> = elements(out.as_bytes()).collect();
        prop_assert_eq!(all.len(), 1);
        let Ok(Element { scheme: None, body: Body::Param("name", value), .. }) = all[0] else {
            return Err(TestCaseError::fail(format!("{all:?}")));
        };
        prop_assert_eq!(value.decode(), text);
    }

    #[test]
    fn any_bytes_are_read(bytes in any::<Vec<u8>>()) {
        for element in elements(&bytes).flatten() {
            if let Body::Param(_, value) = element.body {
                value.decode();
            }
        }
        let steps = elements(&bytes).count();
        prop_assert!(steps <= bytes.len());
    }
}

fn present(texts: &[&str]) -> Result<Option<(String, String)>, AuthorizationError> {
    presented_credential(&lines(texts)).map(|presented| match presented? {
        PaymentCredential::Params(credential) => Some((credential.id().to_owned(), credential.token().to_owned())),
        PaymentCredential::Token68(token) => Some(("token68".to_owned(), token.to_owned())),
    })
}

#[test]
fn an_id_and_a_token_are_found_however_they_are_written() {
    for texts in [
        &["Payment id=\"a\", credential=\"t\""][..],
        &["payment\tcredential=t,id=a"],
        &["PAYMENT ID = \"a\" ,, Credential=\"t\","],
        &["Payment id=\"a\"", "credential=\"t\""],
        &["Bearer x, Payment id=a, realm=\"y, \\\"z\", credential=t"],
        &["Payment id=a, credential=t, Bearer x"],
        &["Basic Zm9v", "Payment method=stripe, id=a, method=stripe, credential=t"],
    ] {
        assert_eq!(present(texts), Ok(Some(("a".into(), "t".into()))), "{texts:?}");
        // Where only the credential of the draft is taken, it is none.
        assert_eq!(find(texts), Err(AuthorizationError::Malformed), "{texts:?}");
        assert!(remove(texts).iter().all(|left| !left.contains("id") && !left.contains('t')), "{texts:?}");
    }
    assert_eq!(present(&["Payment abc"]), Ok(Some(("token68".into(), "abc".into()))));
    assert_eq!(present(&["Bearer id=a, credential=t"]), Ok(None));
}

#[test]
fn half_an_id_and_token_two_of_one_and_escapes_are_malformed() {
    for texts in [
        &["Payment id=a"][..],
        &["Payment credential=t"],
        &["Payment realm=a"],
        &["Payment id=\"\", credential=t"],
        &["Payment id=a, credential=\"\""],
        &["Payment id=a, id=a, credential=t"],
        &["Payment id=a, ID=b, credential=t"],
        &["Payment id=a, credential=t, Credential=t"],
        &["Payment id=a", "credential=t", "id=a"],
        &["Payment id=\"\\a\", credential=t"],
        &["Payment id=a, credential=\"\\u0074\""],
        &["Payment id=a, credential=\"caf\u{e9}\""],
        &["Payment id=a, credential=\"a\tb\""],
        &["Payment abc, id=a, credential=t"],
        &["Payment id=a, credential=t, \"t\""],
        &["Payment id=a, credential=t x"],
        &["Payment id=a, Bearer x, credential=t"],
        &["Payment id=a, credential=\"t"],
        &["Payment {\"id\":\"a\"}"],
        &["Payment"],
    ] {
        assert_eq!(present(texts), Err(AuthorizationError::Malformed), "{texts:?}");
    }
    for texts in [
        &["Payment id=a, credential=t, Payment id=a, credential=t"][..],
        &["Payment id=a", "Payment credential=t"],
        &["Payment abc", "Payment id=a, credential=t"],
    ] {
        assert_eq!(present(texts), Err(AuthorizationError::Multiple), "{texts:?}");
    }
}

#[test]
fn other_schemes_are_told_from_payments() {
    for (texts, other) in [
        (&[][..], false),
        (&[""], false),
        (&["Payment abc"], false),
        (&["payment id=a, credential=t"], false),
        (&["Payment"], false),
        (&["Payment \"never closed"], false),
        (&["Bearer abc"], true),
        (&["Payment abc, Bearer abc"], true),
        (&["Payment abc", "Basic Zm9v"], true),
        (&["sk-0123"], true),
        (&["Bearer \"never closed"], true),
    ] {
        assert_eq!(has_other_scheme(&lines(texts)), other, "{texts:?}");
    }
}

#[test]
fn a_credential_is_not_shown() {
    let value = HeaderValue::from_static("Payment id=\"a\", credential=\"hush\"");
    let presented = presented_credential([&value]).unwrap();
    assert!(!format!("{presented:?}").contains("hush"));
    let Some(PaymentCredential::Params(credential)) = presented else { unreachable!() };
    assert!(!format!("{credential:?}").contains("hush"));
}

proptest! {
    #[test]
    fn what_is_written_as_an_id_and_a_token_is_read(
        id in "[ -!#-\\[\\]-~]{1,60}",
        token in "[ -!#-\\[\\]-~]{1,60}",
        before in "([a-z]{2,4}=[a-z0-9]{1,4}, ){0,3}",
        swapped: bool,
    ) {
        prop_assume!(!before.contains("id="));
        let params = [format!("id=\"{id}\""), format!("credential=\"{token}\"")];
        let [first, second] = if swapped { [&params[1], &params[0]] } else { [&params[0], &params[1]] };
        let text = format!("Payment {before}{first}, {second}");
        prop_assert_eq!(present(&[&text]), Ok(Some((id, token))));
    }

    #[test]
    fn any_text_is_read_without_a_panic(texts in proptest::collection::vec("\\PC{0,80}", 0..3)) {
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let _ = present(&texts);
    }
}
