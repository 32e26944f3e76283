"""Documents of discovery, computed a second time: the services as JSON, markdown and OpenAPI, and /.well-known/mpp.

Used by generate.py. Only the standard library, and no code in common with the crate.
"""

import json
import pathlib
import re
import tomllib
from decimal import Decimal, localcontext


def compact(value):
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def without_none(pairs):
    return {name: value for name, value in pairs if value is not None}


# --- Catalogs -------------------------------------------------------------------------------------


def service_json(service):
    def route(route):
        offers = route.get("offers")
        bought = offers and dict(offers[0]).get("description")
        item = without_none(
            [
                ("description", None if bought is not None else route.get("description")),
                ("docsLlmsUrl", route.get("docs")),
                ("method", route.get("method")),
                ("path", route["path"]),
                ("pattern", " ".join(filter(None, [route.get("method"), route["path"]]))),
            ]
        )
        item["payment"] = None if offers is None else dict(offers[0]) if offers else {}
        if offers and len(offers) > 1:
            item["offers"] = [dict(offer) for offer in offers]
        return item

    return without_none(
        [
            ("description", service.get("description")),
            ("id", service["id"]),
            ("docsLlmsUrl", service.get("docs")),
            ("routes", [route(each) for each in service["routes"]]),
            ("title", service.get("title")),
        ]
    )


def text(words):
    """Within a line: nothing ends it, and nothing is markup."""
    flat = re.sub("[\x00-\x1f\x7f-\x9f\u2028\u2029\u200e\u200f\u202a-\u202e\u2066-\u2069]", " ", words)
    return re.sub(r"([\\`\[\]<])", r"\\\1", flat).strip()


def line(words):
    words = text(words)
    words = re.sub(r"^(\d+)([.)])(?= |$)", r"\1\\\2", words)
    return re.sub(r"^([#\-+*_>=~|:])", r"\\\1", words)


def exact(amount, decimals):
    with localcontext() as context:
        context.prec = 100
        price = format(Decimal(amount).scaleb(-decimals), "f")
    return price.rstrip("0").rstrip(".") if "." in price else price


def price(offer):
    if "amount" not in offer:
        return None
    if offer["amount"] is None:
        return "Price", "depends on the request"
    if "decimals" not in offer:
        return "Units", offer["amount"]
    unit = "/" + offer["unitType"] if "unitType" in offer else ""
    number = exact(offer["amount"], offer["decimals"])
    return "Price", f"{number}{unit} ({offer['amount']} units, {offer['decimals']} decimals)"


def route_markdown(route, base):
    offers = route.get("offers")
    first = dict(offers[0]) if offers else {}
    words = first.get("description") or route.get("description")
    pattern = " ".join(filter(None, [route.get("method"), base + route["path"]]))
    out = f"- `{pattern}`" + (f": {text(words)}" if words else "")
    out += "\n  - Type: " + ("free" if offers is None else first.get("intent", "undefined"))
    for offer in map(dict, offers or []):
        told, currency = price(offer), offer.get("currency")
        if offer == first:
            out += f"\n  - {told[0]}: {told[1]}" if told else ""
            out += f"\n  - Currency: {currency}" if currency else ""
        else:
            parts = [f"{offer['intent']} by {offer['method']}"]
            parts += [told[1] + (" units" if told[0] == "Units" else "")] if told else []
            out += "\n  - Or: " + ", ".join(parts + ([currency] if currency else []))
    return out + (f"\n  - Docs: {route['docs']}" if "docs" in route else "")


def service_markdown(service, base, level, title):
    blocks = [f"{level} {title}"]
    if level == "#" and "docs" in service:
        blocks.append("> Documentation: " + service["docs"])
    if service.get("description"):
        blocks.append(line(service["description"]))
    if service["routes"]:
        blocks.append(level + "# Routes")
    return blocks + [route_markdown(route, base) for route in service["routes"]]


def title_of(service):
    return text(service.get("title") or service["id"])


def all_markdown(catalog):
    blocks, base = ["# Services"], catalog.get("base_path", "")
    for service in catalog["services"]:
        link = f"[{title_of(service)}]({base}/discover/{service['id']}.md)"
        blocks += service_markdown(service, base, "##", link)
    return "\n\n".join(blocks) + "\n"


