/**
 * The proxy changes nothing: each row is a request that goes to a worker directly and through Envoy, in each way in which
 * Envoy reaches workers, over HTTP/1.1 and where that makes sense over HTTP/2. What the worker saw and what the client got
 * are compared; the only differences allowed are those that docs/traffic.md lists.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type ClientHttp2Session, connect as connectHttp2, type IncomingHttpHeaders } from "node:http2";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { after, test } from "node:test";
import { ControllerUnderTest, eventually, poolOf } from "../support/controller.ts";
import { freePort, freePorts } from "../support/ports.ts";
import { exchange, type GotAnswer, type ServerPlace } from "../support/rawHttp.ts";
import { type HeaderList, headerOf, type ScriptedAnswer, type SeenRequest } from "../support/recordingWorker.ts";

interface Row extends Partial<ScriptedAnswer> {
  readonly name: string;
  /** Request line. */
  readonly line?: string;
  /** Header lines after Host. */
  readonly headers?: readonly string[];
  /** The Host line, where it is not the usual one; "" is none. */
  readonly host?: string;
  readonly body?: string;
  /** Sent when an interim answer has arrived. */
  readonly afterInterim?: string;
  /** Sent over the connection after the answer; it must come back. */
  readonly afterAnswer?: string;
  /** A documented difference of what the worker sees, applied to what it sees directly. */
  readonly seen?: (direct: SeenRequest) => SeenRequest;
  /** The same for what the client gets. */
  readonly got?: (direct: GotAnswer) => GotAnswer;
  /** The proxy answers by itself with this status, and no worker sees the request. */
  readonly answeredByProxy?: string;
  /** The same request is sent over HTTP/2 too. */
  readonly isHttp2?: boolean;
}

const DATE = "Date: Thu, 01 Jan 2026 00:00:00 GMT";

function answer(head: readonly string[], body = ""): string {
  return `${head.join("\r\n")}\r\n\r\n${body}`;
}

const OK = answer(["HTTP/1.1 200 OK", "Content-Length: 2", DATE], "ok");

function times<T>(count: number, make: (index: number) => T): T[] {
  return Array.from({ length: count }, (_, index) => make(index));
}

function without(headers: HeaderList, ...names: readonly string[]): HeaderList {
  return headers.filter(([name]) => !names.includes(name.toLowerCase()));
}

function lowered(headers: HeaderList): HeaderList {
  return headers.map(([name, value]) => [name.toLowerCase(), value]);
}

const withoutHeaders =
  (...names: readonly string[]) =>
  (direct: SeenRequest): SeenRequest => ({ ...direct, headers: without(direct.headers, ...names) });

/** A repeated header that Envoy knows becomes one, in the place of the first. */
const joined =
  (...names: readonly string[]) =>
  (direct: SeenRequest): SeenRequest => {
    const headers: [string, string][] = [];
    for (const [name, value] of direct.headers) {
      const first = headers.find(([each]) => names.includes(name.toLowerCase()) && each === name);
      if (first === undefined) headers.push([name, value]);
      else first[1] += `,${value}`;
    }
    return { ...direct, headers };
  };

const withHeader =
  (name: string, value: string) =>
  (direct: SeenRequest): SeenRequest => ({ ...direct, headers: [...direct.headers, [name, value]] });

const UPGRADE = ["Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: eA=="];

