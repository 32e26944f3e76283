//! Where we and deployed peers part, and what of their recordings is the matter of other parts.

/// What we do where a peer does something else: group, vector, our answer (JSON, or `refused`), why.
pub(super) const DEVIATIONS: &[(&str, &str, &str, &str)] = &[
    // --- Challenges
    (
        "www_authenticate_format/accept",
        "all optional params (emission order)",
        r#""Payment id=\"abc123\", realm=\"api\", method=\"tempo\", intent=\"charge\", request=\"eyJhbW91bnQiOiIxMDAwMCIsImN1cnJlbmN5IjoiMHgxMjMifQ\", expires=\"2024-01-01T00:00:00Z\", description=\"API access\", digest=\"sha-256=X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=\", opaque=\"eyJwaSI6InBpXzEyMyJ9\"""#,
        "the parameter `header` is not in the draft",
    ),
    (
        "www_authenticate_format/reject",
        "header=Cookie",
        r#""Payment id=\"abc123\", realm=\"api\", method=\"tempo\", intent=\"charge\", request=\"eyJhbW91bnQiOiIxMDAwMCIsImN1cnJlbmN5IjoiMHgxMjMifQ\"""#,
        "the parameter `header` is not in the draft, so there is nothing to refuse",
    ),
    (
        "www_authenticate_parse",
        "empty trailing param",
        "refused",
        "the value of an auth-param is a token or a quoted string, and no token is empty",
    ),
    ("www_authenticate_parse", "no commas between params", "refused", "auth-params are separated by commas"),
    (
        "www_authenticate_parse",
        "expires pipe as date-time separator (accepted by mpp: bug)",
        "refused",
        "not RFC 3339, and `|` separates the bound slots",
    ),
    ("www_authenticate_parse", "expires space separator", "refused", "`date-time` of RFC 3339 has a T there"),
    (
        "www_authenticate_parse",
        "intent underscore (mpp extension)",
        "refused",
        "intents have letters, digits and - only",
    ),
    (
        "www_authenticate_parse",
        "header Payment-Authorization",
        r#"{"id":"abc","realm":"api","method":"tempo","intent":"charge","request":"e30"}"#,
        "unknown parameters are ignored",
    ),
    (
        "www_authenticate_parse",
        "header Cookie",
        r#"{"id":"abc","realm":"api","method":"tempo","intent":"charge","request":"e30"}"#,
        "unknown parameters are ignored",
    ),
    (
        "challenge-header-escaping",
        "1 × Classmatic — General Admission",
        r#""Payment id=\"abc123\", realm=\"api.example.com\", method=\"tempo\", intent=\"charge\", request=\"eyJhbW91bnQiOiIxMDAwMDAwIn0\", description=\"1 \\u00d7 Classmatic \\u2014 General Admission\"""#,
        "everything outside ASCII is escaped, as mpp does: raw Latin-1 does not survive every hop",
    ),
    (
        "challenge-header-escaping",
        "café ÿ",
        r#""Payment id=\"abc123\", realm=\"api.example.com\", method=\"tempo\", intent=\"charge\", request=\"eyJhbW91bnQiOiIxMDAwMDAwIn0\", description=\"caf\\u00e9 \\u00ff\"""#,
        "everything outside ASCII is escaped, as mpp does: raw Latin-1 does not survive every hop",
    ),
    (
        "challenge-header-escaping",
        "nul \u{0} ctl \u{1}",
        r#""Payment id=\"abc123\", realm=\"api.example.com\", method=\"tempo\", intent=\"charge\", request=\"eyJhbW91bnQiOiIxMDAwMDAwIn0\", description=\"nul \\u0000 ctl \\u0001\"""#,
        "control characters cannot stand in a header; mppx writes a value that no HTTP library sends",
    ),
    (
        "challenge-header-escaping",
        "del \u{7f}",
        r#""Payment id=\"abc123\", realm=\"api.example.com\", method=\"tempo\", intent=\"charge\", request=\"eyJhbW91bnQiOiIxMDAwMDAwIn0\", description=\"del \\u007f\"""#,
        "DEL is not allowed in a quoted string",
    ),
    (
        "challenge-header-escaping/read",
        "nul \u{0} ctl \u{1}",
        "refused",
        "raw control characters are not allowed in a quoted string",
    ),
    ("challenge-header-escaping/read", "del \u{7f}", "refused", "DEL is not allowed in a quoted string"),
    (
        "challenge-deserialize-list",
        "Payment id=\"first\", realm=\"api.example.com\", method=\"stripe\", intent=\"payment plan\", request=\"eyJhbW91bnQiOiI1MCIsImN1cnJlbmN5IjoidXNkIn0\", Payment id=\"second\", realm=\"api.example.com\", method=\"tempo\", intent=\"charge\", request=\"eyJhbW91bnQiOiIxMDAwMDAwIiwiY3VycmVuY3kiOiJVU0QifQ\"",
        r#"[{"id":"second","realm":"api.example.com","method":"tempo","intent":"charge","description":null,"opaque":null}]"#,
        "intents have letters, digits and - only; the other challenge is still there",
    ),
    (
        "challenge-deserialize-list",
        "Payment id=\"first\", realm=\"api.example.com\", method=\"stripe\", intent=\"charge\", request=\"eyJhbW91bnQiOiI1MCIsImN1cnJlbmN5IjoidXNkIn0\", opaque=\"opaque Payment value\", Payment id=\"second\", realm=\"api.example.com\", method=\"tempo\", intent=\"charge\", request=\"eyJhbW91bnQiOiIxMDAwMDAwIiwiY3VycmVuY3kiOiJVU0QifQ\"",
        r#"[{"id":"second","realm":"api.example.com","method":"tempo","intent":"charge","description":null,"opaque":null}]"#,
        "opaque is base64url; the other challenge is still there",
    ),
    (
        "challenge-deserialize-list",
        "Bearer error_description=\"use Payment challenge\"",
        "[]",
        "no Payment challenge is an empty list and no error",
    ),
    // --- Credentials
    (
        "authorization_extract_payment_scheme",
        "Payment ",
        "refused",
        "a credential that says nothing is malformed, not absent",
    ),
    (
        "authorization_extract_payment_scheme",
        "Payment",
        "refused",
        "a credential that says nothing is malformed, not absent",
    ),
    ("authorization_extract_payment_scheme", "Payment , Payment abc", "refused", "two credentials are a 400"),
    ("authorization_extract_payment_scheme", "Payment aaa, Payment bbb", "refused", "two credentials are a 400"),
    (
        "authorization-extract-payment-scheme",
        "Payment",
        "refused",
        "a credential that says nothing is malformed, not absent",
    ),
    ("authorization_parse", "payload is a string", "refused", "the payload is an object"),
    (
        "authorization_parse",
        "header Cookie",
        r#"{"challenge":{"id":"abc","realm":"api","method":"tempo","intent":"charge","request":"e30"},"payload":{"type":"hash","hash":"0xdeadbeef"}}"#,
        "unknown members are ignored",
    ),
    (
        "authorization_parse",
        "digest sha-512",
        r#"{"challenge":{"id":"abc","realm":"api","method":"tempo","intent":"charge","request":"e30","digest":"sha-512=abc"},"payload":{"type":"hash","hash":"0xdeadbeef"}}"#,
        "an echoed digest is text that is compared with ours; one that we never issued fails there",
    ),
    ("base64url_decode", "=e30", "false", "padding does not stand in front"),
    // --- Money and time
    ("amount_parse", ".5", "refused", "one spelling for a price: digits on both sides of the dot"),
    ("amount_parse", "  1.50  ", "refused", "one spelling for a price: no white space"),
    ("grammar-datetime", "2025-13-45T99:99:99Z", "false", "not an instant"),
    ("grammar-datetime", "2025-01-06t12:00:00z", "true", "RFC 3339 allows lower case"),
    // --- Accept-Payment
    (
        "accept-payment-parse",
        "a:b/charge",
        r#""a:b/charge""#,
        "what is read as the method of a challenge is read as the method of a range",
    ),
    // --- Problems
    (
        "problem_details",
        "CredentialReplayed(Some(\"R\"))",
        "402",
        "the type stands for 402; the flow answers a replay with invalid-challenge and 403 of its own",
    ),
];

