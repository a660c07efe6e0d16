/** The page docs/api.md, generated from the routes. */
import type { Route } from "./http/route.ts";

const INTRODUCTION = `# API

This page is generated from the routes in \`src/admin\`; do not edit it. A running controller describes itself as OpenAPI 3.1
at \`GET /v1/openapi.json\`; the command line uses nothing else than this API.

## Who may do what

- Over the **control socket** (mode 0600) whoever may open it may do everything:
  \`curl --unix-socket /run/monoceros/monoceros.sock http://controller/v1/status\`
- Over **TCP** metrics and health are open to all. Everything else needs \`Authorization: Bearer TOKEN\` with the token of
  \`admin.token_file\` (read again when the file changes), or comes from the same machine under one of its names
  (\`localhost\`, \`127.0.0.1\`, \`[::1]\`) as \`Host\`.
- The **dashboard** at \`/\` follows the same rules, with one exception: a browser sends no token when it opens a page, so with
  \`admin.token_file\` the page itself, which holds no data, is open to all and asks for the token.
- Over TCP a page of another origin (\`Origin\`, \`Sec-Fetch-Site\`) gets health and the dashboard, and metrics by a link that a
  person follows. Anything else is refused, with or without the token: it changes or costs something.
- Every change is an event (\`audited\`) and a line of the log that says who asked: user and process at the other end of the
  control socket, the token, or loopback. So is every dump and every profile of a worker.

The control socket has 256 connections, the port 1280 (a quarter of the open files allowed, if that is less); where more come, the connection that has been idle for longest is cut off. 32 of them
may follow events or logs. A request has 10 s, 16 KiB of headers and 64 KiB of body.

## Operations

What changes a pool is answered with status 202 at once and goes on as an *operation*:
\`{"accepted":true,"operation":"op-7","since":120}\`. \`GET /v1/operations/op-7\` shows how it is, and
\`GET /v1/events?since=120\` tells each step. Operations that change a pool as a whole wait for one another; 50 may be under
way. The last 200 are kept.

Errors are \`{"error":{"code","message"}}\` with a code of [errors.md](errors.md).

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
  return `${INTRODUCTION}| Method | Path | Open to | What it does | Answer |\n|---|---|---|---|---|\n${rows.join("")}`;
}
