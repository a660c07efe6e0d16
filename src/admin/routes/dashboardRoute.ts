/**
 * The dashboard at `/`: one page, created by the build, that contains no data and fetches it from /v1. The executable
 * embeds it as an asset and reads it in place for each request, so it uses no memory between requests.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { getRawAsset, isSea } from "node:sea";
import { sendError } from "../http/answers.ts";
import type { Call, Route } from "../http/route.ts";

/** The policy is within this many bytes at the start of the page. */
const POLICY_BYTES = 2048;

/** Serves the page. Over TCP with a token it is open to all, since a browser sends no token when it opens a page. */
export const DASHBOARD_ROUTE: Route = {
  method: "GET",
  path: "/",
  operationId: "getDashboard",
  summary: "Show the dashboard, a page without data that uses the routes below; open to all if a token is set",
  answers: [{ status: 200, doc: "The page", contentType: "text/html" }],
  errors: [404],
  handle: (call) => serveDashboard(call, readPage),
};

/** Answers with the page returned by `read`, under the policy that the page itself states. */
export function serveDashboard({ response }: Pick<Call, "response">, read: () => Buffer | undefined): void {
  const page = read();
  if (page === undefined) {
    sendError(response, 404, "REQUEST_INVALID", "the dashboard is not built; run `make build`");
    return;
  }
  response
    .writeHead(200, {
      "content-type": "text/html; charset=utf-8",
      "content-length": page.length,
      // A meta element cannot specify frame-ancestors, so the header repeats the policy and adds it.
      "content-security-policy": `${policyOf(page)}; frame-ancestors 'none'`,
      "cache-control": "no-store",
      "referrer-policy": "no-referrer",
      "x-content-type-options": "nosniff",
    })
    .end(page);
}

/** The Content-Security-Policy that the page states; if absent, a policy that forbids everything. */
export function policyOf(page: Buffer): string {
  const head = page.toString("latin1", 0, POLICY_BYTES);
  return /<meta http-equiv="Content-Security-Policy" content="([^"]+)"/u.exec(head)?.[1] ?? "default-src 'none'";
}

function readPage(): Buffer | undefined {
  if (isSea()) return Buffer.from(getRawAsset("dashboard"));
  try {
    return readFileSync(join(import.meta.dirname, "../../../dist/dashboard.html"));
  } catch {
    return undefined;
  }
}
