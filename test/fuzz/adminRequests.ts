/**
 * The admin servers with malformed HTTP, and the control socket with well-formed but mostly invalid requests. Every request
 * gets a documented answer and no server error, and nothing changes without permission.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import type { Server } from "node:http";
import { connect, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ALL_ROUTES, createControlServer, createTcpServer } from "../../src/admin/http/server.ts";
import { openApiDocument } from "../../src/admin/openapi.ts";
import { OPEN_ROUTES } from "../../src/admin/routes/openRoutes.ts";
import { FakeHandle } from "../support/fakeHandle.ts";
import { type JsonSchema, problemsOf } from "../support/jsonSchema.ts";
import { SeededRandom } from "../support/random.ts";
import { FuzzFailure, type FuzzTarget, mutated, textOf } from "./target.ts";

const AT_ONCE = 32;
/** Time after which the client half-closes the connection, because the request may be incomplete. */
const PATIENCE_MS = 50;
/** Time limit for the server to answer or close the connection, also on a busy machine. */
const CLOSED_MS = 20_000;

interface Answer {
  readonly status: number;
  readonly contentType: string;
  readonly body: string;
}

/** Reads the answers of one connection. */
class Answers {
  #text = "";
  readonly isHead: boolean;

  constructor(isHead: boolean) {
    this.isHead = isHead;
  }

  /** The next answer once it is complete. A stream is complete with its head. */
  push(chunk: Buffer): Answer | undefined {
    this.#text += chunk.toString("latin1");
    const end = this.#text.indexOf("\r\n\r\n");
    if (end < 0) return undefined;
    const head = this.#text.slice(0, end);
    const [first = "", ...lines] = head.split("\r\n");
    const status = Number(/^HTTP\/1\.1 (\d{3}) [ -~]*$/u.exec(first)?.[1]);
    assert.ok(status >= 100, `no status line: ${JSON.stringify(first)}`);
    const headers = new Map<string, string>();
    for (const line of lines) {
      const [, name = "", value = ""] = /^([!-9;-~]+): ([ -~]*)$/u.exec(line) ?? [];
      assert.notEqual(name, "", `no header: ${JSON.stringify(line)}`);
      headers.set(name.toLowerCase(), value);
    }
    const rest = this.#text.slice(end + 4);
    if (status === 100) {
      this.#text = rest;
      return this.push(Buffer.alloc(0));
    }
    const contentType = headers.get("content-type")?.split(";")[0] ?? "";
    const length = Number(headers.get("content-length") ?? Number.NaN);
    const isStream = contentType === "text/event-stream";
    if (!isStream && !this.isHead && !Number.isNaN(length) && rest.length < length) return undefined;
    if (!isStream && !this.isHead && Number.isNaN(length) && !/(?:^|\r\n)0\r\n\r\n$/u.test(rest)) return undefined;
    this.#text = this.isHead || Number.isNaN(length) ? "" : rest.slice(length);
    return { status, contentType, body: this.isHead ? "" : Number.isNaN(length) ? rest : rest.slice(0, length) };
  }
}

/** Both admin servers of a fake controller, each on a Unix socket. */
class Fronts implements AsyncDisposable {
  readonly handle = new FakeHandle();
  /** The controller of the TCP server. No order of an unauthorised client may reach it. */
  readonly guarded = new FakeHandle();
  readonly #directory = mkdtempSync(join(tmpdir(), "monoceros-fuzz-"));
  readonly #servers: Server[];

  constructor() {
    this.#servers = [
      createControlServer(this.handle, () => ({ uid: 7, pid: 8 })),
      // A client on a Unix socket has no loopback address, so it is unauthorised.
      createTcpServer(this.guarded, (token) => token === "the token"),
    ];
  }

  async listen(): Promise<void> {
    for (const [index, server] of this.#servers.entries()) {
      server.listen(this.path(index === 0 ? "control" : "tcp"));
      await once(server, "listening");
    }
  }

  path(kind: "control" | "tcp"): string {
    return join(this.#directory, kind);
  }

  /** Clears the recorded orders to save memory. */
  forget(): void {
    this.handle.orders.length = 0;
    this.handle.audits.length = 0;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const server of this.#servers) {
      server.close();
      server.closeAllConnections();
      await once(server, "close");
    }
    rmSync(this.#directory, { recursive: true });
  }
}

/** Sends bytes on a connection of their own. Returns the first answer, or undefined if the server closes without one. */
function exchange(path: string, bytes: Buffer): Promise<Answer | undefined> {
  return new Promise((done, fail) => {
    const socket: Socket = connect({ path });
    const answers = new Answers(bytes.subarray(0, 5).toString() === "HEAD ");
    const patience = setTimeout(() => socket.end(), PATIENCE_MS);
    const late = setTimeout(() => finish(() => fail(new Error("neither answered nor closed"))), CLOSED_MS);
    const finish = (settle: () => void): void => {
      clearTimeout(patience);
      clearTimeout(late);
      socket.destroy();
      settle();
    };
    socket.on("data", (chunk: Buffer) => {
      try {
        const answer = answers.push(chunk);
        if (answer !== undefined) finish(() => done(answer));
      } catch (error) {
        finish(() => fail(error as Error));
      }
    });
    socket.on("error", () => {});
    socket.on("close", () => finish(() => done(undefined)));
    socket.write(bytes);
  });
}

