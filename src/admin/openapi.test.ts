import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeHandle } from "../../test/support/fakeHandle.ts";
import { problemsOf } from "../../test/support/jsonSchema.ts";
import { instant } from "../base/time.ts";
import { PATHS } from "./api.ts";
import { compileRoutes, matchRoutes, type Route } from "./http/route.ts";
import { ALL_ROUTES } from "./http/server.ts";
import { openApiDocument } from "./openapi.ts";
import { OPEN_ROUTES } from "./routes/openRoutes.ts";
import { SCHEMAS } from "./schemas.ts";
import { statusOf } from "./status.ts";

interface Document {
  readonly openapi: string;
  readonly paths: Readonly<Record<string, Readonly<Record<string, { responses: object; security?: unknown[] }>>>>;
  readonly components: { readonly schemas: object };
}

const DOCUMENT = openApiDocument(ALL_ROUTES, OPEN_ROUTES, "1.2.3") as Document;

/** Every value under a key, anywhere in the document. */
function valuesOf(value: unknown, key: string): unknown[] {
  if (typeof value !== "object" || value === null) return [];
  return Object.entries(value).flatMap(([name, inner]) => [...(name === key ? [inner] : []), ...valuesOf(inner, key)]);
}

test("the document contains exactly the routes", () => {
  const documented = Object.entries(DOCUMENT.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
  );
  assert.deepEqual(documented.sort(), ALL_ROUTES.map(({ method, path }) => `${method} ${path}`).sort());
  const ids = valuesOf(DOCUMENT, "operationId");
  assert.equal(new Set(ids).size, ALL_ROUTES.length);
  assert.equal(DOCUMENT.openapi, "3.1.0");
});

test("every reference has a schema, and every schema is used", () => {
  const names = valuesOf(DOCUMENT, "$ref").map((reference) => String(reference).replace("#/components/schemas/", ""));
  assert.deepEqual([...new Set(names)].sort(), Object.keys(SCHEMAS).sort());
});

test("the document marks exactly the open routes as open", () => {
  for (const { method, path } of ALL_ROUTES) {
    const operation = DOCUMENT.paths[path]?.[method.toLowerCase()];
    const isOpen = OPEN_ROUTES.some((route) => route.path === path);
    assert.deepEqual(operation?.security, isOpen ? [] : undefined, path);
    assert.equal("403" in (operation?.responses ?? {}), !isOpen, path);
  }
});

test("the document contains every path of the client", () => {
  const compiled = compileRoutes(ALL_ROUTES);
  const paths = [
    PATHS.status,
    PATHS.events,
    PATHS.logs,
    PATHS.operations,
    PATHS.shutdown,
    PATHS.operation("op-1"),
    ...(["restart", "stop", "start", "scale"] as const).map((action) => PATHS.pool("a b/c", action)),
    ...(["restart", "stop", "start", "dump", "profile"] as const).map((action) => PATHS.worker("web-0", action)),
    ...(["cpu", "heap"] as const).map(PATHS.selfProfile),
  ];
  for (const path of paths) assert.equal(matchRoutes(compiled, path).length, 1, path);
  assert.equal(matchRoutes(compiled, PATHS.pool("a b/c", "scale"))[0]?.segments.get("pool"), "a b/c");
});

test("a dot in a path matches only a dot", () => {
  const compiled = compileRoutes(ALL_ROUTES);
  assert.equal(matchRoutes(compiled, "/v1/openapi.json").length, 1);
  assert.equal(matchRoutes(compiled, "/v1/openapiXjson").length, 0);
});

test("a route with an unknown schema throws", () => {
  const route = { ...(ALL_ROUTES[0] as Route), body: "Nothing" };
  assert.throws(() => openApiDocument([route], [], "1"), /no schema is named "Nothing"/u);
});

test("a status document matches its schema, and the check detects violations", () => {
  const view = new FakeHandle().view();
  const status = statusOf(view, {
    now: instant(4500),
    version: "1",
    pid: 2,
    operations: [],
    waitOf: () => "GET http://127.0.0.1:80/: HTTP 400",
    reportOf: () => "serving on 4 threads",
  });
  const schema = { $ref: "#/components/schemas/Status" };
  assert.deepEqual(problemsOf(status, schema, DOCUMENT), []);
  assert.deepEqual(problemsOf({ ...status, pid: -1, more: 1, phase: "x", ready: 1 }, schema, DOCUMENT).length, 4);
  const { version: _, ...less } = status;
  assert.deepEqual(problemsOf(less, schema, DOCUMENT), ["$.version is missing"]);
});
