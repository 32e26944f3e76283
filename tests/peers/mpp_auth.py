"""Pays for the requests of an SDK: answers `402 Payment Required` with play money of the sandbox rail.

Written from the drafts, with nothing of the merchant's: a transport for `httpx2`, which the official SDKs of OpenAI
and Anthropic send their requests with.
"""

import base64
import datetime
import hashlib
import json
import re
import time

import httpx2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from receipts import digest_of, unique, verified

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"
# The API keys that SDKs insist on are none of the merchant's business.
API_KEYS = ("authorization", "x-api-key", "api-key")
# An answer that the merchant may still give for what was paid.
REDELIVERABLE = "redeliverable"


class PaymentError(Exception):
    """What is asked for cannot be paid, or what was answered is no receipt for it."""


def encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def base58(data):
    number, text = int.from_bytes(data, "big"), ""
    while number:
        number, place = divmod(number, 58)
        text = BASE58[place] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
PARAMETER = re.compile(rf'\s*({TOKEN})\s*=\s*(?:({TOKEN})|"((?:[^"\\]|\\.)*)")\s*')
SCHEME = re.compile(rf"[\s,]*({TOKEN})(?:[ \t]+|$)")


def challenges(values):
    """The Payment challenges of `WWW-Authenticate` lines (RFC 9110, section 11.6.1)."""
    found = []
    for value in values:
        at, parameters = 0, None
        while at < len(value):
            parameter = PARAMETER.match(value, at)
            if parameter and parameters is not None:
                name, token, quoted = parameter.groups()
                text = token if token is not None else re.sub(r"\\(.)", r"\1", quoted)
                if name.lower() in parameters:
                    raise PaymentError(f"{name} is there twice")
                parameters[name.lower()] = text
                at = parameter.end()
                if value[at : at + 1] == ",":
                    at += 1
                continue
            scheme = SCHEME.match(value, at)
            if not scheme:
                raise PaymentError(f"not a challenge: {value[at:]!r}")
            parameters = {}
            if scheme.group(1).lower() == "payment":
                found.append(parameters)
            at = scheme.end()
    return found


# What a credential repeats of its challenge.
BOUND = ("id", "realm", "method", "intent", "request", "expires", "digest", "opaque", "description")


class Wallet:
    """A key whose `did:key` is the payer, and what it would spend at most on a request, in minor units."""

    def __init__(self, limit=10_000):
        self.key = Ed25519PrivateKey.generate()
        self.did = "did:key:z" + base58(b"\xed\x01" + self.key.public_key().public_bytes_raw())
        self.limit = limit

    def credential(self, challenge, body):
        """The value of `Authorization` that answers a challenge, and what it pays."""
        request = json.loads(decode(challenge["request"]))
        if int(request["amount"]) > self.limit:
            raise PaymentError(f"{request['amount']} {request['currency']} is too much")
        if request.get("methodDetails", {}).get("testMode") is not True:
            raise PaymentError("this is not play money")
        expires = datetime.datetime.fromisoformat(challenge["expires"].replace("Z", "+00:00"))
        if expires <= datetime.datetime.now(datetime.timezone.utc):
            raise PaymentError("the challenge has ended")
        if "digest" in challenge:
            digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
            if challenge["digest"] not in (f"sha-256=:{digest}:", f"sha-256={digest}"):
                raise PaymentError("the challenge is for another body")
        echo = {name: challenge[name] for name in BOUND if name in challenge}
        payload = {"signature": encode(self.key.sign(challenge["id"].encode()))}
        credential = {"challenge": echo, "source": self.did, "payload": payload}
        return "Payment " + encode(json.dumps(credential).encode()), request