/** Runs cases concurrently on servers of their own. */
function frontTarget<Input>(
  name: string,
  make: (random: SeededRandom) => Input,
  check: (fronts: Fronts, input: Input) => Promise<void>,
): FuzzTarget {
  return {
    name,
    run: async (seed, cases) => {
      await using fronts = new Fronts();
      await fronts.listen();
      let next = 0;
      let failure: FuzzFailure | undefined;
      const client = async (): Promise<void> => {
        while (next < cases && failure === undefined) {
          const index = next++;
          if (index % 1000 === 0) fronts.forget();
          const input = make(new SeededRandom(seed + index));
          try {
            await check(fronts, input);
          } catch (error) {
            failure ??= new FuzzFailure(name, seed + index, input, error);
          }
        }
      };
      await Promise.all(Array.from({ length: AT_ONCE }, client));
      if (failure !== undefined) throw failure;
      const status = await exchange(fronts.path("control"), Buffer.from("GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"));
      assert.equal(status?.status, 200, "the server no longer answers");
    },
  };
}

// Bytes

const REQUESTS = [
  "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n",
  "GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
  "GET /v1/status?detail=1 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer no\r\n\r\n",
  "HEAD /v1/events?since=0 HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n",
  'POST /v1/pools/web/scale HTTP/1.1\r\nHost: localhost\r\nContent-Length: 14\r\n\r\n{"replicas":3}',
  'POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n{"dry_run": true}\r\n0\r\n\r\n',
  "POST /v1/workers/web-0/restart HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 0\r\n\r\n",
  "GET / HTTP/1.0\r\n\r\n",
  "GET http://localhost/v1/operations HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
];

const NOISE = [
  "\r\n",
  "\n",
  "\r",
  " ",
  "\t",
  ":",
  "\u0000",
  "\u007f",
  "é",
  "HTTP/1.1",
  "HTTP/2.0",
  "HTTP/1.1\r\n\r\n",
  "%",
  "%2e%2e/",
].concat(
  [
    "//",
    "?",
    "&",
    "#",
    "@",
    "Host: a\r\n",
    "Content-Length: 5\r\n",
    "Content-Length: -1\r\n",
    "Content-Length: 99999999999\r\n",
  ],
  [
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: x, chunked\r\n",
    "0\r\n\r\n",
    "ffffffff\r\n",
    "Authorization: Bearer x\r\n",
  ],
  [
    "Origin: http://evil\r\n",
    "Sec-Fetch-Site: cross-site\r\n",
    "Connection: close\r\n",
    "Expect: x\r\n",
    "POST ",
    "PRI * ",
    "CONNECT ",
  ],
  [
    `X: ${"y".repeat(17_000)}\r\n`,
    "X: y\r\n".repeat(2100),
    "z".repeat(3000),
    "Upgrade: h2c\r\n",
    "\r\n\r\n",
    "GET /metrics HTTP/1.1\r\n",
  ],
);

/** Permitted statuses for any request. */
const ALLOWED = new Set([200, 202, 400, 401, 403, 404, 405, 408, 409, 413, 417, 429, 431]);

interface RawInput {
  readonly kind: "control" | "tcp";
  readonly text: string;
}

export const ADMIN_FRONT = frontTarget(
  "adminFront",
  (random): RawInput => ({
    kind: random.pick(["control", "tcp"] as const),
    text: random.chance(0.1) ? textOf(NOISE, random, 12) : mutated(random.pick(REQUESTS), NOISE, random),
  }),
  async (fronts, { kind, text }) => {
    const answer = await exchange(fronts.path(kind), Buffer.from(text, "latin1"));
    if (answer === undefined) return;
    const { status, body, contentType } = answer;
    // No worker is ready in the fake controller, so health checks answer 503.
    assert.ok(
      ALLOWED.has(status) || (status === 503 && text.includes("/health")),
      `status ${status}: ${body.slice(0, 500)}`,
    );
    if (status >= 400 && contentType === "application/json" && body !== "") {
      const { error } = JSON.parse(Buffer.from(body, "latin1").toString()) as { error: Record<string, unknown> };
      assert.ok(typeof error["code"] === "string" && typeof error["message"] === "string", body);
    }
    if (kind === "control") return;
    assert.deepEqual([fronts.guarded.orders, fronts.guarded.audits], [[], []], "an unauthorised client gave an order");
    assert.ok(
      contentType !== "text/event-stream" && !body.includes('"pools"'),
      `an unauthorised client received: ${body.slice(0, 200)}`,
    );
  },
);

