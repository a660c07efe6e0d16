/** The OpenAPI 3.1 document, generated from the routes so that it always matches what is served. Pure. */
import type { Route, RouteAnswer } from "./http/route.ts";
import { SCHEMAS, type Schema } from "./schemas.ts";

/** What each error status means. */
const ERRORS: Readonly<Record<number, string>> = {
  400: "The request is malformed",
  401: "The token is missing or wrong",
  403: "The client is not permitted to send this request",
  404: "No such pool, worker or operation",
  409: "Not possible in the current state",
  413: "The body is too large",
  429: "Too many clients already follow events or logs",
};

/** Description of each path segment. */
const SEGMENTS: Readonly<Record<string, string>> = {
  pool: "Name of a pool",
  worker: "Id of a worker",
  operation: "Id of an operation",
};

/** The document for `routes`; those in `open` need no permission. */
export function openApiDocument(routes: readonly Route[], open: readonly Route[], version: string): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    const entry = paths[route.path] ?? {};
    entry[route.method.toLowerCase()] = operationOf(route, open.includes(route));
    paths[route.path] = entry;
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "Monoceros",
      version,
      description:
        "Over the control socket, every client that can open its file has full access. Over TCP, metrics and health are open to all; other requests need the token or must come over loopback.",
      license: { name: "Apache-2.0", identifier: "Apache-2.0" },
    },
    servers: [{ url: "/" }],
    security: [{ token: [] }, {}],
    paths,
    components: { schemas: SCHEMAS, securitySchemes: { token: { type: "http", scheme: "bearer" } } },
  };
}

function operationOf(route: Route, isOpen: boolean): object {
  const errors = [...(route.errors ?? []), ...(isOpen ? [] : [401, 403]), 413].sort((a, b) => a - b);
  const parameters = [
    ...[...route.path.matchAll(/\{(\w+)\}/gu)].map(([, name = ""]) => ({
      name,
      in: "path",
      required: true,
      description: SEGMENTS[name] ?? name,
      schema: { type: "string" },
    })),
    ...(route.query ?? []).map(({ name, doc, schema }) => ({ name, in: "query", description: doc, schema })),
  ];
  return {
    operationId: route.operationId,
    summary: route.summary,
    ...(isOpen ? { security: [] } : {}),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(route.body === undefined
      ? {}
      : { requestBody: { required: true, content: { "application/json": { schema: reference(route.body) } } } }),
    responses: Object.fromEntries([
      ...route.answers.map((answer) => [String(answer.status), answerOf(answer)]),
      ...errors.map((status) => [String(status), errorOf(status)]),
    ]),
  };
}

function answerOf({ doc, contentType, schema }: RouteAnswer): object {
  return {
    description: doc,
    content: { [contentType ?? "application/json"]: schema === undefined ? {} : { schema: reference(schema) } },
  };
}

function errorOf(status: number): object {
  return { description: ERRORS[status] ?? "An error", content: { "application/json": { schema: reference("Error") } } };
}

/** @throws RangeError if no schema has this name */
function reference(name: string): Schema {
  if (!Object.hasOwn(SCHEMAS, name)) throw new RangeError(`no schema is named "${name}"`);
  return { $ref: `#/components/schemas/${name}` };
}
