import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type IncomingHttpHeaders, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, createServer as createTcpServer, type Server } from "node:net";
import { type TestContext, test } from "node:test";
import { freePort } from "../../../test/support/ports.ts";
import type { AttemptOutcome } from "../../core/policy/probe.ts";
import type { ProbeAddress } from "./attempt.ts";
import { attemptGrpc, decodeHealthStatus, encodeHealthRequest } from "./grpcProbe.ts";

const SERVING = Buffer.from([0, 0, 0, 0, 2, 0x08, 1]);

interface Answer {
  readonly status?: number;
  readonly body?: Buffer;
  readonly grpcStatus?: string;
  /** The gRPC status comes with the head, without a body. */
  readonly trailersOnly?: boolean;
}

interface ExpectedOwner {
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
}

/** The words tell the same as what is counted. */
function failure(reason: string): AttemptOutcome {
  if (/refused|does not exist/u.test(reason)) return { kind: "failure", reason, how: "refused" };
  return reason.startsWith("no answer within")
    ? { kind: "failure", reason, how: "timeout" }
    : { kind: "failure", reason };
}

function check(address: ProbeAddress, service?: string, timeoutMs = 10_000): Promise<AttemptOutcome> {
  return new Promise((done) => attemptGrpc(address, { service }, timeoutMs, done));
}

async function started(server: Server): Promise<ProbeAddress> {
  await once(server.listen(0, "127.0.0.1"), "listening");
  return { port: (server.address() as AddressInfo).port };
}

/** A gRPC server that gives one answer to everything and keeps what it was owner. */
async function grpcServer(
  context: TestContext,
  answer: Answer,
): Promise<{ address: ProbeAddress; owner: ExpectedOwner[] }> {
  const owner: ExpectedOwner[] = [];
  const server = createServer();
  const { status = 200, body = SERVING, grpcStatus = "0", trailersOnly = false } = answer;
  server.on("stream", (stream: ServerHttp2Stream, headers) => {
    const chunks: Buffer[] = [];
    stream.on("error", () => {});
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => {
      owner.push({ headers, body: Buffer.concat(chunks) });
      const head = { ":status": status, "content-type": "application/grpc" };
      if (trailersOnly) {
        stream.respond({ ...head, "grpc-status": grpcStatus }, { endStream: true });
        return;
      }
      stream.respond(head, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": grpcStatus }));
      stream.end(body);
    });
  });
  context.after(() => server.close());
  return { address: await started(server), owner };
}

test("SERVING is success, and the request follows the health protocol", async (context) => {
  const { address, owner } = await grpcServer(context, {});
  assert.deepEqual(await check(address, "shop.Cart"), { kind: "success" });
  const [request] = owner;
  assert.equal(request?.headers[":method"], "POST");
  assert.equal(request?.headers[":path"], "/grpc.health.v1.Health/Check");
  assert.equal(request?.headers["content-type"], "application/grpc");
  assert.equal(request?.headers["te"], "trailers");
  assert.equal(request?.headers[":authority"], "localhost");
  assert.deepEqual(request?.body, Buffer.concat([Buffer.from([0, 0, 0, 0, 11, 0x0a, 9]), Buffer.from("shop.Cart")]));
});

test("a request for the whole server is empty, and a long name is encoded with a two-byte length", () => {
  assert.deepEqual(encodeHealthRequest(undefined), Buffer.from([0, 0, 0, 0, 0]));
  assert.deepEqual(encodeHealthRequest("").length, 5);
  const long = encodeHealthRequest("x".repeat(300));
  assert.deepEqual([...long.subarray(0, 8)], [0, 0, 0, 1, 47, 0x0a, 0xac, 0x02]);
  assert.equal(long.length, 308);
});

test("any other status is a failure that names the status", async (context) => {
  const cases: readonly (readonly [Answer, string])[] = [
    [{ body: Buffer.from([0, 0, 0, 0, 2, 0x08, 2]) }, "NOT_SERVING"],
    [{ body: Buffer.from([0, 0, 0, 0, 2, 0x08, 3]) }, "SERVICE_UNKNOWN"],
    [{ body: Buffer.from([0, 0, 0, 0, 2, 0x08, 9]) }, "health status 9"],
    [{ body: Buffer.from([0, 0, 0, 0, 0]) }, "UNKNOWN"],
    [{ body: Buffer.alloc(0) }, "the response is not a health status"],
    [{ body: Buffer.alloc(9000) }, "the response is too long"],
    [{ status: 503 }, "HTTP 503"],
    [
      { grpcStatus: "12", trailersOnly: true },
      "gRPC status UNIMPLEMENTED: the worker does not speak the health protocol",
    ],
    [{ grpcStatus: "5", trailersOnly: true }, "gRPC status NOT_FOUND: the service is not known to the worker"],
    [{ grpcStatus: "13", body: Buffer.alloc(0) }, "gRPC status 13"],
  ];
  for (const [answer, reason] of cases) {
    const { address } = await grpcServer(context, answer);
    assert.deepEqual(await check(address), failure(reason));
  }
});

test("a frame that is compressed, truncated or of the wrong length has no status", () => {
  const bad = [
    [1, 0, 0, 0, 2, 8, 1],
    [0, 0, 0, 0, 3, 8, 1],
    [0, 0, 0],
    [0, 0, 0, 0, 2, 0x10, 1],
    [0, 0, 0, 0, 2, 8, 0x81],
  ];
  for (const bytes of bad) assert.equal(decodeHealthStatus(Buffer.from(bytes)), undefined);
  assert.equal(decodeHealthStatus(SERVING), 1);
});

test("a server that refuses, hangs, closes or speaks another protocol fails the probe", async (context) => {
  assert.deepEqual(await check({ port: await freePort() }), failure("connection refused (ECONNREFUSED)"));
  const servers = [
    createTcpServer(() => {}),
    createTcpServer((socket) => socket.destroy()),
    createTcpServer((socket) => socket.end("HTTP/1.1 400 Bad Request\r\n\r\n")),
  ];
  const reasons: string[] = [];
  for (const server of servers) {
    const sockets: { destroy(): void }[] = [];
    server.on("connection", (socket) => sockets.push(socket.on("error", () => {})));
    context.after(() => {
      server.close();
      for (const socket of sockets) socket.destroy();
    });
    const outcome = await check(await started(server), undefined, 200);
    assert.equal(outcome.kind, "failure");
    reasons.push("reason" in outcome ? outcome.reason : "");
  }
  assert.equal(reasons[0], "no answer within 200ms");
  for (const reason of reasons.slice(1)) assert.doesNotMatch(reason, /no answer/u);
});
