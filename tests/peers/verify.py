"""Checks receipts of a running ledger, as a third party would."""

import copy
import json
import sys
import urllib.request

from receipts import digest_of, unique, verified


def tampered(receipt):
    for name in receipt:
        if name in ("signature", "signing_key_id", "signing_algorithm"):
            continue
        for change in ("other", None, 7):
            if receipt[name] != change:
                yield name, {**receipt, name: change}
        removed = copy.copy(receipt)
        del removed[name]
        yield name, removed
    yield "one more", {**receipt, "one more": None}


base, hmac, *ids = sys.argv[1:]


def get(path):
    with urllib.request.urlopen(base + path, timeout=20) as answer:
        return json.loads(answer.read(), object_pairs_hook=unique), answer.headers


keys = get("/.well-known/receipt-keys.json")[0]["keys"]
seen = {}
for id in ids:
    receipt, headers = get(f"/v1/receipts/{id}")
    changes = list(tampered(receipt))
    seen[id] = {
        "verified": verified(receipt, keys),
        "digest": headers["Payment-Receipt-Digest"] == digest_of(receipt) and headers["Payment-Receipt-Kid"] == keys[0]["kid"],
        "tampered": len(changes),
        "believed": [name for name, change in changes if verified(change, keys)],
    }
receipt = get(f"/v1/receipts/{ids[0]}")[0]
other = {**keys[0], "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}
seen["other key"] = verified(receipt, [other])
seen["hmac"] = get(f"/v1/receipts/{hmac}")[0]["signing_algorithm"]
json.dump(seen, sys.stdout)
