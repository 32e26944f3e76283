"""Validates the OpenAPI document of a running gateway with `openapi-spec-validator`: `openapi.py URL`."""

import json
import sys
import urllib.request

from openapi_spec_validator import OpenAPIV31SpecValidator

with urllib.request.urlopen(sys.argv[1], timeout=20) as answer:
    document, kind = json.load(answer), answer.headers["Content-Type"]

METHODS = {"get", "put", "post", "delete", "options", "head", "patch", "trace"}
operations = [
    (path, method, operation)
    for path, item in document["paths"].items()
    for method, operation in item.items()
    if method in METHODS
]
errors = [
    f"{'/'.join(map(str, error.absolute_path))}: {error.message}"
    for error in OpenAPIV31SpecValidator(document).iter_errors()
]
json.dump(
    {
        "type": kind,
        "version": document["openapi"],
        "errors": errors,
        "operations": [f"{method.upper()} {path}" for path, method, _ in operations],
        # What an agent is told that it has to pay, and that it has to.
        "paid": [f"{method.upper()} {path}" for path, method, operation in operations if "x-payment-info" in operation],
        "billed": [f"{method.upper()} {path}" for path, method, operation in operations if "402" in operation["responses"]],
    },
    sys.stdout,
)
