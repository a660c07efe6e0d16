/**
 * Ten thousand random valid and invalid calls, generated from the OpenAPI document of a real controller. Each answer must be
 * documented, none may be a server error, and the controller must work afterwards as before.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { Agent, type IncomingMessage, request } from "node:http";
import { test } from "node:test";
import fc from "fast-check";
import type { Operations } from "../../src/admin/api.ts";
import { ControllerUnderTest, eventually, isAlive, poolOf } from "../support/controller.ts";
import { type JsonSchema, problemsOf, resolve } from "../support/jsonSchema.ts";

const CALLS = 10_000;
const AT_ONCE = 8;
const WORKERS = [
  poolOf({
    name: "web",
    replicas: 3,
    exec: "sleep",
    args: ["100000"],
    startup_wait_time: "0s",
    rolling: { min_ready: "0s" },
  }),
  poolOf({ name: "jobs", replicas: 1, exec: "sleep", args: ["100000"], startup_wait_time: "0s" }),
].join("\n");

interface Parameter {
  readonly name: string;
  readonly in: "path" | "query";
  readonly schema: JsonSchema;
}

interface Answer {
  readonly content: Readonly<Record<string, { readonly schema?: JsonSchema }>>;
}

interface OperationDocument {
  readonly operationId: string;
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly content: { readonly "application/json": { readonly schema: JsonSchema } } };
  readonly responses: Readonly<Record<string, Answer>>;
}

interface ApiDocument {
  readonly paths: Readonly<Record<string, Readonly<Record<string, OperationDocument>>>>;
}

interface Call {
  readonly method: string;
  readonly path: string;
  readonly body: string;
  /** The documented operation; undefined if the call matches no route. */
  readonly operation: OperationDocument | undefined;
}

/** Values that a schema of the document allows. */
function valuesOf(schema: JsonSchema, root: ApiDocument): fc.Arbitrary<unknown> {
  if (typeof schema["$ref"] === "string") return valuesOf(resolve(schema["$ref"], root), root);
  if (Array.isArray(schema["enum"])) return fc.constantFrom(...(schema["enum"] as unknown[]));
  switch (schema["type"]) {
    case "integer":
      // Other tests start thousands of processes.
      return fc.integer({ min: Number(schema["minimum"] ?? 0), max: 4 });
    case "object": {
      const properties = Object.entries(schema["properties"] as Record<string, JsonSchema>);
      return fc.record(Object.fromEntries(properties.map(([key, inner]) => [key, valuesOf(inner, root)])));
    }
    case "string":
      return fc.string();
    case "boolean":
      return fc.boolean();
    default:
      return assert.fail(`no values for ${JSON.stringify(schema)}`);
  }
}

const NAMES = {
  pool: ["web", "jobs"],
  worker: ["web-0", "web-1", "web-2", "web-3", "jobs-0"],
  operation: ["op-1", "op-2", "op-99"],
} as const;

/** Mostly names that exist, sometimes arbitrary text. */
function segment(name: string): fc.Arbitrary<string> {
  const known = fc.constantFrom(...(NAMES[name as keyof typeof NAMES] ?? [name]));
  const strange = fc.oneof(
    fc.string({ unit: "binary", minLength: 1 }).map((text) => encodeURIComponent(text.toWellFormed())),
    fc.constantFrom("%", "%00", "%ff", "..", "%2e%2e%2f", "__proto__", "constructor", "a".repeat(4000)),
  );
  return fc.oneof({ arbitrary: known, weight: 9 }, { arbitrary: strange, weight: 1 });
}

const BROKEN_BODY = fc.oneof(
  fc.string(),
  fc.json(),
  fc.json().map((text) => text.slice(0, -1)),
  fc.anything().map((replicas) => JSON.stringify({ replicas }) ?? ""),
  fc.constantFrom("", "null", "[]", "{}", '{"replicas":0}', '{"replicas":1e99}', '{"replicas":2,"x":1}'),
);

function callsOf(document: ApiDocument): fc.Arbitrary<Call> {
  const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
  const documented = operations
    // It would end the controller.
    .filter(({ operation }) => operation.operationId !== "shutdown")
    .map(({ path, method, operation }) => {
      const parameters = operation.parameters ?? [];
      const segments = parameters.filter((each) => each.in === "path").map(({ name }) => [name, segment(name)]);
      const query = parameters.filter((each) => each.in === "query");
      const schema = operation.requestBody?.content["application/json"].schema;
      const body =
        schema === undefined ? fc.constant("") : valuesOf(schema, document).map((value) => JSON.stringify(value));
      return fc
        .record({
          segments: fc.record(Object.fromEntries(segments) as Record<string, fc.Arbitrary<string>>),
          query: fc.record(
            Object.fromEntries(
              query.map((each) => [each.name, fc.oneof(valuesOf(each.schema, document), fc.string())]),
            ),
            { requiredKeys: [] },
          ),
          body: fc.oneof({ arbitrary: body, weight: 2 }, { arbitrary: BROKEN_BODY, weight: 1 }),
        })
        .map((parts): Call => {
          const filled = path.replaceAll(/\{(\w+)\}/gu, (_, name: string) => parts.segments[name] ?? "");
          const search = new URLSearchParams(Object.entries(parts.query).map(([key, value]) => [key, String(value)]));
          // Dot segments are resolved, so the path may match another route.
          const known = filled.split("/").some((each) => /^(?:\.|%2e){1,2}$/iu.test(each)) ? undefined : operation;
          return {
            method,
            path: search.size === 0 ? filled : `${filled}?${search}`,
            body: parts.body,
            operation: known,
          };
        });
    });
  const wild = fc.record({
    method: fc.constantFrom("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS"),
    path: fc.oneof(
      fc.constantFrom(...Object.keys(document.paths)).map((path) => path.replaceAll(/\{(\w+)\}/gu, "web")),
      fc.webPath().map((path) => `/${path}`),
      fc.string().map((text) => `/v1/${encodeURIComponent(text.toWellFormed())}`),
    ),
    body: BROKEN_BODY,
    operation: fc.constant(undefined),
  });
  return fc.oneof({ arbitrary: fc.oneof(...documented), weight: 9 }, { arbitrary: wild, weight: 1 });
}