def llms(catalog):
    base = catalog.get("base_path", "")
    words = catalog.get("description")
    words = line(words) if words else "Paid API proxy powered by [Machine Payments Protocol](https://mpp.tempo.xyz)."
    blocks = ["# " + text(catalog.get("title") or "API Proxy"), "> " + words]
    if not catalog["services"]:
        return "\n\n".join(blocks) + "\n"
    items = []
    for service in catalog["services"]:
        words = service.get("description")
        item = f"- [{title_of(service)}]({base}/discover/{service['id']}.md)"
        items.append(item + (": " + text(words) if words else ""))
    blocks += ["## Services", "\n".join(items), f"[See all service definitions]({base}/discover/all.md)"]
    return "\n\n".join(blocks)


def template(path):
    parameters = []

    def segment(part):
        found = re.fullmatch(r":([\w-]+)|\{([\w-]+)\}|\*([\w-]*)|\{\*([\w-]*)\}", part, re.ASCII)
        if not found:
            return part.replace("{", "%7B").replace("}", "%7D")
        name = next((group for group in found.groups() if group), "rest")
        taken = [parameter["name"] for parameter in parameters]
        if name in taken:
            name = next(f"{name}{number}" for number in range(2, 99) if f"{name}{number}" not in taken)
        rest = "*" in part
        parameter = {"name": name, "in": "path", "required": True}
        if rest:
            parameter["description"] = "All that is left of the path, slashes included."
        parameters.append({**parameter, "schema": {"type": "string"}})
        return "{" + name + "}"

    return "/".join(map(segment, path.split("/"))), parameters


def operation(service, route, method, name):
    offers = route.get("offers")
    words = offers and dict(offers[0]).get("description") or route.get("description")
    ok = {"description": "Successful response"}
    if offers is not None:
        ok["headers"] = {"Payment-Receipt": {"$ref": "#/components/headers/PaymentReceipt"}}
    responses = {"200": ok}
    if "request_schema" in route or method in ("post", "put", "patch"):
        responses["400"] = {"description": "The body cannot be read, or asks for what is not sold here"}
    if offers is not None:
        responses["402"] = {
            "description": "Payment Required",
            "headers": {"WWW-Authenticate": {"$ref": "#/components/headers/PaymentChallenge"}},
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}},
                "text/html": {"schema": {"type": "string"}},
            },
        }
    responses["default"] = {"description": "Any other answer"}
    info = []
    for offer in map(dict, offers or []):
        told = {"intent": offer["intent"], "method": offer["method"], "amount": offer.get("amount")} if "intent" in offer else None
        if told:
            told.update((key, offer[key]) for key in ("currency", "description") if key in offer)
            info.append(told)
    schema = route.get("request_schema")
    return without_none(
        [
            ("operationId", name),
            ("summary", words or None),
            ("description", route.get("description") if words != route.get("description") else None),
            ("tags", [service["id"]]),
            ("externalDocs", {"url": route["docs"]} if "docs" in route else None),
            ("x-payment-info", {"offers": info} if info else None),
            ("requestBody", schema and {"required": True, "content": {"application/json": {"schema": schema}}}),
            ("responses", responses),
        ]
    )