class PayingTransport(httpx2.BaseTransport):
    """Sends each request; pays once if it is asked to, and repeats the request byte for byte.

    What was paid and not delivered is good for the same request again: SDKs repeat requests by themselves, and that
    must not cost anything. Agents have a route of their own, with one version in its path and not two.
    """

    def __init__(self, wallet=None):
        self.wallet = wallet or Wallet()
        self.inner = httpx2.HTTPTransport()
        # Every exchange, and what was paid for.
        self.sent = []
        self.payments = []
        self.unspent = {}

    def close(self):
        self.inner.close()

    def exchange(self, request, authorization):
        headers = [(name, value) for name, value in request.headers.raw if name.decode().lower() not in API_KEYS]
        if authorization:
            headers.append((b"Authorization", authorization.encode()))
        repeated = httpx2.Request(
            request.method, request.url, headers=headers, content=request.content, extensions=request.extensions
        )
        response = self.inner.handle_request(repeated)
        self.sent.append(
            {
                "path": request.url.raw_path.decode(),
                "paid": bool(authorization),
                "body": hashlib.sha256(repeated.read()).hexdigest(),
                "length": len(repeated.content),
                "headers": sorted({name.decode().lower() for name, _ in repeated.headers.raw}),
                "status": response.status_code,
                "outcome": response.headers.get("payment-outcome"),
            }
        )
        return response

    def handle_request(self, request):
        body = request.read()
        request.url = request.url.copy_with(path=request.url.path.replace("/v1/agent/v1/", "/v1/agent/"))
        call = (request.method, str(request.url), body)
        kept = self.unspent.get(call)
        response = self.exchange(request, kept and kept["authorization"])
        if response.status_code == 402:
            self.unspent.pop(call, None)
            response.read()
            response.close()
            offers = challenges(response.headers.get_list("www-authenticate"))
            offer = next((o for o in offers if (o["method"], o["intent"]) == ("sandbox", "charge")), None)
            if offer is None:
                raise PaymentError(f"no offer can be paid: {[o['method'] for o in offers]}")
            authorization, price = self.wallet.credential(offer, body)
            kept = {"authorization": authorization, "challenge": offer["id"], "price": price}
            self.unspent[call] = kept
            response = self.exchange(request, authorization)
        if kept:
            self.settle(call, kept, response)
        return response

    def settle(self, call, kept, response):
        """Sees whether a paid request was delivered, and what the receipt says."""
        receipts = response.headers.get_list("payment-receipt")
        if response.status_code >= 300:
            if receipts:
                raise PaymentError(f"a receipt for status {response.status_code}")
            # A conflict or an overload says nothing about the payment, and the merchant keeps it.
            if response.headers.get("payment-outcome") != REDELIVERABLE and response.status_code not in (409, 503):
                self.unspent.pop(call, None)
            return
        self.unspent.pop(call, None)
        if len(receipts) != 1:
            raise PaymentError(f"{len(receipts)} receipts")
        receipt = json.loads(decode(receipts[0]))
        if (receipt["status"], receipt["method"]) != ("success", "sandbox") or not receipt["reference"]:
            raise PaymentError(f"not a receipt: {receipt}")
        if receipt["challengeId"] != kept["challenge"]:
            raise PaymentError("the receipt is for another challenge")
        self.payments.append(
            {
                "amount": kept["price"]["amount"],
                "currency": kept["price"]["currency"],
                "receipt": receipt,
                "digest": response.headers.get("payment-receipt-digest"),
                "kid": response.headers.get("payment-receipt-kid"),
                "private": "private" in response.headers.get("cache-control", ""),
                "status": response.status_code,
            }
        )


def signed_receipt(base, payment, patience=20):
    """The signed receipt of a payment from the ledger, checked. That of a stream is there a moment after its end."""
    name = payment["receipt"]["receiptUrl"].rsplit("/", 1)[1]
    deadline = time.monotonic() + patience
    with httpx2.Client(timeout=10) as client:
        keys = client.get(f"{base}/.well-known/receipt-keys.json").raise_for_status().json()["keys"]
        while True:
            answer = client.get(f"{base}/v1/receipts/{name}")
            # A provisional receipt is not for everybody.
            if answer.status_code != 404 or time.monotonic() > deadline:
                break
            time.sleep(0.05)
    receipt = json.loads(answer.raise_for_status().text, object_pairs_hook=unique)
    if not verified(receipt, keys) or answer.headers["payment-receipt-digest"] != digest_of(receipt):
        raise PaymentError(f"not what was signed: {receipt}")
    return receipt


def play(gateway, scenarios, names):
    """Each scenario with a transport of its own: what it has seen, sent and paid, and the signed receipts."""
    played = {}
    for name in names:
        transport = PayingTransport()
        seen = scenarios[name](transport)
        receipts = [signed_receipt(gateway, payment) for payment in transport.payments]
        played[name] = {"seen": seen, "sent": transport.sent, "payments": transport.payments, "receipts": receipts}
        transport.close()
    return played