const ROWS: readonly Row[] = [
  // Headers of requests.
  { name: "a plain request", isHttp2: true },
  {
    name: "names keep their case, order and repetitions, values their bytes",
    headers: [
      "X-ONE: 1",
      "accept: */*",
      "X-ONE: 3",
      "x_under: _",
      "X-Bytes: \xe9\xff",
      "X-Tab: a\tb",
      "x.!#$%&'*+-^`|~: t",
    ],
  },
  {
    name: "a repeated name is spelled as it was first",
    headers: ["X-ONE: 1", "x-One: 2"],
    seen: (direct) => ({
      ...direct,
      headers: direct.headers.map(([name, value]) => [name === "x-One" ? "X-ONE" : name, value]),
    }),
  },
  { name: "an empty header", headers: ["X-Empty:", "X-After: 1"] },
  { name: "a host with a port and capitals", host: "Host: A.Example:8443", isHttp2: true },
  { name: "150 headers", headers: times(150, (index) => `x-${index}: ${index}`), isHttp2: true },
  { name: "headers of 100 KiB in one field", headers: [`x-big: ${"b".repeat(102_400)}`], isHttp2: true },
  {
    name: "headers of 200 KiB in many fields",
    headers: times(50, (index) => `x-${index}: ${"b".repeat(4096)}`),
    isHttp2: true,
  },
  { name: "a request target of 100 KiB", line: `GET /${"p".repeat(102_400)} HTTP/1.1`, isHttp2: true },
  {
    name: "what proxies in front say",
    headers: [
      "X-Forwarded-For: 198.51.100.7, 203.0.113.9",
      "X-Forwarded-Proto: https",
      "X-Forwarded-Host: shop.example",
      "X-Forwarded-Port: 443",
      "X-Forwarded-Client-Cert: Hash=1",
      "X-Real-IP: 198.51.100.7",
      "Forwarded: for=198.51.100.7",
      "Via: 1.1 edge",
      "X-Request-ID: 7",
      "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      "x-envoy-external-address: 198.51.100.7",
      "x-envoy-attempt-count: 1",
    ],
    isHttp2: true,
  },
  {
    name: "two X-Forwarded-For lines are joined",
    headers: ["X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 2.2.2.2"],
    seen: joined("x-forwarded-for"),
  },
  { name: "repeated cookies", headers: ["Cookie: a=1", "Cookie: b=2"] },
  {
    name: "headers that are repeated although they have one value are joined",
    headers: ["Accept: a/b", "User-Agent: x", "Accept: c/d", "User-Agent: y"],
    seen: joined("accept", "user-agent"),
  },
  {
    name: "headers that would control Envoy are removed",
    headers: ["x-envoy-retry-on: 5xx", "x-envoy-max-retries: 3", "x-envoy-upstream-rq-timeout-ms: 1", "X-Kept: 1"],
    response: answer(["HTTP/1.1 503 Busy", "Content-Length: 0", DATE]),
    seen: withoutHeaders("x-envoy-retry-on", "x-envoy-max-retries", "x-envoy-upstream-rq-timeout-ms"),
  },
  {
    name: "headers of one hop",
    headers: ["Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: 5", "TE: trailers, gzip"],
    seen: withoutHeaders("x-hop"),
  },

  // Upgrades.
  {
    name: "an upgrade to TLS/1.2 is ignored",
    headers: ["Connection: Upgrade", "Upgrade: TLS/1.2"],
    seen: withoutHeaders("upgrade"),
  },
  {
    name: "an upgrade to h2c is ignored",
    headers: ["Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQ"],
    seen: withoutHeaders("upgrade", "http2-settings"),
  },
  {
    name: "an upgrade to anything else is ignored, also with a body",
    line: "POST / HTTP/1.1",
    headers: ["Connection: Upgrade", "Upgrade: webs, TLS/1.3, we", "Content-Length: 3"],
    body: "abc",
    seen: withoutHeaders("upgrade"),
  },
  {
    name: "a WebSocket",
    headers: UPGRADE,
    response: answer(["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket", DATE]),
    isEcho: true,
    afterAnswer: "\x81\x85ping!",
  },
  {
    name: "a WebSocket in capitals that is offered beside others",
    headers: ["Connection: upgrade", "Upgrade: foo, WebSocket"],
    response: answer(["HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: WebSocket", DATE]),
    isEcho: true,
    afterAnswer: "\x81\x85ping!",
    seen: (direct) => ({
      ...direct,
      headers: direct.headers.map(([name, value]) => [name, name === "Upgrade" ? "WebSocket" : value]),
    }),
  },
  {
    name: "a refusal of a WebSocket",
    headers: UPGRADE,
    response: answer(["HTTP/1.1 403 Forbidden", "X-Why: no", DATE, "Content-Length: 3"], "no!"),
  },
  {
    name: "an answer to a WebSocket that neither accepts nor refuses it loses its body",
    headers: UPGRADE,
    response: OK,
    got: (direct) => ({
      ...direct,
      headers: [...lowered(without(direct.headers, "content-length")), ["content-length", "0"]],
      body: "",
    }),
  },

  // Methods.
  ...["PUT", "PATCH", "DELETE", "PROPFIND", "REPORT", "M-SEARCH", "PURGE", "X-Custom", "brew"].map(
    (method): Row => ({
      name: `method ${method}`,
      line: `${method} /m HTTP/1.1`,
      headers: ["Content-Length: 2"],
      body: "hi",
      isHttp2: true,
    }),
  ),
  {
    name: "method QUERY",
    line: "QUERY /q HTTP/1.1",
    headers: ["Content-Type: text/plain", "Content-Length: 2"],
    body: "hi",
  },
  { name: "method TRACE", line: "TRACE /t HTTP/1.1" },
  {
    name: "OPTIONS of a path",
    line: "OPTIONS /o HTTP/1.1",
    headers: ["Origin: http://a"],
    seen: withHeader("content-length", "0"),
    isHttp2: true,
  },
  { name: "OPTIONS of the server is answered by the proxy", line: "OPTIONS * HTTP/1.1", answeredByProxy: "200 OK" },
  { name: "a GET with a body", headers: ["Content-Length: 3"], body: "abc", isHttp2: true },
  { name: "a method without a body gets a length", line: "POST / HTTP/1.1", seen: withHeader("content-length", "0") },

  // Request targets.
  ...[
    "//a//b/",
    "/a/./b/../c",
    "/a%2Fb%2f%5C%00%25",
    "/a\\b",
    "/?",
    "/?q=a+b%20c&&=;",
    "/;p=1/x",
    "/~a!$&'()*+,=:@",
    "/a|b^c`d{e}",
  ].map((target): Row => ({ name: `target ${target}`, line: `GET ${target} HTTP/1.1` })),
  {
    name: "a target with a host becomes a path, its host the Host",
    line: "GET http://other.example/x?y HTTP/1.1",
    seen: (direct) => ({
      ...direct,
      target: "/x?y",
      headers: direct.headers.map(([name, value]) => [name, name === "Host" ? "other.example" : value]),
    }),
  },
  { name: "a fragment is cut off", line: "GET /a?b#c HTTP/1.1", seen: (direct) => ({ ...direct, target: "/a?b" }) },
  {
    name: "bytes beyond ASCII in a target are refused",
    line: "GET /\xc3\xa9 HTTP/1.1",
    answeredByProxy: "400 Bad Request",
  },

  // Bodies and versions.
  {
    name: "a body with its length",
    line: "POST / HTTP/1.1",
    headers: ["Content-Length: 300000"],
    body: "x".repeat(300_000),
    isHttp2: true,
  },
  { name: "an empty body with its length", line: "POST / HTTP/1.1", headers: ["Content-Length: 0"] },
  {
    name: "a body in chunks with trailers",
    line: "POST / HTTP/1.1",
    headers: ["Transfer-Encoding: chunked"],
    body: "3;e=1\r\nabc\r\n2\r\nde\r\n0\r\nX-Sum: 5\r\n\r\n",
  },
  {
    name: "a body that is asked for",
    line: "POST / HTTP/1.1",
    headers: ["Expect: 100-continue", "Content-Length: 3"],
    interim: "HTTP/1.1 100 Continue\r\n\r\n",
    afterInterim: "abc",
  },
  {
    name: "a body that is refused",
    line: "POST / HTTP/1.1",
    headers: ["Expect: 100-continue", "Content-Length: 3"],
    response: answer(["HTTP/1.1 417 No", "Content-Length: 0", DATE]),
    isEarly: true,
  },
  { name: "another expectation", line: "POST / HTTP/1.1", headers: ["Expect: more", "Content-Length: 0"] },
  {
    name: "HTTP/1.0 without a host",
    line: "GET / HTTP/1.0",
    host: "",
    seen: (direct) => ({ ...direct, headers: [["host", "localhost"], ...direct.headers] }),
  },
  { name: "HTTP/1.0 that keeps its connection", line: "GET / HTTP/1.0", headers: ["Connection: keep-alive"] },
  { name: "a connection that the client closes", headers: ["Connection: close"] },

  // Answers.
  {
    name: "case, order and repetitions of an answer's headers, its reason and its server",
    response: answer(
      [
        "HTTP/1.1 200 Fine By Me",
        "X-OnE: 1",
        "set-COOKIE: a=b",
        "set-COOKIE: c=d",
        "Server: mine/1",
        "X-Empty:",
        "X-Bytes: \xe9",
        DATE,
        "x_under: 1",
        "Content-Length: 2",
      ],
      "ok",
    ),
  },
  { name: "an answer without a date gets one", response: answer(["HTTP/1.1 200 OK", "Content-Length: 2"], "ok") },
  {
    name: "150 headers of an answer",
    response: answer(
      ["HTTP/1.1 200 OK", ...times(150, (index) => `x-${index}: ${index}`), DATE, "Content-Length: 2"],
      "ok",
    ),
    isHttp2: true,
  },
  {
    name: "headers of an answer of 100 KiB",
    response: answer(
      ["HTTP/1.1 200 OK", ...times(5, (index) => `x-${index}: ${"b".repeat(20_480)}`), DATE, "Content-Length: 2"],
      "ok",
    ),
    isHttp2: true,
  },
  {
    name: "an answer in chunks with trailers",
    response: answer(
      ["HTTP/1.1 200 OK", DATE, "Transfer-Encoding: chunked", "Trailer: X-Sum"],
      "3\r\nabc\r\n0\r\nX-Sum: 3\r\n\r\n",
    ),
  },
  {
    name: "an answer that ends with its connection comes in chunks",
    response: answer(["HTTP/1.1 200 OK", DATE], "to the end"),
    isClosing: true,
    got: (direct) => ({ ...direct, headers: [...direct.headers, ["transfer-encoding", "chunked"]] }),
  },
  { name: "an empty answer", response: answer(["HTTP/1.1 200 OK", DATE, "Content-Length: 0"]), isHttp2: true },
  ...["204 No Content", "304 Not Modified"].map(
    (status): Row => ({
      name: `status ${status}`,
      response: answer([`HTTP/1.1 ${status}`, DATE, "ETag: x"]),
      isHttp2: true,
    }),
  ),
  {
    name: "a 304 with the length of what it stands for",
    response: answer(["HTTP/1.1 304 Not Modified", DATE, "Content-Length: 17"]),
  },
  ...[
    "201 Created",
    "206 Partial Content",
    "301 Gone Over There",
    "401 Who",
    "418 Teapot",
    "429 Slow Down",
    "500 Broken",
    "503 Busy",
    "299 Odd",
    "599 Odder",
  ].map(
    (status): Row => ({
      name: `status ${status}`,
      response: answer([`HTTP/1.1 ${status}`, DATE, "Retry-After: 1", "Location: /x", "Content-Length: 2"], "ok"),
      isHttp2: true,
    }),
  ),
  {
    name: "HEAD with the length of what it stands for",
    line: "HEAD / HTTP/1.1",
    response: answer(["HTTP/1.1 200 OK", DATE, "Content-Length: 1234"]),
    isHttp2: true,
  },
  {
    name: "HEAD without a length",
    line: "HEAD / HTTP/1.1",
    response: answer(["HTTP/1.1 200 OK", DATE]),
    got: (direct) => ({ ...direct, headers: [...direct.headers, ["transfer-encoding", "chunked"]] }),
  },
  { name: "early hints", interim: "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n" },
  {
    name: "encoded content",
    response: answer(
      ["HTTP/1.1 200 OK", DATE, "Content-Encoding: gzip", "Vary: Accept-Encoding", "Content-Length: 4"],
      "\x1f\x8b\x00\xff",
    ),
  },
  {
    name: "an answer that closes its connection",
    response: answer(["HTTP/1.1 200 OK", DATE, "Connection: close", "Content-Length: 2"], "ok"),
    isClosing: true,
  },
  {
    name: "an answer about proxies and limits",
    response: answer(
      [
        "HTTP/1.1 200 OK",
        DATE,
        "Via: 1.1 me",
        "X-RateLimit: 1",
        "Alt-Svc: clear",
        "Strict-Transport-Security: max-age=1",
        "X-Request-Id: 8",
        "Content-Length: 2",
      ],
      "ok",
    ),
  },
  {
    name: "an answer before the body is read",
    line: "POST / HTTP/1.1",
    headers: ["Content-Length: 5"],
    body: "hello",
    isEarly: true,
    response: answer(["HTTP/1.1 413 Too Big", DATE, "Content-Length: 3"], "big"),
  },
];