def openapi(catalog):
    base = catalog.get("origin", "") + catalog.get("base_path", "")
    info = [("title", catalog.get("title") or "API Proxy"), ("version", catalog.get("version", "1.0.0"))]
    docs = [("homepage", catalog.get("homepage")), ("llms", base + "/llms.txt")]
    paths, shapes, names = {}, {}, []
    for service in catalog["services"]:
        for route in service["routes"]:
            path, parameters = template(route["path"])
            path = shapes.setdefault(re.sub(r"\{[^}]*\}", "{}", path), path)
            item = paths.setdefault(path, {"parameters": parameters} if parameters else {})
            for method in [route["method"]] if "method" in route else ["GET", "POST", "PUT", "PATCH", "DELETE"]:
                method = method.lower()
                if method in item:
                    continue
                stem = "_".join([method] + re.findall("[A-Za-z0-9]+", path))
                free = [stem] + [f"{stem}_{number}" for number in range(2, 99)]
                names.append(next(name for name in free if name not in names))
                item[method] = operation(service, route, method, names[-1])
    header = {"PaymentChallenge": "One challenge of the Payment scheme for each way to pay", "PaymentReceipt": "The receipt of what was paid"}
    kinds = {"type": "string", "title": "string", "status": "integer", "detail": "string", "challengeId": "string"}
    document = [
        ("openapi", "3.1.0"),
        ("info", without_none(info + [("description", catalog.get("description"))])),
        ("servers", [{"url": base}] if base else None),
        ("x-service-info", without_none([("categories", catalog.get("categories")), ("docs", without_none(docs))])),
        (
            "tags",
            [
                without_none(
                    [
                        ("name", service["id"]),
                        ("description", service.get("description")),
                        ("externalDocs", {"url": service["docs"]} if "docs" in service else None),
                    ]
                )
                for service in catalog["services"]
            ],
        ),
        ("paths", paths),
        (
            "components",
            {
                "headers": {name: {"description": words, "schema": {"type": "string"}} for name, words in header.items()},
                "schemas": {
                    "Problem": {
                        "type": "object",
                        "description": "Problem details (RFC 9457)",
                        "properties": {name: {"type": kind} for name, kind in kinds.items()},
                    }
                },
            },
        ),
    ]
    return without_none(document)


def offer(intent, method, amount, **more):
    return [["intent", intent], ["method", method], ["amount", amount]] + [[name, value] for name, value in more.items()]


CATALOGS = [
    {"services": []},
    {
        "title": "Two rails",
        "description": "Everything in several ways.",
        "origin": "https://api.example.com",
        "base_path": "/api/v1",
        "version": "3.1",
        "categories": ["compute", "data"],
        "homepage": "https://example.com",
        "services": [
            {
                "id": "llm",
                "title": "LLM",
                "description": "Models.",
                "docs": "https://example.com/llms.txt",
                "routes": [
                    {
                        "method": "POST",
                        "path": "/llm/chat",
                        "offers": [
                            offer("charge", "stripe", "50", currency="usd", decimals=2, description="One call"),
                            offer("session", "tempo", "1", currency="0x20c0", decimals=18, unitType="token"),
                            offer("charge", "other", "7", currency="points"),
                        ],
                        "description": "Asks a model.",
                        "request_schema": {"type": "object"},
                    },
                    {"path": "/llm/any/:id/:id", "offers": [offer("charge", "stripe", None, currency="usd")], "docs": "https://example.com/any"},
                    {"method": "GET", "path": "/llm/any/{x}/{y}", "description": "Taken already."},
                    {"method": "GET", "path": "/llm/files/{*path}", "description": "Free files"},
                    {"method": "HEAD", "path": "/llm/{", "offers": []},
                ],
            },
            {"id": "empty", "routes": []},
        ],
    },
    {
        "title": "Not `code`\n# Forged",
        "description": "- `GET /free`\n  - Type: free",
        "services": [
            {
                "id": "x-1",
                "title": "[a](b) <script>\u2028## c",
                "description": "1. one\\\r\n2. two",
                "routes": [
                    {
                        "method": "GET",
                        "path": "/x-1/a",
                        "description": "`\n\n- `POST /free`: \u202egratis",
                        "offers": [offer("charge", "acme", "123456789012345678901234567890", currency="usd", decimals=2)],
                    },
                    {"method": "GET", "path": "/x-1/b", "description": "\"quoted\" é \U0001f600 </script>"},
                ],
            }
        ],
    },
]


# --- /.well-known/mpp -----------------------------------------------------------------------------

RULES = [
    "refund_if_payment_succeeds_but_no_provider_call_starts",
    "refund_if_provider_timeout_before_first_token",
    "no_refund_after_successful_stream_start",
    "no_refund_after_side_effecting_tool_success",
]


EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "gateway" / "prxy.toml"
MERCHANT = ["name", "homepage", "logo", "logo_url", "favicon", "contact", "tos", "privacy"]
MCP = """status server_url endpoint protocol payment currency connection_configured oauth_connection_configured
    payment_authorization_blocker production_live paid_smoke_price_usd bedrock_tool_live bedrock_tool_price_usd
    provider_cost_included provider_key_required_from_agent blockers""".split()