// Requests

interface ApiOperation {
  readonly operationId: string;
  readonly responses: Readonly<
    Record<string, { readonly content?: Readonly<Record<string, { schema?: JsonSchema }>> }>
  >;
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, ApiOperation>>>>;
}

const DOCUMENT = openApiDocument(ALL_ROUTES, OPEN_ROUTES, "1.2.3") as Document;
const OPERATIONS = Object.entries(DOCUMENT.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
);

const SEGMENTS = [
  "web",
  "my%20jobs",
  "web-proxy",
  "web-0",
  "web-1",
  "web-99",
  "op-0",
  "op-1",
  "%",
  "%00",
  "%ff",
  "__proto__",
].concat([
  "constructor",
  "..",
  "%2e%2e",
  "a".repeat(3000),
  "é",
  "web%2d0",
  "web-0;x",
  "-1",
  "WEB-0",
  "web-00",
  "web-0 ",
]);
const QUERY = [
  "detail",
  "since",
  "follow",
  "processes",
  "seconds",
  "worker",
  "pool",
  "lines",
  "=",
  "&",
  "1",
  "0",
  "-1",
  "x",
  "%",
].concat(["NaN", "1e99", "%f0%9f", "true", "999999999999999999999", "web", "web-0"]);
const JSON_PARTS = [
  "{",
  "}",
  "[",
  "]",
  '"replicas"',
  '"dry_run"',
  '"seconds"',
  '"hz"',
  '"pid"',
  ":",
  ",",
  "1",
  "-1",
  "1e99",
  "0.5",
].concat(["true", "false", "null", '"x"', '"__proto__"', " ", "10001", "{}", "\\", "é", "[[[[[[", "4194305"]);
const BODIES = [
  "",
  "{}",
  '{"replicas":3}',
  '{"replicas":0}',
  '{"dry_run":true}',
  '{"pid":1}',
  '{"seconds":1,"hz":5}',
].concat(['{"replicas":2,"x":1}', "null", "[]", `{"x":"${"y".repeat(66_000)}"}`, "[".repeat(30_000)]);

interface ApiCall {
  readonly method: string;
  readonly target: string;
  readonly body: string;
  readonly operation: ApiOperation | undefined;
}

function makeCall(random: SeededRandom): ApiCall {
  const { path, method, operation } = random.pick(OPERATIONS);
  const isWild = random.chance(0.1);
  let target = path.replaceAll(/\{\w+\}/gu, () => random.pick(SEGMENTS));
  if (random.chance(0.3)) target += `?${textOf(QUERY, random, 6).replaceAll(" ", "+")}`;
  target = encodeURI(target).replaceAll("%25", "%");
  if (isWild)
    target = mutated(target, ["/", "//", "?", "%", "..", "/v1", "#", ";", "x"], random).replaceAll(/[^!-~]/gu, "");
  const body = random.chance(0.5) ? random.pick(BODIES) : textOf(JSON_PARTS, random, 8);
  const isStepUp =
    target
      .split(/[?#]/u)[0]
      ?.split("/")
      .some((each) => /^(?:\.|%2e){1,2}$/iu.test(each)) ?? false;
  const wildMethod = random.pick(["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "POST"]);
  return {
    method: isWild ? wildMethod : method,
    target: target === "" ? "/" : target,
    body,
    operation: isWild || isStepUp || target.includes("#") ? undefined : operation,
  };
}

export const CONTROL_REQUESTS = frontTarget(
  "controlRequests",
  makeCall,
  async (fronts, { method, target, body, operation }) => {
    const bytes = Buffer.from(body);
    const head = `${method} ${target} HTTP/1.1\r\nHost: x\r\nContent-Length: ${bytes.length}\r\n\r\n`;
    const answer = await exchange(fronts.path("control"), Buffer.concat([Buffer.from(head, "latin1"), bytes]));
    assert.ok(answer !== undefined, "there is no answer");
    const { status, contentType } = answer;
    if (operation === undefined) {
      assert.ok(
        ALLOWED.has(status) || (status === 503 && target.includes("health")),
        `status ${status}: ${answer.body}`,
      );
      return;
    }
    if (status === 413 && bytes.length > 65_536) return;
    const documented = operation.responses[String(status)];
    assert.ok(
      documented !== undefined,
      `status ${status} of ${operation.operationId} is not documented: ${answer.body}`,
    );
    const schema = documented.content?.[contentType]?.schema;
    if (schema === undefined || contentType !== "application/json" || method === "HEAD") return;
    const text = Buffer.from(answer.body, "latin1").toString();
    assert.deepEqual(problemsOf(JSON.parse(text), schema, DOCUMENT), [], text);
  },
);