/// Problem types of peers that are not in the core draft.
pub(super) const FOREIGN_PROBLEMS: &[(&str, &str)] = &[
    ("invalid-payload", "an invention of mpp and mppx; ours is malformed-credential"),
    ("bad-request", "an invention of mpp and mppx; ours is about:blank with 400"),
    ("payment-action-required", "an invention of mpp and mppx; ours is verification-failed"),
    ("internal-payment-error", "an invention of mpp and mppx; ours is about:blank with 500"),
    ("session/insufficient-balance", "session drafts"),
    ("session/invalid-signature", "session drafts"),
    ("session/signer-mismatch", "session drafts"),
    ("session/amount-exceeds-deposit", "session drafts"),
    ("session/delta-too-small", "session drafts"),
    ("session/channel-not-found", "session drafts"),
    ("session/channel-finalized", "session drafts"),
];

/// Groups that belong to other parts: name, vectors or members in it, whose they are.
pub(super) const LATER_MPP_RS: &[(&str, usize, &str)] = &[
    ("_meta", 7, "about the file"),
    ("error_code_to_problem", 20, "rails: error codes of mpp's verifiers"),
    ("tempo", 7, "rail tempo"),
    ("stripe", 7, "rail stripe"),
    ("mcp", 6, "MCP"),
    ("sse", 4, "sessions"),
    ("proxy_headers", 5, "proxy"),
    ("config", 8, "configuration"),
];
pub(super) const LATER_MPPX: &[(&str, usize, &str)] = &[
    ("grammar-address", 6, "rails tempo and evm"),
    ("grammar-hash", 2, "rails tempo and evm"),
    ("grammar-signature", 5, "rails tempo and evm"),
    ("expires-assert", 6, "flow: expiry is judged there"),
    ("tempo-proof-eip712", 3, "rail tempo"),
    ("did-pkh-parse", 8, "rail tempo"),
    ("tempo-attribution-memo", 4, "rail tempo"),
    ("evm-challenge-hash", 3, "rail evm"),
    ("evm-eip3009-authorization", 1, "rail evm"),
    ("tempo-session-voucher-eip712", 1, "sessions"),
    ("x402-headers", 3, "x402"),
    ("session-sse-format", 6, "sessions"),
    ("session-sse-parse", 11, "sessions"),
    ("session-ws-frames", 7, "sessions"),
    ("request-target-host-confusion", 9, "the realm is configuration here and never read from a request"),
    ("proxy-request-header-scrub", 44, "proxy"),
    ("proxy-response-header-scrub", 49, "proxy"),
    ("web-bot-auth-rfc9421", 1, "attestation, which nothing here uses"),
];