const directory = mkdtempSync(join(tmpdir(), "monoceros-conformance-"));
const children: ChildProcess[] = [];
after(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(directory, { recursive: true });
});

const ANSWERS = join(directory, "answers.json");
writeFileSync(
  ANSWERS,
  JSON.stringify(
    Object.fromEntries(ROWS.map((row, index) => [String(index), { ...row, response: row.response ?? OK }])),
  ),
);
const WORKER = resolve("test/support/recordingWorker.ts");

/** What one worker has seen. */
class Recording {
  readonly file: string;
  readonly #taken = new Map<string, number>();

  constructor(name: string) {
    this.file = join(directory, name);
  }

  #requestsOf(row: number): SeenRequest[] {
    const lines = existsSync(this.file) ? readFileSync(this.file, "utf8").split("\n").slice(0, -1) : [];
    return lines
      .map((line) => JSON.parse(line) as SeenRequest)
      .filter(({ headers }) => headerOf(headers, "x-row") === String(row));
  }

  /** The next request of a row; it may still be on its way to the file. */
  async next(row: number): Promise<SeenRequest> {
    const taken = this.#taken.get(String(row)) ?? 0;
    const request = await eventually(() => this.#requestsOf(row)[taken], "the worker has seen the request");
    this.#taken.set(String(row), taken + 1);
    return request;
  }

  assertNothingNew(row: number): void {
    assert.deepEqual(this.#requestsOf(row).slice(this.#taken.get(String(row)) ?? 0), []);
  }
}

async function startDirect(recording: Recording, onSocket: boolean): Promise<ServerPlace> {
  const place = onSocket ? { path: join(directory, "direct.sock") } : { port: await freePort() };
  const env = { ...process.env, ANSWERS, RECORD: recording.file };
  const child = spawn(process.execPath, ["path" in place ? [WORKER, place.path] : [WORKER]].flat(), {
    env: "port" in place ? { ...env, PORT: String(place.port) } : env,
    stdio: ["ignore", "pipe", "inherit"],
  });
  children.push(child);
  await once(child.stdout, "data");
  return place;
}

/** The bytes of a row's request. */
function textOf(row: Row, index: number): string {
  const { line = "GET / HTTP/1.1", host = "Host: a.example:8080", headers = [], body = "" } = row;
  const lines = [line, ...(host === "" ? [] : [host]), `X-Row: ${index}`, ...headers];
  return `${lines.join("\r\n")}\r\n\r\n${body}`;
}

/** Headers of one hop, which every proxy removes; those of an upgrade that takes place stay. */
const HOP = ["connection", "keep-alive", "proxy-connection", "te"];

function passing(headers: HeaderList): HeaderList {
  const isUpgrade = /websocket/iu.test(headerOf(headers, "upgrade") ?? "");
  const te = headers.filter(([name, value]) => name.toLowerCase() === "te" && value.includes("trailers"));
  const kept = without(headers, ...HOP.filter((name) => !isUpgrade || name !== "connection"), "transfer-encoding");
  return [...kept, ...te.map(([name]) => [name, "trailers"] as const)];
}

function sorted(headers: HeaderList): HeaderList {
  return headers.toSorted(([a], [b]) =>
    a.toLowerCase() < b.toLowerCase() ? -1 : a.toLowerCase() > b.toLowerCase() ? 1 : 0,
  );
}

/** What the documented differences make of what a worker sees directly. */
function expectedSeen(row: Row, direct: SeenRequest): SeenRequest {
  const { headers, trailers, ...seen } = row.seen?.(direct) ?? direct;
  const added: [string, string][] = [];
  if (headerOf(headers, "x-forwarded-proto") === undefined) added.push(["x-forwarded-proto", "http"]);
  if (headerOf(headers, "x-forwarded-for") === undefined) added.push(["x-forwarded-for", "127.0.0.1"]);
  const appended = headers.map(
    ([name, value]) => [name, name.toLowerCase() === "x-forwarded-for" ? `${value},127.0.0.1` : value] as const,
  );
  return { ...seen, version: "HTTP/1.1", headers: [...appended, ...added], trailers: lowered(trailers) };
}

function compareSeen(row: Row, direct: SeenRequest, proxied: SeenRequest): void {
  const expected = expectedSeen(row, direct);
  const isChunked = (request: SeenRequest) => headerOf(request.headers, "transfer-encoding") !== undefined;
  assert.equal(isChunked(proxied), isChunked(expected));
  // The order of headers of one name, and of all that the client sent, is kept; Envoy's own come last.
  const own = ["content-length", "x-forwarded-proto", "x-forwarded-for"];
  const order = (request: SeenRequest) => passing(without(request.headers, ...own)).map(([name]) => name);
  assert.deepEqual(
    order(proxied).filter((name) => name !== "TE"),
    order(expected).filter((name) => name !== "TE"),
  );
  assert.deepEqual(
    { ...proxied, headers: sorted(passing(proxied.headers)) },
    { ...expected, headers: sorted(passing(expected.headers)) },
  );
}

function compareGot(row: Row, direct: GotAnswer, proxied: GotAnswer): void {
  const { headers, trailers, ...rest } = row.got?.(direct) ?? direct;
  const isChunked = (answered: HeaderList) => headerOf(answered, "transfer-encoding") !== undefined;
  assert.equal(isChunked(proxied.headers), isChunked(headers));
  const dated = headerOf(headers, "date") === undefined ? without(proxied.headers, "date") : proxied.headers;
  if (headerOf(headers, "date") === undefined) assert.match(headerOf(proxied.headers, "date") ?? "", /GMT$/u);
  const version = (row.line ?? "").endsWith("HTTP/1.0") ? "HTTP/1.0" : "HTTP/1.1";
  assert.deepEqual(
    { ...proxied, headers: passing(dated) },
    { ...rest, version, headers: passing(headers), trailers: lowered(trailers) },
  );
}

/** Sends a row over HTTP/2; pseudo-headers stand for the request line and Host. */
async function askHttp2(
  session: ClientHttp2Session,
  row: Row,
  index: number,
): Promise<{ status: string; headers: IncomingHttpHeaders; body: string }> {
  const [method = "", path = ""] = (row.line ?? "GET / HTTP/1.1").split(" ");
  const fields: Record<string, string> = { "x-row": String(index) };
  for (const line of row.headers ?? []) {
    const colon = line.indexOf(":");
    fields[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
  }
  const authority = (row.host ?? "Host: a.example:8080").slice("Host: ".length);
  const endStream = row.body === undefined;
  const stream = session.request(
    { ":method": method, ":path": path, ":authority": authority, ...fields },
    { endStream },
  );
  if (!endStream) stream.end(Buffer.from(row.body ?? "", "latin1"));
  let body = "";
  stream.setEncoding("latin1");
  stream.on("data", (chunk: string) => {
    body += chunk;
  });
  const ended = once(stream, "close");
  const [headers] = (await once(stream, "response")) as [IncomingHttpHeaders & { ":status": number }];
  await ended;
  return { status: String(headers[":status"]), headers, body };
}

const MODES = [
  ["a port", (port: number) => ({ server: { start_port: port }, args: [WORKER] }), false],
  ["a Unix socket", () => ({ server: { socket_arg: { name: WORKER } }, args: [] }), true],
] as const;

for (const [mode, address, onSocket] of MODES)
  test(`requests and responses pass the proxy unchanged, worker on ${mode}`, async (context) => {
    const [directly, proxied] = [new Recording(`direct ${mode}`), new Recording(`proxied ${mode}`)];
    const direct = await startDirect(directly, onSocket);
    const port = await freePorts(4);
    const { server, args } = address(port + 1);
    const workers = poolOf({
      name: "web",
      exec: process.execPath,
      args,
      env: { ANSWERS, RECORD: proxied.file },
      server: { ...server, listener_address: "127.0.0.1", listener_port: port, drain_timeout: "100ms" },
    });
    await using controller = await ControllerUnderTest.start({ workers });
    await controller.ready();
    const session = connectHttp2(`http://127.0.0.1:${port}`, {
      maxHeaderListPairs: 1000,
      maxSendHeaderBlockLength: 1_000_000,
    });
    for (const [index, row] of ROWS.entries()) {
      await context.test(row.name, async () => {
        const { afterInterim, afterAnswer } = row;
        const request = {
          text: textOf(row, index),
          ...(afterInterim === undefined ? {} : { afterInterim }),
          ...(afterAnswer === undefined ? {} : { afterAnswer }),
        };
        const got = await exchange({ port }, request);
        if (row.answeredByProxy !== undefined) {
          assert.equal(got.status, row.answeredByProxy);
          proxied.assertNothingNew(index);
          return;
        }
        const gotDirectly = await exchange(direct, request);
        compareGot(row, gotDirectly, got);
        if (row.isEarly === true && row.body === undefined) return;
        const seenDirectly = await directly.next(index);
        compareSeen(row, seenDirectly, await proxied.next(index));
        proxied.assertNothingNew(index);
        if (row.isHttp2 !== true) return;
        const answered = await askHttp2(session, row, index);
        assert.deepEqual([answered.status, answered.body], [gotDirectly.status.slice(0, 3), gotDirectly.body]);
        const names = without(gotDirectly.headers, ...HOP, "transfer-encoding", "date", "set-cookie");
        for (const [name, value] of names) assert.equal(answered.headers[name.toLowerCase()], value, name);
        const seen = await proxied.next(index);
        const expected = expectedSeen(row, seenDirectly);
        assert.deepEqual([seen.method, seen.target, seen.body], [expected.method, expected.target, expected.body]);
        const framing = ["content-length", "transfer-encoding"];
        assert.deepEqual(
          sorted(lowered(without(passing(seen.headers), ...framing))),
          sorted(lowered(without(passing(expected.headers), ...framing))),
        );
      });
    }
    session.destroy();
  });