TOOL = """name status description price_usd currency provider_call_started provider_inference_included
    provider_key_required_from_agent""".split()


def picked(table, names):
    return {name: table[name] for name in names if name in table}


def well_known(stage="live", built=True):
    """What the example configuration says in a state of the merchant behind it."""
    texts = tomllib.loads(EXAMPLE.read_text(encoding="utf-8"))
    models, texts = texts["models"], texts["well_known"]
    live = stage == "live"
    sessions, mcp = texts["sessions"], picked(texts["atxp_mcp"], MCP)
    default = next(model for model in models if model.get("default"))
    for route in texts["routes"]:
        route.setdefault("kind", "call")

    def cents(decimal):
        return str(int(Decimal(decimal) * 100))

    policy = {
        "provider": "bedrock",
        "arbitrary_models_allowed": False,
        "default_option_id": default["id"],
        "default_model": default["model"],
        "requested_model_must_match_live_option": True,
    }
    options = [
        without_none(
            [
                ("id", model["id"]),
                ("label", model["label"]),
                ("model", model["model"]),
                ("provider", model["provider"]),
                ("price_usd", model["price"]),
                ("session_price_usd_per_call", model["session_price"] if built else False),
                ("status", stage),
                ("default", model.get("default")),
                ("description", model["description"]),
            ]
        )
        for model in models
    ]
    billing = {
        "mode": texts["provider_billing"]["mode"],
        "provider_key_required_from_agent": False,
        "provider_cost_paid_by": texts["provider_billing"]["provider_cost_paid_by"],
        "price_usd_per_call": default["price"],
        "effective_session_price_usd_per_call": default["session_price"] if built else None,
        "direct_call_minimum_charge_usd": min((model["price"] for model in models), key=Decimal),
        "stripe_minimum_charge_usd": "0.50",
    }
    for option in options:
        if option["session_price_usd_per_call"] is False:
            option["session_price_usd_per_call"] = None
    refunds = {"supported": False, "policy": "not_supported", "rules": [], "planned_rules": RULES}
    selling = {"mpp_model_policy": policy, "mpp_model_options": options, "mpp_provider_billing": billing}
    ledger = "https://receipts.prxy.monster"
    rail = texts["payment_methods"][0]

    def offered(route, intent, price, more):
        return {
            "method": rail["method"],
            "intent": intent,
            "route": route["path"],
            "amount": cents(price),
            "currency": "usd",
            "decimals": 2,
            "display_price_usd": price,
            "recipient": rail["recipient"],
            "status": stage,
            "description": route["offer"],
            **more,
            "model_option_id": default["id"],
            "provider_cost_included": True,
            "provider_key_required_from_agent": False,
        }

    def request(price):
        return {"amount": cents(price), "currency": "usd", "decimals": 2}

    number = {name: float(default[name]) for name in ("price", "session_price")}
    first = {
        "call": {"price_usd_per_call": number["price"], "payment_request": request(default["price"])},
        "session": {},
        "session_call": {},
    }
    then = {
        "call": {},
        "session": {
            "default_budget_usd": sessions["default_budget"],
            "max_budget_usd": sessions["max_budget"],
            "effective_price_usd_per_call": default["session_price"],
            "payment_request": request(sessions["default_budget"]),
        },
        "session_call": {"price_usd_per_call": number["session_price"]},
    }
    served = [route for route in texts["routes"] if built or route["kind"] == "call"]
    routes = [
        {
            "path": route["path"],
            "method": "POST",
            **first[route["kind"]],
            "status": stage,
            "category": route["category"],
            "description": route["description"],
            **then[route["kind"]],
            "auth": {
                "required": True,
                "scheme": "funded MPP session" if route["kind"] == "session_call" else "Authorization: Payment",
                "prxy_api_key_required": False,
            },
            "mpp_provider_billing": billing,
            "refunds": refunds,
            "model_policy": policy,
            "model_options": options,
            "payment_protocols": texts["payment_protocols"],
            "receipt": {"header": "Payment-Receipt", "ledger_url": ledger, "status": stage},
        }
        for route in served
    ]
    offers = [offered(texts["routes"][0], "charge", default["price"], {})]
    if built:
        calls = int(Decimal(sessions["default_budget"]) / Decimal(default["session_price"]))
        more = {"price_usd_per_call": default["session_price"], "max_calls": calls, "max_budget_usd": sessions["max_budget"]}
        offers.append(offered(texts["routes"][1], "session", sessions["default_budget"], more))
    tools = [picked(tool, TOOL) for tool in texts["atxp_mcp"]["tools"]]
    if not built:
        for member, value in mcp.items():
            mcp[member] = False if isinstance(value, bool) else value
        for member in ("server_url", "endpoint", "payment_authorization_blocker", "paid_smoke_price_usd", "bedrock_tool_price_usd"):
            mcp[member] = None
        mcp.update(status="not_live", blockers=["This deployment does not serve MCP yet."])
        for tool in tools:
            tool["status"] = "not_live"
            for member in ("provider_call_started", "provider_inference_included"):
                if member in tool:
                    tool[member] = False
    preview = "Private preview: discovery and challenges are enabled, and no payment is taken yet."
    return {
        "spec_version": "0.1",
        "realm": "api.prxy.monster",
        "mpp": {
            "status": stage,
            "discovery": True,
            "challenge": True,
            "charging": live,
            "settlement": live,
            "receipts": live,
            "test_mode": False,
            "quote": True,
            "production_payments": live,
            "reason": texts["reason"]["live"] if live else preview,
        },
        "merchant": picked(texts["merchant"], MERCHANT),
        "logo": picked(texts["logo"], ["url", "alt", "type", "width", "height"]),
        "icons": [picked(icon, ["url", "sizes", "type"]) for icon in texts["icons"]],
        **selling,
        "refunds": refunds,
        "offers": offers,
        "payment_methods": [
            {
                "method": rail["method"],
                "wallet_provider": rail["wallet_provider"],
                "regions": rail["regions"],
                "recipient": rail["recipient"],
                "currency": "usd",
                "status": stage,
            }
        ],
        "routes": routes,
        "capabilities": {
            "multi_offer_discovery": True,
            "idempotency": True,
            "refunds": False,
            "receipts": "header" if live else "not_live",
            "receipts_format": texts["receipts_format"],
            "content_digest": "rfc-9530 sha-256",
            "replay_protection": texts["replay_protection"],
            "test_mode": False,
            "ledger_public": True,
            "ledger_url": ledger,
            **selling,
            "mpp_route": texts["routes"][0]["path"],
            "quote_endpoint": "/v1/agent/quote",
            "authorization_scheme": "Authorization: Payment",
            "prxy_api_key_required": False,
            "sessions": {
                "status": "live_when_production_payments_enabled" if built else "not_live",
                "endpoints": ["POST " + route["path"] for route in served if route["kind"] != "call"],
                "purpose": sessions["purpose"],
                "production_requirement": sessions["production_requirement"] if built else "This deployment does not serve funded sessions yet.",
            },
            "atxp_mcp": mcp,
            "atxp_mcp_tools": tools,
        },
        "generated_at": "2026-06-05T21:10:50.167Z",
    }


def minimal():
    whole = well_known()
    routes = [
        picked(route, ["path", "method", "price_usd_per_call", "category"])
        for route in whole["routes"]
        if "price_usd_per_call" in route
    ]
    return {"spec_version": whole["spec_version"], "realm": whole["realm"], "routes": routes}


def discovery():
    catalogs = [
        {
            "catalog": catalog,
            "discover": compact([service_json(service) for service in catalog["services"]]),
            "all_md": all_markdown(catalog),
            "llms": llms(catalog),
            "openapi": compact(openapi(catalog)),
            "services": {
                service["id"]: {
                    "json": compact(service_json(service)),
                    "md": "\n\n".join(service_markdown(service, catalog.get("base_path", ""), "#", title_of(service))) + "\n",
                }
                for service in catalog["services"]
            },
        }
        for catalog in CATALOGS
    ]
    states = {"live": ("live", True), "without_sessions_and_mcp": ("live", False), "private_preview": ("private_preview", True)}
    documents = {name: compact(well_known(*state)) for name, state in states.items()}
    return {"catalogs": catalogs, "well_known": {**documents, "minimal": compact(minimal())}}
