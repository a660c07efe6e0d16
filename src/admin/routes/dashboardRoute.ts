/**
 * The dashboard at `/`: one page without any data, which the build makes; what it shows it asks of /v1. The executable
 * carries it as an asset that is read where it lies at each request, so that it costs no memory while nobody looks.
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { getRawAsset, isSea } from "node:sea";
import { sendError } from "../http/answers.ts";
import type { Call, Route } from "../http/route.ts";

/** The policy stands in the page's head, within so many bytes. */
const POLICY_BYTES = 2048;

/** Serves the page. Over TCP with a token it is open to all, since a browser sends no token when it opens a page. */
export const DASHBOARD_ROUTE: Route = {
  method: "GET",
  path: "/",
  operationId: "getDashboard",
  summary: "Show the dashboard, a page without data that asks the routes below; with a token it is open to all",
  answers: [{ status: 200, doc: "The page", contentType: "text/html", schema: undefined }],
  errors: [404],
  handle: (call) => serveDashboard(call, readPage),
};

/** Answers with the page that `read` gives, under the policy that it names itself. */
export function serveDashboard({ response }: Pick<Call, "response">, read: () => Buffer | undefined): void {
  const page = read();
  if (page === undefined) {
    sendError(response, 404, "REQUEST_INVALID", "the dashboard is not built, `make build` does");
    return;
  }
  response
    .writeHead(200, {
      "content-type": "text/html; charset=utf-8",
      "content-length": page.length,
      // A meta element cannot say who may frame the page, so a header repeats it with that.
      "content-security-policy": `${policyOf(page)}; frame-ancestors 'none'`,
      "cache-control": "no-store",
      "referrer-policy": "no-referrer",
      "x-content-type-options": "nosniff",
    })
    .end(page);
}

/** The Content-Security-Policy that the page states; nothing may be done where it states none. */
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