/** Makes one call and returns the problems of its answer. */
async function problemsOfCall(call: Call, socketPath: string, agent: Agent, document: ApiDocument): Promise<string[]> {
  const { method, path, body, operation } = call;
  const message = request({ socketPath, method, path, agent, headers: { "content-length": Buffer.byteLength(body) } });
  message.end(body);
  const [response] = (await once(message, "response")) as [IncomingMessage];
  const status = response.statusCode ?? 0;
  const contentType = response.headers["content-type"]?.split(";")[0] ?? "";
  let text = "";
  if (contentType === "text/event-stream" && !/[?&]follow=0(?:&|$)/u.test(path)) {
    response.destroy();
  } else {
    for await (const chunk of response.setEncoding("utf8")) text += chunk;
  }
  if (operation === undefined) return status < 500 || path.startsWith("/health") ? [] : [`status ${status}`];
  const answer = operation.responses[String(status)];
  if (answer === undefined) return [`status ${status} is not documented: ${text}`];
  const schema = answer.content[contentType]?.schema;
  if (!(contentType in answer.content)) return [`content type ${contentType} is not documented`];
  if (schema === undefined || contentType !== "application/json") return [];
  return problemsOf(JSON.parse(text), schema, document);
}

test(`${CALLS} random API calls give documented answers without server errors, and the controller still works`, async (context) => {
  await using controller = await ControllerUnderTest.start({ workers: WORKERS });
  await controller.ready();
  const document = JSON.parse((await controller.call("GET", "/v1/openapi.json")).body) as ApiDocument;
  const seed = Number(process.env["FUZZ_SEED"] ?? Date.now() % 2 ** 31);
  context.diagnostic(`FUZZ_SEED=${seed}`);
  const calls = fc.sample(callsOf(document), { numRuns: CALLS, seed });
  const agent = new Agent({ keepAlive: true, maxSockets: AT_ONCE });
  const statuses = new Map<string, number>();
  let next = 0;
  const client = async () => {
    for (let call = calls[next++]; call !== undefined; call = calls[next++]) {
      const problems = await problemsOfCall(call, controller.socket, agent, document);
      assert.deepEqual(problems, [], `${call.method} ${call.path} ${call.body} (FUZZ_SEED=${seed})`);
      const id = call.operation?.operationId ?? "wild";
      statuses.set(id, (statuses.get(id) ?? 0) + 1);
    }
  };
  await Promise.all(Array.from({ length: AT_ONCE }, client));
  agent.destroy();
  assert.equal(next - AT_ONCE, CALLS);
  assert.ok(statuses.size > 15, "every route was called");

  const settled = async () => {
    const { operations } = JSON.parse((await controller.call("GET", "/v1/operations")).body) as Operations;
    return operations.every(({ state }) => state === "succeeded" || state === "failed") ? operations : undefined;
  };
  const operations = await eventually(settled, "all operations have ended");
  // Only operations whose workers were stopped by another call may fail.
  const failed = operations.flatMap(({ error }) => (error === undefined ? [] : [error]));
  assert.deepEqual(
    failed.filter((error) => !error.includes("stopped by an operator")),
    [],
  );
  for (const [pool, replicas] of [
    ["web", 3],
    ["jobs", 2],
  ] as const) {
    assert.equal((await controller.call("POST", `/v1/pools/${pool}/start`)).status, 202);
    await eventually(settled, "the start ends");
    const scaled = await controller.call("POST", `/v1/pools/${pool}/scale`, {}, JSON.stringify({ replicas }));
    assert.equal(scaled.status, 202);
    await eventually(settled, "the scale operation ends");
  }
  const { phase, healthy, pools } = await controller.status();
  assert.deepEqual([phase, healthy], ["running", true]);
  for (const [index, replicas] of [3, 2].entries()) {
    const pids = pools[index]?.workers.flatMap(({ pid }) => (pid === null ? [] : [pid])) ?? [];
    assert.deepEqual([pools[index]?.ready, pids.length, pids.every(isAlive)], [replicas, replicas, true]);
    assert.ok(pools[index]?.workers.every(({ restarts }) => restarts === 0));
  }
  assert.ok(!controller.stderr.some((line) => line.includes("bug")));
});
