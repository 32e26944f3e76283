"use strict";
// Checks the receipt of this page in the browser: fetches it and the public keys, writes its canonical form
// (Unicode NFC, then RFC 8785), verifies the Ed25519 signature with WebCrypto, and compares what the page shows
// with what was signed. Nothing is sent anywhere. It shows members as the server does (`shown.rs`): who changes
// something here changes it there.
(() => {
  const page = document.getElementById("receipt");
  const badge = document.getElementById("badge");

  const say = (state, verdict, reason) => {
    badge.dataset.state = state;
    document.getElementById("verdict").textContent = verdict;
    document.getElementById("reason").textContent = reason;
  };

  class Failed extends Error {}
  class Unsupported extends Error {}

  // --- The canonical form ------------------------------------------------------------------------------------

  const wellFormed = (text) => !/[\uD800-\uDBFF](?![\uDC00-\uDFFF])|(?:[^\uD800-\uDBFF]|^)[\uDC00-\uDFFF]/.test(text);

  const quoted = (text) => {
    if (!wellFormed(text)) throw new Failed("It has text that is not Unicode.");
    return JSON.stringify(text.normalize("NFC"));
  };

  const canonical = (value) => {
    if (typeof value === "string") return quoted(value);
    if (typeof value === "number") {
      if (!Number.isFinite(value)) throw new Failed("It has a number that is too large.");
      return JSON.stringify(value);
    }
    if (value === null || typeof value === "boolean") return String(value);
    if (Array.isArray(value)) return "[" + value.map(canonical).join(",") + "]";
    const members = new Map();
    for (const [name, member] of Object.entries(value)) {
      const normal = name.normalize("NFC");
      if (members.has(normal)) throw new Failed("It has a member twice.");
      members.set(normal, member);
    }
    // Strings are compared by UTF-16 code units, as RFC 8785 has it.
    const names = [...members.keys()].sort();
    return "{" + names.map((name) => quoted(name) + ":" + canonical(members.get(name))).join(",") + "}";
  };

  const bytes = (base64url, length) => {
    const text = String(base64url);
    if (!/^[A-Za-z0-9_-]+$/.test(text)) return null;
    const plain = text.replaceAll("-", "+").replaceAll("_", "/");
    let decoded;
    try { decoded = atob(plain); } catch { return null; }
    // One value has one writing: no padding, and no bits left over.
    if (decoded.length !== length || btoa(decoded).replace(/=+$/, "") !== plain) return null;
    return Uint8Array.from(decoded, (character) => character.charCodeAt(0));
  };

  // --- What the page has to show -----------------------------------------------------------------------------

  const PLAIN = ["receipt_type", "status", "settlement_protocol", "agent_handle", "provider", "upstream_provider",
    "model_id", "region", "environment", "http_status", "provider_status", "error_class", "error_code", "cache_status",
    "policy_decision", "routing_decision", "tokens_source", "cost_estimate_confidence", "cost_source",
    "pricing_table_id", "pricing_version", "request_id", "client_request_id", "idempotency_key", "agent_id",
    "tenant_id", "project_id", "customer_id", "user_id", "api_key_id", "aws_account_id", "iam_principal", "receipt_id",
    "visibility", "redaction_policy", "signing_algorithm", "signing_key_id", "payload_capture",
    "client_request_hash", "provider_request_hash", "provider_response_hash", "client_response_hash",
    "parent_receipt_id"];
  const PAYMENT = ["method", "intent", "reference", "challenge_id"];
  const COUNTS = ["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens"];
  const DOLLARS = ["cost_estimated_usd", "cost_final_usd"];
  const INSTANTS = ["pricing_effective_at", "request_started_at", "request_ended_at", "created_at"];

  // Digits after the dot of the currencies of ISO 4217. The page is not believed in that.
  const DECIMALS = {};
  DECIMALS[0] = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF";
  DECIMALS[2] = "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BMD BND BOB BOV BRL BSD BTN BWP BYN BZD CAD CDF CHE CHF CHW CNY COP COU CRC CUC CUP CVE CZK DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GTQ GYD HKD HNL HRK HTG HUF IDR ILS INR IRR JMD KES KGS KHR KPW KYD KZT LAK LBP LKR LRD LSL MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MXV MYR MZN NAD NGN NIO NOK NPR NZD PAB PEN PGK PHP PKR PLN QAR RON RSD RUB SAR SBD SCR SDG SEK SGD SHP SLE SLL SOS SRD SSP STN SVC SYP SZL THB TJS TMT TOP TRY TTD TWD TZS UAH USD USN UYU UZS VED VES WST XAD XCD XCG YER ZAR ZMW ZWG ZWL";
  DECIMALS[3] = "BHD IQD JOD KWD LYD OMR TND";
  DECIMALS[4] = "CLF UYW";

  const HIDDEN = new RegExp("[\\u0000-\\u0009\\u000b-\\u001f\\u007f-\\u009f\\u00ad\\u061c\\u180e\\ufeff" +
    "\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\ufff9-\\ufffb]", "g");
  const visible = (text) => text.replace(HIDDEN, (hidden) => "\\u{" + hidden.charCodeAt(0).toString(16) + "}");
  const line = (text) => visible(text).replaceAll("\n", "\\u{a}");
  const plain = (value) => typeof value === "string" ? line(value) : visible(canonical(value));
  const grouped = (text) => /^-?[0-9]+$/.test(text) ? text.replace(/\B(?=([0-9]{3})+$)/g, ",") : visible(text);
  const count = (value) => typeof value === "string" ? line(value) : grouped(canonical(value));

  const dollars = (value) => {
    if (typeof value === "string") return line(value);
    const written = canonical(value);
    const [, sign, digits, exponent] = /^(-?)([0-9.]+)e-([0-9]+)$/.exec(written) ?? [];
    const places = Number(exponent);
    if (!(places >= 1 && places <= 40)) return visible(written) + " USD";
    return sign + "0." + "0".repeat(places - 1) + digits.replace(".", "") + " USD";
  };

  const INSTANT = /^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z$/;
  const millis = (value) => typeof value === "string" && INSTANT.test(value) ? Date.parse(value) : NaN;
  const instant = (value) => {
    if (Number.isNaN(millis(value))) return plain(value);
    return value.replace("T", " ").replace("Z", " UTC");
  };

  const paid = (receipt) => {
    if (!Object.hasOwn(receipt, "payment")) return "Payment not shown";
    const { payment } = receipt;
    if (typeof payment?.amount !== "string" || typeof payment.currency !== "string") return "No payment";
    const { amount, currency } = payment;
    const code = /^[A-Za-z]{3}$/.test(currency) ? currency.toUpperCase() : "";
    const known = Object.entries(DECIMALS).find(([, codes]) => code && codes.split(" ").includes(code));
    const minor = /^(0|[1-9][0-9]{0,38})$/.test(amount) && BigInt(amount) < 2n ** 128n;
    if (!known || !minor) return line(amount) + " minor units of " + line(currency);
    const decimals = Number(known[0]);
    const padded = amount.padStart(decimals + 1, "0");
    const dot = padded.length - decimals;
    return padded.slice(0, dot) + (decimals ? "." + padded.slice(dot) : "") + " " + code;
  };

  const expected = (receipt, digest) => {
    const texts = new Map();
    const put = (names, from, prefix, show) => names.forEach((name) => {
      if (from?.[name] !== undefined && from[name] !== null) texts.set(prefix + name, show(from[name]));
    });
    put(PLAIN, receipt, "", plain);
    put(PAYMENT, receipt.payment, "payment.", plain);
    put(COUNTS, receipt, "", count);
    put(DOLLARS, receipt, "", dollars);
    put(INSTANTS, receipt, "", instant);
    texts.set("amount", paid(receipt));
    texts.set("digest", digest);
    const took = millis(receipt.request_ended_at) - millis(receipt.request_started_at);
    if (!Number.isNaN(took)) texts.set("took", grouped(String(took)) + " ms");
    if (receipt.module_chain?.length > 0) texts.set("module_chain", receipt.module_chain.map(plain));
    const lines = Object.keys(receipt).sort().map((name) => "  " + quoted(name) + ": " + canonical(receipt[name]));
    texts.set("json", visible("{\n" + lines.join(",\n") + "\n}"));
    return texts;
  };

  // The first member that the page shows otherwise than it was signed.
  const wrong = (texts) => {
    const shown = new Set();
    for (const element of document.querySelectorAll("[data-show]")) {
      const name = element.dataset.show;
      const text = texts.get(name);
      const good = Array.isArray(text)
        ? element.children.length === text.length && text.every((item, at) => element.children[at].textContent === item)
        : element.textContent === text;
      if (!good) return name;
      shown.add(name);
    }
    return [...texts.keys()].find((name) => !shown.has(name));
  };

  // --- The check ---------------------------------------------------------------------------------------------

  const get = async (url) => {
    let response;
    try {
      response = await fetch(url, { cache: "no-store", redirect: "error", signal: AbortSignal.timeout(15000) });
    } catch {
      throw new Unsupported("It could not be fetched. Try again later.");
    }
    if (!response.ok) throw new Unsupported("The server did not give it out to this browser (" + response.status + ").");
    return response.text();
  };

  const parse = (text, what) => {
    try {
      const value = JSON.parse(text);
      if (value !== null && typeof value === "object" && !Array.isArray(value)) return value;
    } catch { /* said below */ }
    throw new Failed(what + " is not a JSON object.");
  };

  const importKey = async (key) => {
    const point = key.kty === "OKP" && key.crv === "Ed25519" ? bytes(key.x, 32) : null;
    if (point === null) throw new Failed("The key " + visible(String(key.kid)) + " cannot be used.");
    if (!globalThis.crypto?.subtle) throw new Unsupported("Browsers check signatures on https pages only.");
    try {
      return await crypto.subtle.importKey("raw", point, { name: "Ed25519" }, false, ["verify"]);
    } catch {
      throw new Unsupported("This browser does not know Ed25519.");
    }
  };

  const verify = (key, signature, message) => crypto.subtle.verify({ name: "Ed25519" }, key, signature, message);

  const check = async () => {
    const text = await get(page.dataset.api);
    const receipt = parse(text, "The receipt");
    // JSON.parse keeps the last of two members with one name and says nothing. The ledger gives out the canonical
    // form, in which no name is twice: a text that is another one has something in it that we would not see.
    if (canonical(receipt) !== text) throw new Failed("The receipt is not in its canonical form.");
    if (receipt.receipt_id !== page.dataset.id || !location.pathname.endsWith("/" + receipt.receipt_id)) {
      throw new Failed("It is the receipt of another call.");
    }
    const { signature, ...body } = receipt;
    if (receipt.signing_algorithm !== "ed25519") {
      throw new Unsupported(receipt.signing_algorithm === "hmac_sha256"
        ? "It is signed with a secret: only who has it can check it."
        : "It is signed in a way that this page does not know.");
    }
    const signed = bytes(signature, 64);
    if (signed === null) throw new Failed("Its signature cannot be read.");
    const { keys } = parse(await get(page.dataset.keys), "The set of keys");
    const fitting = Array.isArray(keys) ? keys.filter((key) => key?.kid === receipt.signing_key_id) : [];
    if (fitting.length === 0) {
      throw new Unsupported("The key " + visible(String(receipt.signing_key_id)) + " is not listed by this ledger.");
    }
    if (fitting.length > 1) throw new Failed("Two keys have the same name.");
    const [key] = fitting;
    const made = millis(receipt.created_at) / 1000;
    if ((key.nbf !== undefined && !(made >= key.nbf)) || (key.exp !== undefined && !(made < key.exp))) {
      throw new Failed("It was made outside of the time in which its key is valid.");
    }
    const message = new TextEncoder().encode(canonical(body));
    if (!await verify(await importKey(key), signed, message)) {
      throw new Failed("The signature does not fit: this is not what was signed.");
    }
    const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", message));
    const other = wrong(expected(receipt, "sha-256=:" + btoa(String.fromCharCode(...hash)) + ":"));
    if (other !== undefined) throw new Failed("The page does not show what was signed: see " + other + ".");
    return receipt.signing_key_id;
  };

  say("checking", "Checking the signature", "In your browser, with the public keys of this ledger.");
  check().then(
    (key) => say("verified", "Verified in your browser",
      "The signature by the key " + visible(key) + " is good, and this page shows what was signed."),
    (error) => error instanceof Unsupported
      ? say("unsupported", "Cannot be checked here", error.message)
      : say("failed", "Verification failed",
        "Do not rely on this page. " + (error instanceof Failed ? error.message : "The receipt cannot be read.")),
  );

  for (const button of document.querySelectorAll("[data-copy]")) {
    if (!navigator.clipboard) break;
    button.hidden = false;
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(document.getElementById(button.dataset.copy).textContent);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Not copied";
      }
      setTimeout(() => { button.textContent = "Copy"; }, 2000);
    });
  }
})();
