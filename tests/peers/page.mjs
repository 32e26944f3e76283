// Opens pages in Chromium and tells, as JSON, what became of them.
import { mkdirSync } from "node:fs";
import axe from "axe-core";
import { chromium } from "playwright-core";

const visits = JSON.parse(process.argv[2]);
const pictures = new URL("pictures/", import.meta.url).pathname;
mkdirSync(pictures, { recursive: true });

const browser = await chromium.launch({
  executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
});

const looks = [["light", "phone", 360], ["dark", "phone", 360], ["light", "desktop", 1100], ["dark", "desktop", 1100]];

const without = {
  ed25519: () => {
    crypto.subtle.importKey = async () => { throw new DOMException("no", "NotSupportedError"); };
  },
  crypto: () => Object.defineProperty(globalThis, "crypto", { value: {} }),
};

async function open(visit) {
  const context = await browser.newContext({ javaScriptEnabled: visit.without !== "script" });
  if (visit.cookie) {
    const [name, value] = visit.cookie.split("=");
    await context.addCookies([{ name, value, url: new URL("/", visit.url).href }]);
  }
  if (without[visit.without]) await context.addInitScript(without[visit.without]);
  await context.addInitScript(() => {
    globalThis.violations = [];
    document.addEventListener("securitypolicyviolation", (event) => {
      globalThis.violations.push(event.violatedDirective + " " + event.blockedURI);
    });
  });
  const page = await context.newPage();
  const errors = [];
  const left = [];
  const own = new URL(visit.url).origin;
  page.on("console", (message) => { if (message.type() !== "log") errors.push(message.text()); });
  page.on("pageerror", (error) => errors.push(String(error)));
  page.on("request", (request) => {
    const url = request.url();
    if (!url.startsWith(own + "/") && !url.startsWith("data:")) left.push(url);
  });
  const response = await page.goto(visit.url, { waitUntil: "load" });
  const badge = page.locator("#badge");
  const checked = await badge.count() > 0;
  if (checked && visit.without !== "script") {
    await page.locator('#badge:not([data-state="checking"]):not([data-state="unchecked"])').waitFor({ timeout: 20000 });
  }
  return { context, page, response, badge, checked, errors, left };
}

async function look(visit) {
  const { context, page, response, badge, checked, errors, left } = await open(visit);
  const seen = {
    status: response.status(),
    state: checked ? await badge.getAttribute("data-state") : "",
    reason: checked ? await badge.textContent() : "",
    broken: visit.without === "script" ? false : await page.evaluate(() => globalThis.broken !== undefined),
    violations: visit.without === "script" ? [] : await page.evaluate(() => globalThis.violations),
    errors: [...errors],
    left,
    unreadable: [],
    overflows: false,
  };
  for (const [colorScheme, name, width] of visit.picture ? looks : []) {
    await page.emulateMedia({ colorScheme });
    await page.setViewportSize({ width, height: 800 });
    await page.screenshot({ path: `${pictures}${visit.picture}-${colorScheme}-${name}.png`, fullPage: true });
    if (visit.without === "script") continue;
    // Nothing is wider than the screen.
    seen.overflows ||= await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
    if (!visit.accessible || (colorScheme === "light") !== (name === "phone")) continue;
    await page.evaluate(axe.source);
    const found = await page.evaluate(async () => (await globalThis.axe.run()).violations);
    seen.unreadable.push(...found.map(({ id, nodes }) => `${colorScheme} ${name} ${id} ${nodes[0].html}`));
  }
  await context.close();
  return seen;
}

try {
  // Two at a time.
  const all = new Array(visits.length);
  const rest = visits.entries();
  const work = async () => { for (const [at, visit] of rest) all[at] = await look(visit); };
  await Promise.all([work(), work()]);
  console.log(JSON.stringify(all));
} finally {
  await browser.close();
}
