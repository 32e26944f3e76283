"""The vectors of signed receipts, for generate.py: canonical form, signatures, projections, envelopes.

Only the standard library, and no code in common with the crate: Ed25519 follows the appendix of RFC 8032,
X25519 RFC 7748, ChaCha20 and Poly1305 RFC 8439, XChaCha20 its draft (draft-irtf-cfrg-xchacha-03).
"""

import base64
import hashlib
import hmac
import json
import random
import struct
import unicodedata

RANDOM = random.Random()


def b64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


# --- Canonical form: NFC, then RFC 8785 -----------------------------------------------------------


def number(value):
    """ECMA-262, Number::toString. Python's shortest digits are the same, its layout is not."""
    value = float(value)
    if value == 0:
        return "0"
    if value < 0:
        return "-" + number(-value)
    digits, exponent = repr(float(value)), 0
    if "e" in digits:
        digits, exponent = digits.split("e")
    whole, _, fraction = digits.partition(".")
    point = len(whole) + int(exponent)
    digits = whole + fraction
    stripped = digits.lstrip("0")
    point -= len(digits) - len(stripped)
    digits = stripped.rstrip("0")
    k, n = len(digits), point
    if k <= n <= 21:
        return digits + "0" * (n - k)
    if 0 < n <= 21:
        return digits[:n] + "." + digits[n:]
    if -6 < n <= 0:
        return "0." + "0" * -n + digits
    mantissa = digits if k == 1 else digits[0] + "." + digits[1:]
    return mantissa + "e" + ("+" if n > 0 else "-") + str(abs(n - 1))


def text(value):
    return json.dumps(unicodedata.normalize("NFC", value), ensure_ascii=False)


def canonical(value):
    if isinstance(value, dict):
        members = {unicodedata.normalize("NFC", name): member for name, member in value.items()}
        assert len(members) == len(value)
        names = sorted(members, key=lambda name: name.encode("utf-16-be"))
        return "{" + ",".join(text(name) + ":" + canonical(members[name]) for name in names) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(canonical, value)) + "]"
    if isinstance(value, bool) or value is None:
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return number(value)
    return text(value)


# --- Ed25519 --------------------------------------------------------------------------------------

P = 2**255 - 19
L = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P


def point_add(one, other):
    a = (one[1] - one[0]) * (other[1] - other[0]) % P
    b = (one[1] + one[0]) * (other[1] + other[0]) % P
    c, d = 2 * one[3] * other[3] * D % P, 2 * one[2] * other[2] % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % P, g * h % P, f * g % P, e * h % P)


def point_mul(scalar, point):
    result = (0, 1, 1, 0)
    while scalar > 0:
        if scalar & 1:
            result = point_add(result, point)
        point = point_add(point, point)
        scalar >>= 1
    return result


