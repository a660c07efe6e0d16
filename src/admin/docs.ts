/** The page docs/api.md, generated from the routes. */
import type { Route } from "./http/route.ts";

const INTRODUCTION = `# API

This page is generated from the routes in \`src/admin\`; do not edit it. A running controller serves the same description as
OpenAPI 3.1 at \`GET /v1/openapi.json\`. The command line uses only this API.

## Access

- **Control socket** (mode 0600): every client that can open the file has full access:
  \`curl --unix-socket /run/monoceros/monoceros.sock http://controller/v1/status\`
- **TCP**: metrics and health are open to all. All other requests need \`Authorization: Bearer TOKEN\` with the token of
  \`admin.token_file\`, or must come over loopback with \`localhost\`, \`127.0.0.1\` or \`[::1]\` as \`Host\`. The controller rereads
  the file when it changes.
- **Dashboard** at \`/\`: the same rules. With \`admin.token_file\`, the page itself is open to all, because a browser sends no
  token when it opens a page. It contains no data and asks for the token.
- **Pages of another origin** (\`Origin\`, \`Sec-Fetch-Site\`) may request only health and the dashboard over TCP, and metrics if a
  person follows a link. All their other requests are refused, with or without the token.
- **Audit**: every change, dump and profile of a worker emits an \`audited\` event and a log line. They name the requester: the
  user and process at the other end of the control socket, the token, or loopback.

**Limits**: 256 connections to the control socket and 1280 over TCP (a quarter of the allowed open files if that is less).
Above the limit, the connection that has been idle longest is closed. 32 connections can follow events or logs. A request has
10 s, 16 KiB of headers and 64 KiB of body.

## Operations

A request that changes a pool returns status 202 immediately and continues as an *operation*:
\`{"accepted":true,"operation":"op-7","since":120}\`. \`GET /v1/operations/op-7\` shows its state, and
\`GET /v1/events?since=120\` streams each step. Operations that change a whole pool wait for one another. At most 50 can be
pending, and the last 200 are kept.

An error is \`{"error":{"code","message"}}\` with a code of [errors.md](errors.md).

## Routes

`;

/** The whole page, with a newline at the end. */
export function apiPage(routes: readonly Route[], open: readonly Route[]): string {
  const rows = routes.map((route) => {
    const query = (route.query ?? []).map(({ name, doc }) => `\`?${name}=\` ${doc}`).join("; ");
    const body = route.body === undefined ? "" : `; body \`${route.body}\``;
    const answers = route.answers.map(
      ({ status, schema }) => `${status}${schema === undefined ? "" : ` \`${schema}\``}`,
    );
    const access = open.includes(route) ? "all" : "control";
    const what = `${route.summary}${query === "" ? "" : ` (${query})`}${body}`;
    return `| ${route.method} | \`${route.path}\` | ${access} | ${what} | ${answers.join(", ")} |\n`;
  });
  return `${INTRODUCTION}| Method | Path | Access | Description | Response |\n|---|---|---|---|---|\n${rows.join("")}`;
}
