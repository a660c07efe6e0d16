import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, get, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { policyOf, serveDashboard } from "./dashboardRoute.ts";

const PAGE = Buffer.from(
  `<!doctype html><meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'sha256-x='">ü`,
);

async function answerFor(page: Buffer | undefined): Promise<{ response: IncomingMessage; text: string }> {
  const server = createServer((_, response) => serveDashboard({ response }, () => page)).listen(0, "127.0.0.1");
  await once(server, "listening");
  try {
    const asked = get({ host: "127.0.0.1", port: (server.address() as AddressInfo).port, agent: false });
    const [response] = (await once(asked, "response")) as [IncomingMessage];
    let text = "";
    for await (const chunk of response.setEncoding("utf8")) text += chunk;
    return { response, text };
  } finally {
    server.close();
  }
}

test("the page is sent with its own policy, frame-ancestors none and no-store", async () => {
  const { response, text } = await answerFor(PAGE);
  assert.equal(response.statusCode, 200);
  assert.equal(text, PAGE.toString());
  const { headers } = response;
  assert.equal(
    headers["content-security-policy"],
    "default-src 'none'; script-src 'sha256-x='; frame-ancestors 'none'",
  );
  assert.equal(headers["content-type"], "text/html; charset=utf-8");
  assert.equal(headers["cache-control"], "no-store");
  assert.equal(headers["x-content-type-options"], "nosniff");
  assert.equal(headers["referrer-policy"], "no-referrer");
});

test("a page without a policy gets one that forbids everything", () => {
  assert.equal(policyOf(Buffer.from("<!doctype html><script>1</script>")), "default-src 'none'");
});

test("if the page was not built, the response says so", async () => {
  const { response, text } = await answerFor(undefined);
  assert.equal(response.statusCode, 404);
  assert.match(text, /make build/u);
});