def base_point():
    y = 4 * pow(5, P - 2, P) % P
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * pow(2, (P - 1) // 4, P) % P
    if x & 1:
        x = P - x
    return (x, y, 1, x * y % P)


BASE = base_point()


def compress(point):
    inverse = pow(point[2], P - 2, P)
    x, y = point[0] * inverse % P, point[1] * inverse % P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def expand(seed):
    digest = hashlib.sha512(seed).digest()
    scalar = int.from_bytes(digest[:32], "little")
    return scalar & ((1 << 254) - 8) | 1 << 254, digest[32:]


def ed25519_public(seed):
    return compress(point_mul(expand(seed)[0], BASE))


def ed25519_sign(seed, message):
    def mod_l(data):
        return int.from_bytes(hashlib.sha512(data).digest(), "little") % L

    scalar, prefix = expand(seed)
    public = compress(point_mul(scalar, BASE))
    nonce = mod_l(prefix + message)
    r = compress(point_mul(nonce, BASE))
    s = (nonce + mod_l(r + public + message) * scalar) % L
    return r + s.to_bytes(32, "little")


# --- Envelopes ------------------------------------------------------------------------------------


def x25519(secret, public):
    k = int.from_bytes(secret, "little") & ((1 << 255) - 8) & ~(1 << 255) | 1 << 254
    u = int.from_bytes(public, "little") & ((1 << 255) - 1)
    x2, z2, x3, z3, swap = 1, 0, u, 1, 0
    for at in reversed(range(255)):
        bit = k >> at & 1
        if swap ^ bit:
            x2, x3, z2, z3 = x3, x2, z3, z2
        swap = bit
        a, b, c, d = (x2 + z2) % P, (x2 - z2) % P, (x3 + z3) % P, (x3 - z3) % P
        da, cb, aa, bb = d * a % P, c * b % P, a * a % P, b * b % P
        e = (aa - bb) % P
        x3, z3 = (da + cb) ** 2 % P, u * (da - cb) ** 2 % P
        x2, z2 = aa * bb % P, e * (aa + 121665 * e) % P
    if swap:
        x2, z2 = x3, z3
    return (x2 * pow(z2, P - 2, P) % P).to_bytes(32, "little")


def hkdf(secret, salt, info):
    prk = hmac.new(salt, secret, hashlib.sha256).digest()
    return hmac.new(prk, info + b"\x01", hashlib.sha256).digest()


def chacha_rounds(state):
    def quarter(a, b, c, d):
        for one, other, third, turn in [(a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)]:
            state[one] = (state[one] + state[other]) & 0xFFFFFFFF
            mixed = state[third] ^ state[one]
            state[third] = (mixed << turn | mixed >> (32 - turn)) & 0xFFFFFFFF

    for _ in range(10):
        for column in range(4):
            quarter(column, 4 + column, 8 + column, 12 + column)
        for row in [(0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14)]:
            quarter(*row)
    return state


SIGMA = struct.unpack("<4I", b"expand 32-byte k")


def hchacha(key, nonce):
    state = chacha_rounds([*SIGMA, *struct.unpack("<8I", key), *struct.unpack("<4I", nonce)])
    return struct.pack("<8I", *state[:4], *state[12:])


def chacha_block(key, counter, nonce):
    begin = [*SIGMA, *struct.unpack("<8I", key), counter, *struct.unpack("<3I", nonce)]
    end = chacha_rounds(begin.copy())
    return struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(begin, end)))


def poly1305(key, data):
    r = int.from_bytes(key[:16], "little") & 0x0FFFFFFC0FFFFFFC0FFFFFFC0FFFFFFF
    total = 0
    for at in range(0, len(data), 16):
        total = (total + int.from_bytes(data[at : at + 16] + b"\x01", "little")) * r % (2**130 - 5)
    return ((total + int.from_bytes(key[16:], "little")) % 2**128).to_bytes(16, "little")


