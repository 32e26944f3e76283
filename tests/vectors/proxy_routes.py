"""Which route of a paid proxy a request is for: patterns as regular expressions, and the paths that have one reading."""

import random
import re
import urllib.parse


def is_plain_path(path):
    """One reading only: no dot segments, backslashes or controls, decoded up to three times; whole escapes."""
    text = path.encode()
    if re.search(rb"%(?![0-9A-Fa-f]{2})", text):
        return False
    for _ in range(3):
        text = urllib.parse.unquote_to_bytes(text)
        if re.search(rb"[\x00-\x1f\x7f\\\\]", text) or re.search(rb"(^|/)\.\.?(;[^/]*)?(/|$)", text):
            return False
        if re.search(rb"%(?![0-9A-Fa-f]{2})", text):
            break
    return True


def route_of(keys, method, path):
    for key in keys:
        own, pattern = key.split(" ") if " " in key else (None, key)
        if own not in (None, method) or (own is None and method in ("TRACE", "CONNECT")):
            continue
        regex = "/".join(
            ".*" if part == "*" else f"(?P<{part[1:]}>(?:(?!%2[fF])[^/])+)" if part.startswith(":") else re.escape(part)
            for part in pattern.split("/")
        )
        found = re.fullmatch(regex, path)
        if found:
            return pattern, list(found.groupdict().items())
    return None


def proxy_routes():
    chance = random.Random("proxy_routes")
    tables = [
        ["GET /v1/:a", "POST /v1/:a", "GET /v1/:a/x/:b"],
        ["GET /v1/x", "GET /v1/:a", "GET /v1/*", "DELETE /v1/x"],
        ["/any", "/any/:a", "GET /", "POST /*"],
        ["GET /a.b/:a", "GET /a%20b", "GET /a;v=1/:b/", "/*"],
    ]
    segments = ["v1", "x", "any", "a.b", "a%20b", "a;v=1", "", "1", "a%2Fb", "%2fx", "V1", "%76%31", "%E2%82%AC",
                ".", "..", "%2e", ".%2E", "..;p", "...", "a\\b", "%5C", "%00", "%7f", "%zz", "%2", "%", "%252e%252e", "%25"]
    out = []
    for keys in tables:
        requests = []
        for _ in range(60):
            path = "/" + "/".join(chance.choice(segments[: chance.choice([3, 8, len(segments)])]) for _ in range(chance.randint(1, 4)))
            method = chance.choice(["GET", "GET", "POST", "DELETE", "TRACE"])
            found = route_of(keys, method, path) if is_plain_path(path) else None
            status = 400 if not is_plain_path(path) else 200 if found else 404
            pattern, params = found or (None, [])
            requests.append({"method": method, "path": path, "status": status, "pattern": pattern, "params": params})
        out.append({"keys": keys, "requests": requests})
    return {"routes": out}
