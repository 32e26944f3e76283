// Checks receipts of a running ledger with WebCrypto and the `canonicalize` package, as a third party would.
import canonicalize from "canonicalize";

const { subtle } = globalThis.crypto;

// NFC on names and values, before anything is sorted.
function normal(value) {
  if (typeof value === "string") return value.normalize("NFC");
  if (Array.isArray(value)) return value.map(normal);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([name, member]) => [name.normalize("NFC"), normal(member)]));
}

const message = ({ signature, ...receipt }) => new TextEncoder().encode(canonicalize(normal(receipt)));

async function verified(receipt, keys) {
  const [key] = keys.filter(({ kid }) => kid === receipt.signing_key_id);
  if (receipt.signing_algorithm !== "ed25519" || key.crv !== "Ed25519") return false;
  const imported = await subtle.importKey("jwk", key, { name: "Ed25519" }, false, ["verify"]);
  return subtle.verify({ name: "Ed25519" }, imported, Buffer.from(receipt.signature, "base64url"), message(receipt));
}

function* tampered(receipt) {
  for (const name of Object.keys(receipt)) {
    if (["signature", "signing_key_id", "signing_algorithm"].includes(name)) continue;
    for (const change of ["other", null, 7]) {
      if (receipt[name] !== change) yield [name, { ...receipt, [name]: change }];
    }
    const { [name]: removed, ...rest } = receipt;
    yield [name, rest];
  }
  yield ["one more", { ...receipt, "one more": null }];
}

const [base, hmac, ...ids] = process.argv.slice(2);

async function get(path) {
  const response = await fetch(base + path);
  if (!response.ok) throw new Error(path + " " + response.status);
  return [await response.json(), response.headers];
}

const [{ keys }] = await get("/.well-known/receipt-keys.json");
const seen = {};
for (const id of ids) {
  const [receipt, headers] = await get("/v1/receipts/" + id);
  const hash = Buffer.from(await subtle.digest("SHA-256", message(receipt))).toString("base64");
  const believed = [];
  let count = 0;
  for (const [name, change] of tampered(receipt)) {
    count += 1;
    if (await verified(change, keys)) believed.push(name);
  }
  seen[id] = {
    verified: await verified(receipt, keys),
    digest: headers.get("payment-receipt-digest") === `sha-256=:${hash}:`
      && headers.get("payment-receipt-kid") === keys[0].kid,
    tampered: count,
    believed,
  };
}
const [receipt] = await get("/v1/receipts/" + ids[0]);
seen["other key"] = await verified(receipt, [{ ...keys[0], x: "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }]);
seen.hmac = (await get("/v1/receipts/" + hmac))[0].signing_algorithm;
console.log(JSON.stringify(seen));
