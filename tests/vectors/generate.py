#!/usr/bin/env python3
"""Writes the test vectors of the wire, computed a second time in another language.

    python3 tests/vectors/generate.py           writes tests/vectors/*.json
    python3 tests/vectors/generate.py --check   fails when a checked-in file is not what would be written

Only the standard library, and no code in common with the crate: what both agree on has been derived
twice from the specification (core draft of the Payment scheme, RFC 9110, 9530, 8785, 4648).
"""

import base64
import hashlib
import hmac
import json
import pathlib
import random
import sys

sys.dont_write_bytecode = True
from discovery import discovery  # noqa: E402
from proxy_routes import proxy_routes  # noqa: E402
from signed_receipts import signed_receipts  # noqa: E402

HERE = pathlib.Path(__file__).parent
RANDOM = random.Random(402)


# --- The algorithms -------------------------------------------------------------------------------


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def jcs(value):
    """RFC 8785 for what occurs here: objects, arrays, texts, booleans, null and safe integers."""
    if isinstance(value, dict):
        names = sorted(value, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(jcs(name) + ":" + jcs(value[name]) for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(jcs, value)) + "]"
    if isinstance(value, int) and not isinstance(value, bool):
        assert abs(value) < 2**53
        return str(value)
    return json.dumps(value, ensure_ascii=False)


def challenge_id(secret, challenge):
    """Core draft 5.1.2.1: seven slots, absent ones empty."""
    slots = ["realm", "method", "intent", "request", "expires", "digest", "opaque"]
    text = "|".join(challenge.get(slot) or "" for slot in slots)
    mac = hmac.new(secret.encode(), text.encode(), hashlib.sha256).digest()
    return text, b64url(mac)


def quoted(text):
    out = ""
    for character in text:
        if character in '"\\':
            out += "\\" + character
        elif character == "\t" or " " <= character <= "~":
            out += character
        else:
            units = character.encode("utf-16-be")
            for at in range(0, len(units), 2):
                out += "\\u%02x%02x" % (units[at], units[at + 1])
    return '"' + out + '"'


def challenge_header(challenge):
    order = ["id", "realm", "method", "intent", "request", "expires", "description", "digest", "opaque"]
    return "Payment " + ", ".join(
        name + "=" + quoted(challenge[name]) for name in order if challenge.get(name) is not None
    )


def content_digest(body):
    return "sha-256=:" + base64.b64encode(hashlib.sha256(body).digest()).decode("ascii") + ":"


def quality(header, method, intent):
    """The most specific range that matches: both named, then the method, then the intent, then none."""
    best = None
    for index, entry in enumerate(part for part in header.split(",") if part.strip()):
        name, *parameters = entry.split(";")
        of_method, of_intent = (half.strip() for half in name.split("/"))
        thousandths = 1000
        for parameter in parameters:
            key, value = (half.strip() for half in parameter.split("="))
            if key.lower() == "q":
                whole, _, decimals = value.partition(".")
                thousandths = int(whole) * 1000 + int((decimals + "000")[:3])
        if of_method not in ("*", method) or of_intent not in ("*", intent):
            continue
        rank = (of_method == "*", of_intent == "*", index)
        if best is None or rank < best[0]:
            best = (rank, thousandths)
    return best[1] if best else 0


def arrange(header, offers):
    weights = {offer: quality(header, *offer.split("/")) for offer in offers}
    kept = [offer for offer in offers if weights[offer] > 0]
    return sorted(kept, key=lambda offer: -weights[offer]) or offers


# --- Material -------------------------------------------------------------------------------------

REQUESTS = [
    {},
    {"amount": "1000", "currency": "usd", "recipient": "acct_123"},
    {"recipient": "0xAbC", "currency": "usd", "amount": "1", "methodDetails": {"z": [1, -2, {"b": True, "a": None}], "chainId": 42431}},
    {"description": "Café ☕ \U0001f600 \"quoted\" \\ / \b\f\n\r\t\x1f\x7f", "amount": "0"},
    {"€": 1, "\U0001f600": 2, "\ufb33": 3, "é": 4, "e": 5, "": 6, "1": 7, "\r": 8},
    {"amount": "340282366920938463463374607431768211455", "n": 9007199254740991},
]
OPAQUES = [None, {}, {"pi": "pi_3abc123XYZ"}, {"scope": "GET /v1/é", "nonce": "00ff", "\U0001f600": "☕"}]
DESCRIPTIONS = [
    None,
    "",
    "One model call",
    'Pay "here", Payment id="x" \\ later',
    "Zażółć — ☕ \U0001f600",
    "bell\x07 nul\x00 del\x7f tab\there c1\x85",
    "literal \\u2014 and \\\\u2014",
    "\\",
    '"',
]
EXPIRES = [None, "2025-01-15T12:05:00Z", "2025-01-15T12:05:00.123456789Z", "2025-01-15T12:05:00+05:30", "2016-12-31T23:59:60Z"]


def text(alphabet, low, high):
    return "".join(RANDOM.choice(alphabet) for _ in range(RANDOM.randint(low, high)))


def challenges():
    for index in range(48):
        opaque = OPAQUES[index % len(OPAQUES)]
        body = bytes(RANDOM.randrange(256) for _ in range(RANDOM.randrange(80)))
        yield {
            "id": text('abcXYZ019-_ "\\,=;é☕\U0001f600', 1, 12),
            "realm": text('api.example-0:/ "\\,é', 0, 16),
            "method": "abz"[index % 3] + text("abz019:_-", 0, 8),
            "intent": text("abzABZ019-", 1, 8),
            "request": b64url(jcs(REQUESTS[index % len(REQUESTS)]).encode()),
            "expires": EXPIRES[index % len(EXPIRES)],
            "digest": content_digest(body) if index % 2 else None,
            "description": DESCRIPTIONS[index % len(DESCRIPTIONS)],
            "opaque": None if opaque is None else b64url(jcs(opaque).encode()),
        }


def without_nulls(value):
    return {name: member for name, member in value.items() if member is not None}


# --- The files ------------------------------------------------------------------------------------


def ids():
    out = []
    for index, challenge in enumerate(challenges()):
        secret = text("abcdefghijklmnopqrstuvwxyz0123456789é", 32, 48)
        # A server refuses a realm that moves the borders of the slots.
        challenge["realm"] = challenge["realm"].replace("|", "")
        bound, challenge["id"] = challenge_id(secret, challenge)
        out.append({"secret": secret, "challenge": without_nulls(challenge), "bound": bound})
    return {"ids": out}


def challenge_file():
    good = {"id": "abc", "realm": "api", "method": "tempo", "intent": "charge", "request": "e30"}
    plain = challenge_header(good)
    second = challenge_header({**good, "id": "second"})

    def param(name, value):
        return challenge_header({**good, name: value})

    return {
        "written": [
            {"challenge": without_nulls(challenge), "header": challenge_header(challenge)}
            for challenge in challenges()
        ],
        "read": [
            {"why": why, "header": header, "challenge": {**good, **more}}
            for why, header, more in [
                ("names have no case", 'Payment ID="abc", Realm="api", METHOD="tempo", iNTENT="charge", Request="e30"', {}),
                ("the scheme has no case, a tab is white space", "pAYMENT\t" + plain[8:], {}),
                ("tokens need no quotes", "Payment id=abc, realm=api, method=tempo, intent=charge, request=e30", {}),
                ("bad white space", 'Payment id = "abc",realm\t=\t"api" ,method= "tempo", intent ="charge", request=e30', {}),
                ("empty list elements", ", ,Payment id=abc,, ,realm=api, method=tempo, intent=charge,\trequest=e30,", {}),
                ("unknown parameters", plain + ', foo="bar", header=Cookie, __proto__=x', {}),
                ("a parameter called payment", 'Payment id="abc", payment = "x", ' + plain[18:], {}),
                ("another scheme before", 'Bearer error="use Payment id=1, or Payment id=2", ' + plain, {}),
                ("another scheme behind", plain + ', Digest realm="other", nonce="x, Payment y"', {}),
                ("a token68 before", "Negotiate abc==, " + plain, {}),
                ("quoted pairs", plain + r', description="a\"b\\c\,d\e"', {"description": 'a"b\\c,de'}),
                ("UTF-16 escapes", plain + r', description="\u2014 \uD83D\uDE00 \\u2014"', {"description": "— \U0001f600 \\u2014"}),
                ("half of a surrogate pair", plain + r', description="\ud83d \ude00"', {"description": "\ufffd \ufffd"}),
                ("no escape", plain + r', description="\u12 \uZZZZ"', {"description": "u12 uZZZZ"}),
                ("padded request", param("request", "e30="), {"request": "e30="}),
                ("digest of a peer", plain + ', digest="sha-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="',
                 {"digest": "sha-256=47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="}),
                ("lower-case date-time", plain + ', expires="2025-01-15t12:05:00z"', {"expires": "2025-01-15t12:05:00z"}),
            ]
        ],
        "refused": [
            {"why": why, "header": header}
            for why, header in [
                ("no Payment scheme", "Bearer realm=x"),
                ("nothing", ""),
                ("scheme alone", "Payment"),
                ("a token68", "Payment eyJhYmMi"),
                ("a scheme in a quoted string", 'Bearer error=", Payment id=1"'),
                ("a vertical tab is no white space", "\x0b" + plain),
                ("a no-break space is no white space", "\xa0" + plain),
                ("unterminated quoted string", plain + ', description="oops'),
                ("unterminated by an escape", plain + ', description="oops\\"'),
                ("text behind a quoted string", plain + ', description="a"b'),
                ("a value is missing", plain + ", description="),
                ("no commas", plain.replace(",", "")),
                ("a raw line end", plain + ', description="a\nb"'),
                ("a raw control character", plain + ', description="a\x00b"'),
                ("two challenges", plain + ", " + second),
                ("a parameter twice", plain + ', id="abc"'),
                ("a parameter twice in another case", plain + ', ID="abc"'),
                ("an unknown parameter twice", plain + ", foo=1, Foo=1"),
                *[(f"no {name}", challenge_header({**good, name: None})) for name in good],
                ("empty id", param("id", "")),
                *[(f"method {bad!r}", param("method", bad)) for bad in ["", "Tempo", "1a", "-a", "a b", "*", "a|b", "é"]],
                *[(f"intent {bad!r}", param("intent", bad)) for bad in ["", "a b", "a_b", "charge|x", "é", "*"]],
                *[
                    (f"request {bad!r}", param("request", bad))
                    for bad in ["", "e30|e30", "e3 0", "e", "=e30", b64url(b"[]"), b64url(b"null"), b64url(b"not json"),
                                b64url(b'{"a":1,"a":1}'), b64url(b'{"a":1'), b64url(b"{}x"), b64url(b"\xff")]
                ],
                *[
                    (f"expires {bad!r}", param("expires", bad))
                    for bad in ["", "tomorrow", "2025-01-15", "2025-01-15T12:05:00", "2025-01-15 12:05:00Z",
                                "2025-01-15|12:05:00Z", "2025-01-15T12:05:00Z|x", "2025-02-30T12:05:00Z", "1736942700"]
                ],
                *[(f"digest {bad!r}", param("digest", bad)) for bad in ["", "sha-256=", "sha-256=::", "sha-512=abc", "md5=:abc:", "sha-256=a|b"]],
                *[(f"opaque {bad!r}", param("opaque", bad)) for bad in ["", "a b", "a|b", "é"]],
            ]
        ],
        "lists": [
            {"why": why, "lines": lines, "ids": found}
            for why, lines, found in [
                ("two in one line", [plain + ", " + second], ["abc", "second"]),
                ("two lines", [plain, second], ["abc", "second"]),
                ("mixed", ['Basic realm="a, Payment b"', second + ", Negotiate abc=, " + plain], ["second", "abc"]),
                ("an unreadable one hides nothing", [param("intent", "payment plan") + ", " + second, "Payment id=x", plain], ["second", "abc"]),
                ("an unreadable line hides nothing", [plain, 'Payment id="open, Payment id=2', second], ["abc", "second"]),
                ("a scheme in a description", [param("description", "x, Payment id=1"), second], ["abc", "second"]),
                ("none", ["Bearer x", ""], []),
            ]
        ],
        "not written": [
            {**good, **more}
            for more in [{"id": ""}, {"description": "a\r\nb"}, {"description": "a\nb"}, {"description": "a\r"}, {"realm": "a\nb"},
                         {"id": "a\rb"}, {"request": "W10"}, {"request": "!"}, {"expires": "tomorrow"}, {"digest": "sha-512=abc"}, {"opaque": "a|b"}]
        ],
    }


def authorization():
    token = b64url(b'{"challenge":{}}')
    return {
        "authorization": [
            {"lines": lines, "found": found, "left": left}
            for lines, found, left in [
                ([], None, []),
                (["Payment " + token], token, []),
                (["payment  \t" + token + " "], token, []),
                (["Payment abc=="], "abc==", []),
                (["Bearer t, Payment " + token], token, ["Bearer t"]),
                (["Payment " + token + ", Bearer t"], token, ["Bearer t"]),
                (["Bearer t", "PAYMENT " + token, "Basic Zm9v"], token, ["Bearer t", "Basic Zm9v"]),
                (['Digest username="a, Payment b" ,uri="/\\"", Payment abc'], "abc", ['Digest username="a, Payment b", uri="/\\""']),
                (['Digest username="a, Payment b" ,uri="/"'], None, ['Digest username="a, Payment b" ,uri="/"']),
                (["AWS4-HMAC-SHA256 Credential=A/1/s3, SignedHeaders=host;date, Signature=f"], None,
                 ["AWS4-HMAC-SHA256 Credential=A/1/s3, SignedHeaders=host;date, Signature=f"]),
                (["PaymentX abc"], None, ["PaymentX abc"]),
                (["Bearer a,b,c"], None, ["Bearer a,b,c"]),
                (["Payment"], "malformed", []),
                (["Payment "], "malformed", []),
                (["Payment a b"], "malformed", []),
                (["Payment abc, id=x"], "malformed", []),
                (['Payment id="a, Bearer b", credential="c", Bearer t'], "malformed", ["Bearer t"]),
                (['Bearer "open, Payment abc'], "malformed", []),
                (["Payment abc, Payment abc"], "multiple", []),
                (["Payment abc", "Bearer t, payment def"], "multiple", ["Bearer t"]),
                (["Payment , Payment abc"], "multiple", []),
            ]
        ]
    }


def credentials():
    out = []
    for index, challenge in enumerate(challenges()):
        payload = [{"proof": "0xabc"}, {}, {"spt": "spt_é☕", "nested": {"a": [1, None]}}][index % 3]
        credential = {"challenge": without_nulls(challenge), "payload": payload}
        if index % 2:
            credential["source"] = "did:pkh:eip155:1:0xé"
        raw = json.dumps(credential, ensure_ascii=bool(index % 4)).encode()
        out.append({"credential": credential, "token": b64url(raw)})
    echoed = '"id":"abc","realm":"api","method":"tempo","intent":"charge","request":"e30"'
    legacy = '{"challenge":{%s,"opaque":{"pi":"x","a":"é"}},"payload":{}}' % echoed
    bound = dict(json.loads("{" + echoed + "}"), opaque=b64url(jcs({"pi": "x", "a": "é"}).encode()))
    out.append({"credential": {"challenge": bound, "payload": {}}, "token": b64url(legacy.encode())})
    unknown = '{"more":[1],"challenge":{%s,"zzz":1},"payload":{}}' % echoed
    out.append({"credential": {"challenge": json.loads("{" + echoed + "}"), "payload": {}}, "token": b64url(unknown.encode())})
    for padded in [base64.urlsafe_b64encode, base64.b64encode]:
        raw = ('{"challenge":{%s},"payload":{"p":"??>>~~"}}' % echoed).encode()
        out.append({"credential": json.loads(raw), "token": padded(raw).decode("ascii")})
    refused = [
        "", "{}", "[]", "null", "not json", '{"challenge":{"id":"abc"},"payload":{}}',
        '{"challenge":{%s}}' % echoed,
        *['{"challenge":{%s},"payload":%s}' % (echoed, bad) for bad in ['"x"', "[]", "null", "1", '{"a":1,"a":1}', '{"a":[{"b":1,"\\u0062":1}]}']],
        '{"challenge":{%s,"id":"b"},"payload":{}}' % echoed,
        '{"challenge":{%s},"payload":{},"payload":{}}' % echoed,
        '{"challenge":{%s},"payload":{}}x' % echoed,
        *['{"challenge":{%s},"payload":{}}' % echoed.replace(a, b) for a, b in
          [('"abc"', '""'), ('"abc"', "1"), ("tempo", "Tempo"), ("charge", "a b"), ("charge", "charge|x"), ("e30", "e30\",\"opaque\":[\"a\"],\"x\":\"")]],
        '{"challenge":{%s,"opaque":{"a":1}},"payload":{}}' % echoed,
    ]
    return {"read": out, "refused": ["!", "e", "a+b-", b64url(b"\xff")] + [b64url(text.encode()) for text in refused]}


def receipts():
    base = {"status": "success", "method": "stripe", "timestamp": "2025-01-15T12:00:00Z", "reference": "pi_1"}
    written = [
        base,
        {**base, "challengeId": "qB3wErTyU7iOpAsD9fGhJk"},
        {**base, "reference": "", "challengeId": "é☕", "aaa": [1, None, {"b": True}], "externalId": 'order "1" \\ \x07 \x7f'},
        {**base, "method": "a1:b_2-c", "timestamp": "2025-01-15T12:00:00.5Z", "reference": "0xABC"},
    ]
    twice = json.dumps(base)[:-1]
    return {
        "written": [
            {"receipt": receipt, "header": b64url(json.dumps(receipt, ensure_ascii=False, separators=(",", ":")).encode())}
            for receipt in written
        ],
        "read": [
            {"header": b64url(json.dumps({**dict(reversed(base.items())), "timestamp": given}).encode()),
             "receipt": {**base, "timestamp": utc}}
            for given, utc in [("2025-01-15T12:00:00Z", "2025-01-15T12:00:00Z"), ("2025-01-15T12:00:00.000Z", "2025-01-15T12:00:00Z"),
                               ("2025-01-15T17:30:00+05:30", "2025-01-15T12:00:00Z"), ("2025-01-15t12:00:00z", "2025-01-15T12:00:00Z")]
        ],
        "refused": ["!", "a", b64url(b"\xff")] + [
            b64url(text.encode())
            for text in [
                "", "[]", "null", "not json", twice, twice + ',"status":"success"}', twice + ',"a":1,"a":2}', twice + ',"a":{"b":1,"b":2}}', twice + "}}",
                *[json.dumps({**base, name: bad}) for name, bad in
                  [("status", "failed"), ("status", "Success"), ("status", None), ("method", "Stripe"), ("method", ""), ("method", 1),
                   ("timestamp", "2025-01-15 12:00:00Z"), ("timestamp", "Jan 29 2026 12:00"), ("timestamp", 1736942400), ("reference", None), ("reference", 1)]],
                *[json.dumps({name: base[name] for name in base if name != missing}) for missing in base],
            ]
        ],
    }


def digests():
    bodies = [b"", b"hello", b'{"amount":"1000"}', "é—\U0001f680".encode(), bytes(range(256)), b"a" * 100_000]
    hello = base64.b64encode(hashlib.sha256(b"hello").digest()).decode("ascii")
    return {
        "written": [{"hex": body.hex() if len(body) < 1000 else None, "repeat": None if len(body) < 1000 else len(body), "digest": content_digest(body)} for body in bodies],
        "hello": [f"sha-256=:{hello}:", f"sha-256={hello}", f"sha-256=:{hello[:-1]}:"],
        "refused": ["", "sha-256", "sha-256=", "sha-256=:", "sha-256=::", f"sha-256={hello[:-1]}", f"sha-256=:{hello}", f"sha-256={hello}:",
                    f"sha-256=::{hello}::", f"SHA-256=:{hello}:", f"sha-512=:{hello}:", f" sha-256=:{hello}:", f"sha-256=:{hello}: ",
                    f"sha-256=:{hello}:;a=1", f"sha-256=:{hello}:, sha-512=:{hello}:", f"sha-256=:{hello[:-2]}R=:", f"sha-256=:{hello}=:",
                    f"sha-256=:{hello.replace('+', '-')}:", f"sha-256 =:{hello}:", hello],
    }


def accept_payment():
    offers = ["tempo/session", "tempo/charge", "stripe/charge", "solana/charge", "x402/charge"]
    headers = [
        "tempo/charge, tempo/session, stripe/charge;q=0.5, solana/charge;q=0.3",
        "tempo/*, solana/*;q=0.6, */session;q=0.3",
        "*/session;q=0.3, solana/*;q=0.6, tempo/*",
        "tempo/charge, tempo/session;q=0, solana/charge",
        "tempo/charge, tempo/session;Q=0, solana/charge;q=0.8, stripe/charge;q=0.4",
        "*/*",
        "*/*;q=0.001, tempo/charge;q=0",
        "*/*;q=0",
        "tempo/charge;q=0, tempo/session;q=0.000, stripe/*;q=0., solana/*;q=0, x402/charge;Q=0",
        "lightning/charge",
        "stripe/charge ; q = 0.25 , */session ;\tq=1. , ,",
        "x402/charge;q=0.999, solana/charge;q=1.000, stripe/charge;q=0.99",
        "tempo/charge;q=0.2, tempo/charge;q=0.8, stripe/charge;q=0.5",
        "tempo/charge;foo=bar;q=0.1, stripe/charge",
    ]
    for _ in range(40):
        ranges = []
        for _ in range(RANDOM.randint(1, 7)):
            name = RANDOM.choice(["*", "tempo", "stripe", "solana", "x402", "other"]) + "/" + RANDOM.choice(["*", "charge", "session"])
            q = RANDOM.choice([None, 0, 1, 250, 500, 999, 1000, RANDOM.randint(0, 1000)])
            ranges.append(name if q is None else f"{name};q={q // 1000}.{q % 1000:03}")
        headers.append(", ".join(ranges))
    return {
        "arranged": [{"header": header, "offers": offers, "arranged": arrange(header, offers)} for header in headers],
        "ignored": ["", " , ", "tempo", "tempo/", "/charge", "tempo/charge/x", "Tempo/charge", "tempo/a_b", "t*/charge", "tempo/charge;q",
                    "tempo/charge;q=", "tempo/charge;q=2", "tempo/charge;q=1.001", "tempo/charge;q=0.0001", "tempo/charge;q=.5", "tempo/charge;q=-0",
                    "tempo/charge;q=1e0", "tempo/charge;q=0;q=1", "tempo/charge;q=0;Q=1", "tempo/charge, stripe"],
    }


def canonical():
    values = REQUESTS + [{"b": {"b": [], "a": {}}, "a": [["é"], "\u2028", "</script>"], "\u0000": "\u0000"}]
    return {"jcs": [{"value": value, "jcs": jcs(value), "base64url": b64url(jcs(value).encode())} for value in values]}


FILES = {
    "ids": ids,
    "challenges": challenge_file,
    "authorization": authorization,
    "credentials": credentials,
    "receipts": receipts,
    "digests": digests,
    "accept_payment": accept_payment,
    "jcs": canonical,
    "signed_receipts": signed_receipts,
    "discovery": discovery,
    "proxy_routes": proxy_routes,
}


def main():
    check = sys.argv[1:] == ["--check"]
    if sys.argv[1:] and not check:
        sys.exit(__doc__)
    stale = []
    for name, make in FILES.items():
        RANDOM.seed(name)
        content = json.dumps(make(), indent=1, ensure_ascii=True) + "\n"
        path = HERE / f"{name}.json"
        if not check:
            path.write_text(content, encoding="ascii")
        elif not path.exists() or path.read_text(encoding="ascii") != content:
            stale.append(path.name)
    stale += [path.name for path in HERE.glob("*.json") if path.stem not in FILES]
    if stale:
        sys.exit("not what generate.py writes: " + ", ".join(sorted(stale)))


main()
