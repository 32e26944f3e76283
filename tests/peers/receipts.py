"""Checks signed receipts with `cryptography` and `rfc8785`, as a third party would."""

import base64
import hashlib
import unicodedata

import rfc8785
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey


def normal(value):
    """NFC on names and values, before anything is sorted."""
    if isinstance(value, str):
        return unicodedata.normalize("NFC", value)
    if isinstance(value, list):
        return [normal(item) for item in value]
    if isinstance(value, dict):
        result = {normal(name): normal(member) for name, member in value.items()}
        assert len(result) == len(value), "two members have the same name"
        return result
    # To this library whole numbers are exact up to 2**53, and to RFC 8785 they are doubles.
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**53:
        return float(value)
    return value


def unique(pairs):
    members = dict(pairs)
    assert len(members) == len(pairs), "a member is there twice"
    return members


def decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def message(receipt):
    return rfc8785.dumps(normal({name: value for name, value in receipt.items() if name != "signature"}))


def verified(receipt, keys):
    [key] = [key for key in keys if key["kid"] == receipt["signing_key_id"]]
    assert receipt["signing_algorithm"] == "ed25519" and (key["kty"], key["crv"]) == ("OKP", "Ed25519")
    try:
        Ed25519PublicKey.from_public_bytes(decode(key["x"])).verify(decode(receipt["signature"]), message(receipt))
        return True
    except InvalidSignature:
        return False


def digest_of(receipt):
    return "sha-256=:" + base64.b64encode(hashlib.sha256(message(receipt)).digest()).decode() + ":"