def xchacha20_poly1305(key, nonce, plain):
    key, nonce = hchacha(key, nonce[:16]), b"\0\0\0\0" + nonce[16:]
    stream = b"".join(chacha_block(key, 1 + at, nonce) for at in range(len(plain) // 64 + 1))
    cipher = bytes(a ^ b for a, b in zip(plain, stream))
    padded = cipher + b"\0" * (-len(cipher) % 16)
    return cipher + poly1305(chacha_block(key, 0, nonce), padded + struct.pack("<QQ", 0, len(cipher)))


def envelopes():
    base = (9).to_bytes(32, "little")
    out = []
    for plain in [b"", b"{}", "é—\U0001f680".encode() * 30, bytes(range(256))]:
        secret, ephemeral, nonce = (RANDOM.randbytes(length) for length in (32, 32, 24))
        recipient, public = x25519(secret, base), x25519(ephemeral, base)
        key = hkdf(x25519(ephemeral, recipient), public + recipient, b"prxy-payload-v1")
        out.append({
            "secret": b64url(secret),
            "recipient": b64url(recipient),
            "payload_hex": plain.hex(),
            "envelope": {
                "alg": "x25519-xchacha20-poly1305-v1",
                "ephemeral_pub": b64url(public),
                "nonce": b64url(nonce),
                "ciphertext": b64url(xchacha20_poly1305(key, nonce, plain)),
                "fingerprint": "sha256-" + hashlib.sha256(recipient).hexdigest(),
            },
        })
    return out


# --- Receipts -------------------------------------------------------------------------------------

SEED = bytes(range(32))
KID = "receipts-2026-q2"
SECRET = bytes(range(100, 132))

# In the order of the schema's description.
SCHEMA = """
receipt_id request_id parent_receipt_id client_request_id idempotency_key agent_id tenant_id project_id customer_id
environment api_key_id user_id provider upstream_provider model_id region aws_account_id iam_principal receipt_type
status http_status provider_status error_class error_code error_message_hash input_tokens output_tokens
cache_read_tokens cache_write_tokens tokens_source cost_source cost_estimated_usd cost_estimate_confidence
cost_final_usd cost_currency pricing_table_id pricing_version pricing_effective_at routing_decision policy_decision
cache_status module_chain settlement_protocol client_request_hash provider_request_hash provider_response_hash
client_response_hash payload_capture encrypted_request_blob encrypted_response_blob encryption_alg
encryption_pubkey_fingerprint visibility public_receipt_hash redaction_policy request_started_at request_ended_at
created_at payment
""".split()

DEMO = """
receipt_id provider model_id status http_status input_tokens output_tokens cache_read_tokens cache_write_tokens
cost_estimated_usd cost_estimate_confidence module_chain cache_status policy_decision payload_capture environment
client_request_hash provider_request_hash provider_response_hash client_response_hash
created_at parent_receipt_id receipt_type visibility payment
""".split()
STANDARD = DEMO + """
cost_currency cost_final_usd cost_source tokens_source error_class error_code pricing_effective_at pricing_table_id
pricing_version provider_status redaction_policy request_started_at request_ended_at routing_decision
settlement_protocol upstream_provider
""".split()

EMPTY = {**dict.fromkeys(SCHEMA), "module_chain": [], "visibility": "private"}
USUAL = {
    **EMPTY,
    "receipt_id": "8c5a4e2a-9b6d-4f3e-89a3-aa3e8b1f7fc3", "request_id": "req_0001", "idempotency_key": "idem-1",
    "tenant_id": "tenant_1", "environment": "production", "provider": "aws_bedrock",
    "model_id": "us.amazon.nova-micro-v1:0", "region": "us-east-1", "receipt_type": "inference", "status": "succeeded",
    "http_status": 200, "provider_status": 200, "input_tokens": 12, "output_tokens": 5, "cache_read_tokens": 0,
    "cache_write_tokens": 0, "tokens_source": "provider", "cost_source": "pricing_table", "cost_estimated_usd": 0.0000012,
    "cost_estimate_confidence": "complete", "cost_currency": "usd", "policy_decision": "allowed", "cache_status": "miss",
    "module_chain": ["mcp-optimizer", "cost-guard"], "settlement_protocol": "mpp",
    "client_request_hash": "sha256-" + hashlib.sha256(b"a").hexdigest(), "payload_capture": "hash_only",
    "request_started_at": "2026-06-05T21:10:50.000Z", "request_ended_at": "2026-06-05T21:10:50.167Z",
    "created_at": "2026-06-05T21:10:50.168Z",
    "payment": {"amount": "50", "currency": "usd", "intent": "charge", "method": "stripe", "reference": "pi_1",
                "challenge_id": b64url(bytes(32))},
}
STRANGE = {
    **USUAL,
    "receipt_id": "00000000-0000-4000-8000-000000000000", "agent_id": "A\u030angstro\u0308m \u212b \u0958 \ufb01",
    "module_chain": ["\u1112\u1161\u11ab", "\U0001f602\ufb33", "</script>\u2028", '"\\/\b\f\n\r\t\0\x1f\x7f'],
    "status": "e\u0301 fini", "input_tokens": 2**53 - 1, "cost_estimated_usd": 1e-7, "cost_final_usd": -999999.999999999,
    "payment": {**USUAL["payment"], "amount": str(2**128 - 1), "reference": "e\u0301\"", "challenge_id": None},
}


def without_signature(receipt):
    return {name: member for name, member in receipt.items() if name != "signature"}


def signed(receipt, kid=KID, seed=SEED):
    receipt = {**receipt, "signing_algorithm": "ed25519", "signing_key_id": kid}
    return {**receipt, "signature": b64url(ed25519_sign(seed, canonical(receipt).encode()))}


def digests(receipt):
    message = canonical(without_signature(receipt)).encode()
    return {
        "canonical": message.decode(),
        "digest": "sha-256=:" + base64.b64encode(hashlib.sha256(message).digest()).decode() + ":",
    }


def public_hash(receipt):
    return "sha256-" + hashlib.sha256(canonical(without_signature(receipt)).encode()).hexdigest()


def issued():
    """What the library writes for a body, as its owner sees it and as everybody does."""
    for body in [EMPTY | {"receipt_id": USUAL["receipt_id"], "created_at": USUAL["created_at"],
                          "receipt_type": "inference", "payload_capture": "hash_only"}, USUAL, STRANGE]:
        for visibility in ["private", "public_demo", "public_minimal", "public_redacted", "public_full"]:
            for handle in [None, "@e\u0301cho"]:
                policy = "standard-v1" if visibility == "public_redacted" else None
                full = {**body, "visibility": visibility, "redaction_policy": policy}
                given = full if handle is None else {**full, "agent_handle": handle}
                shown = {} if handle is None else {"agent_handle": handle}
                if visibility == "private":
                    public, full = None, signed(full)
                elif visibility == "public_full":
                    public = full = signed({**full, **shown, "verified": True})
                else:
                    keep = STANDARD if visibility == "public_redacted" else DEMO
                    public = {name: full[name] for name in keep}
                    if public["payment"]:
                        public["payment"] = {name: full["payment"][name] for name in ["amount", "currency", "intent", "method"]}
                    if visibility != "public_demo":
                        public.update(shown)
                    public = signed({**public, "verified": True})
                    full = signed({**full, "public_receipt_hash": public_hash(public)})
                yield {"body": given, "full": canonical(full), "public": public and canonical(public),
                       "digest": digests(public or full)["digest"]}


def verified():
    for name, receipt in [
        ("all members", USUAL),
        ("any members", {"receipt_id": "r1"}),
        ("decomposed names and values", {"receipt_id": "r2", "no\u0301te": "A\u030angstro\u0308m", "note": "x"}),
        ("numbers", {"a": 1e21, "b": 1e-7, "c": -0.0, "d": 4.5, "e": 2**53 + 2, "f": 1 / 3, "g": 5e-324}),
        ("inner objects", {"z": {"b": [{"d": 1, "c": 2}], "a": None}, "\U0001f602": 1, "\ufb33": 2}),
        ("a member that says it is verified", {"verified": False}),
    ]:
        receipt = signed(receipt)
        yield {"why": name, "receipt": json.dumps(receipt), **digests(receipt)}
        yield {"why": name + ", unescaped", "receipt": json.dumps(receipt, ensure_ascii=False, indent=1), **digests(receipt)}


def refused():
    good = signed(USUAL)
    plain = json.dumps(good)
    signature = base64.urlsafe_b64decode(good["signature"] + "==")
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    compatible = (signed({"receipt_id": str(n)}) for n in range(1000))
    dashed = next(receipt for receipt in compatible if "-" in receipt["signature"])

    def touched(**members):
        return json.dumps({**good, **members})

    def resigned(new):
        return touched(signature=b64url(new))

    forged = {**without_signature(good), "signing_algorithm": "hmac_sha256"}
    mac = hmac.new(ed25519_public(SEED), canonical(forged).encode(), hashlib.sha256).digest()
    # R = 0 and S = k * a: the equation holds, and only the strict rules refuse it.
    small = (1).to_bytes(32, "little")
    message = canonical(without_signature(good)).encode()
    k = int.from_bytes(hashlib.sha512(small + ed25519_public(SEED) + message).digest(), "little") % L
    small += (k * expand(SEED)[0] % L).to_bytes(32, "little")
    return [
        {"why": why, "receipt": receipt}
        for why, receipt in [
            ("a member was changed", touched(input_tokens=13)),
            ("a member became null", touched(status=None)),
            ("a member was added", touched(more=1)),
            ("a member was taken out", json.dumps({name: good[name] for name in good if name != "user_id"})),
            ("an unknown key", json.dumps(signed(USUAL, kid="other"))),
            ("the signature of another key", json.dumps(signed(USUAL, seed=bytes(32)))),
            ("another algorithm", touched(signing_algorithm="hmac_sha256")),
            ("the public key as a secret", json.dumps({**forged, "signature": b64url(mac)})),
            ("an algorithm that nobody knows", touched(signing_algorithm="none")),
            ("algorithms have no other case", touched(signing_algorithm="Ed25519")),
            ("padding", touched(signature=good["signature"] + "==")),
            ("the other alphabet", json.dumps({**dashed, "signature": dashed["signature"].replace("-", "+")})),
            ("white space", touched(signature=good["signature"] + " ")),
            ("hexadecimal", touched(signature=signature.hex())),
            ("63 bytes", resigned(signature[:63])),
            ("65 bytes", resigned(signature + b"\0")),
            ("no bytes", resigned(b"")),
            ("S + L", resigned(r + (s + L).to_bytes(32, "little"))),
            ("another R", resigned(bytes([r[0] ^ 1]) + signature[1:])),
            ("R of small order", resigned(small)),
            ("no signature", json.dumps(without_signature(good))),
            ("signature is null", touched(signature=None)),
            ("no key", json.dumps({name: good[name] for name in good if name != "signing_key_id"})),
            ("no algorithm", json.dumps({name: good[name] for name in good if name != "signing_algorithm"})),
            ("two signatures", '{"signature":"x",' + plain[1:]),
            ("two signatures, the good one first", plain[:-1] + ',"signature":"x"}'),
            ("two signatures, one escaped", plain[:-1] + ',"\\u0073ignature":"x"}'),
            ("a member twice", plain[:-1] + ',"user_id":null}'),
            ("a member twice after normalisation", json.dumps(signed({"e\u0301": 1}))[:-1] + ',"\u00e9":1}'),
            ("an inner member twice", '{"x":{"a":1,"a":1},' + plain[1:]),
            ("text behind it", plain + "x"),
            ("in a list", "[" + plain + "]"),
            ("a lone surrogate", plain.replace("req_0001", "\\ud800")),
            ("a number that is none", plain.replace("12,", "1e999,")),
        ]
    ]


def hmacs():
    for receipt in [USUAL, {"receipt_id": "r4"}]:
        receipt = {**receipt, "signing_algorithm": "hmac_sha256", "signing_key_id": "hmac-1"}
        mac = hmac.new(SECRET, canonical(receipt).encode(), hashlib.sha256).digest()
        signed_receipt = {**receipt, "signature": b64url(mac)}
        yield {"receipt": json.dumps(signed_receipt), **digests(signed_receipt)}


def numbers():
    interesting = [0.0, -0.0, 5e-324, 1e-7, 1e-6, 123456e-11, 1e20, 1e21, 2.0**53, 2.0**53 + 2, 1 / 3, 0.1 + 0.2,
                   1.7976931348623157e308, 4.35, 9.999999999999997e22, 1e23, 333333333.33333329]
    interesting += [struct.unpack(">d", RANDOM.randbytes(8))[0] for _ in range(200)]
    interesting += [RANDOM.randrange(10**15) / 10**12 for _ in range(50)]
    for value in interesting:
        if value == value and abs(value) != float("inf"):
            yield {"read": repr(value), "written": number(value)}


def texts():
    for value in [
        {"e\u0301": 1, "f": 2, "z": 3},
        {"\ufb33": 1, "\uff21": 0, "\U0001f602": 2, "a": 3, "": 4, "10": 5, "1": 6, "\r": 7, "\u20ac": 8, "\u0080": 9, "\u00f6": 10},
        ["\u0041\u030a", "\u212b", "\u1112\u1161\u11ab", "\u0958", "\u1e9b\u0323", "a\u0315\u0300\u05ae\u0300b", "\ufb01", "\U0002f804"],
        {"x": [[], {}, [None, True, False], {"y": {"z": ""}}], "\u2028": "\u2029</script>"},
        [chr(code) for code in range(0x21)] + ['"', "\\", "/", "\x7f", "\x80"],
        "text", 1, None, [],
    ]:
        for ascii_only in (True, False):
            yield {"read": json.dumps(value, ensure_ascii=ascii_only), "written": canonical(value)}


REFUSED_TEXTS = [
    "", "{", "{}{}", "[1,]", "{\"a\":1,}", "{a:1}", "'a'", "[01]", "[+1]", "[.5]", "[1.]", "[1e]", "[NaN]", "[Infinity]", "[1e999]", "[-1e999]",
    '"\\ud800"', '"\\udc00"', '{"\\udc00":1}', '"\\ud800\\ud800"', '"\\x41"', '"\t"', '{"a":1,"a":2}', '{"a":1,"\\u0061":1}', '[{"b":{"a":1,"a":1}}]',
    '{"\u00e9":1,"e\u0301":2}', '{"\u212b":1,"\u00c5":1}', "nul", "True", "\ufeff{}", "[" * 65 + "]" * 65,
]


def signed_receipts():
    RANDOM.seed(8785)
    return {
        "texts": [*texts(), *numbers()],
        "refused_texts": REFUSED_TEXTS,
        "keys": [{"seed_hex": SEED.hex(), "secret_hex": SECRET.hex(), "jwks": {"keys": [
            {"kty": "OKP", "crv": "Ed25519", "x": b64url(ed25519_public(SEED)), "kid": KID, "alg": "EdDSA", "use": "sig"}]},
            "thumbprint": b64url(hashlib.sha256(('{"crv":"Ed25519","kty":"OKP","x":"%s"}' % b64url(ed25519_public(SEED))).encode()).digest())}],
        "verified": list(verified()),
        "refused": refused(),
        "hmac": list(hmacs()),
        "issued": list(issued()),
        "envelopes": envelopes(),
    }
