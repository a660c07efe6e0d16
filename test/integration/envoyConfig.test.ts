/**
 * The generated configuration before a real Envoy: every combination of a pairwise matrix passes its validation, and one
 * Envoy after another serves, drains, refuses and restarts. Workers are servers of this process, or of a child that can
 * be killed. Everything is on loopback, on ports that were free a moment ago.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { Agent, createServer, type IncomingMessage, request, type Server } from "node:http";
import { connect as connectHttp2, createServer as createHttp2Server, type ServerHttp2Stream } from "node:http2";
import { type AddressInfo, connect as connectTcp, createServer as createTcpServer, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { before, describe, test } from "node:test";
import { connect as connectTls } from "node:tls";
import { AdminClient, adminAddressOf } from "../../src/envoy/adminClient.ts";
import { type EnvoySearch, locateEnvoy, type Run } from "../../src/envoy/binary.ts";
import { bootstrapOf, validationBootstrapOf } from "../../src/envoy/bootstrap.ts";
import { parseValidationOutput, serveArguments, validateArguments } from "../../src/envoy/commandLine.ts";
import { type Endpoint, type EndpointHealth, type ProxySpec, proxyPaths } from "../../src/envoy/proxySpec.ts";
import { Publisher, type Refusal } from "../../src/envoy/publisher.ts";
import { SeededRandom } from "../support/random.ts";

const ENVOY = resolve("dist/envoy");

/** A throw-away certificate for localhost. */
const CERTIFICATE = `-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUcjwXR2UlOQnTzcXX7EcPvscFn9UwCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyNDA0MDYyMFoYDzIxMjYxMDMx
MDQwNjIwWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAAQ8JRPHbf/Fv+gvoZwnal3wtrIlZAn1EokoHyZj+0Hk+YUz/Ns4Ah+b
v2dYnfOLY6eKT8xO13M3YB9ZKJyCN/p4o28wbTAdBgNVHQ4EFgQU3AUOJX8xYBXM
7E1b94K64HHr910wHwYDVR0jBBgwFoAU3AUOJX8xYBXM7E1b94K64HHr910wDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgbyZ2KtUmO0y8k0iz7oLmekeJYEraL6HSE0FIKdBrSY4CIQC6
+NltfbsY5CTHH6h8p74kaccOdbJK/JPIs6eKzr/bQw==
-----END CERTIFICATE-----
`;
const PRIVATE_KEY = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgBVDBRo7Q/fyaBWNz
voTxZ1uOktsKAqtUSWJh4GQvNfahRANCAAQ8JRPHbf/Fv+gvoZwnal3wtrIlZAn1
EokoHyZj+0Hk+YUz/Ns4Ah+bv2dYnfOLY6eKT8xO13M3YB9ZKJyCN/p4
-----END PRIVATE KEY-----
`;

before(() => {
  assert.ok(existsSync(ENVOY), "dist/envoy is missing: run scripts/envoy.sh");
});

function temporaryDirectory(): string {
  return mkdtempSync(join(tmpdir(), "mc-envoy-"));
}

async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

function proxySpec(directory: string, changes: Partial<ProxySpec> = {}): ProxySpec {
  return {
    pool: "web",
    listenerAddress: "127.0.0.1",
    listenerPort: 10_000,
    adminPort: undefined,
    directory,
    protocol: "http",
    algorithm: "ROUND_ROBIN",
    hashOn: undefined,
    requestTimeoutMs: 0,
    maxConcurrentPerWorker: "unlimited",
    maxQueue: 1024,
    workerKeepaliveMs: 1000,
    healthCheckPath: undefined,
    concurrency: 1,
    accessLog: false,
    tls: undefined,
    drainTimeMs: 1000,
    ...changes,
  };
}

const run: Run = async (file, args) => {
  const { status, stdout, stderr, error } = spawnSync(file, args, { encoding: "utf8", timeout: 20_000 });
  if (error !== undefined) throw error;
  return { exitCode: status ?? undefined, output: stdout + stderr };
};

describe("the generated configuration passes Envoy's own validation", () => {
  /** Every option with the values that make a difference; the first ones are the defaults. */
  const OPTIONS = {
    protocol: ["http", "grpc", "tcp"],
    algorithm: ["ROUND_ROBIN", "LEAST_REQUEST", "RANDOM", "RING_HASH", "MAGLEV"],
    hashOn: [undefined, "header:X-User", "cookie:session", "query:id", "source_ip"],
    tls: [false, true],
    maxConcurrentPerWorker: ["unlimited", 1, 100],
    maxQueue: [1024, 0],
    upstream: ["port", "socket", "mixed", "none"],
    healthCheckPath: [undefined, "/health"],
    admin: ["socket", "port"],
    requestTimeoutMs: [0, 1500],
    workerKeepaliveMs: [1000, 0],
    concurrency: [1, 4],
    accessLog: [false, true],
    listenerAddress: ["0.0.0.0", "::", "127.0.0.1"],
  } as const;
  type Option = keyof typeof OPTIONS;
  type Row = { readonly [K in Option]: (typeof OPTIONS)[K][number] };
  const NAMES = Object.keys(OPTIONS) as Option[];

  /** Rows in which every two values of two options meet at least once, and at least `least` of them. */
  function pairwise(least: number): Row[] {
    const random = new SeededRandom(7);
    const pairsOf = (row: Row) =>
      NAMES.flatMap((a, index) => NAMES.slice(index + 1).map((b) => `${a}=${String(row[a])} ${b}=${String(row[b])}`));
    const open = new Set<string>();
    for (const [index, a] of NAMES.entries()) {
      for (const b of NAMES.slice(index + 1)) {
        for (const x of OPTIONS[a]) for (const y of OPTIONS[b]) open.add(`${a}=${String(x)} ${b}=${String(y)}`);
      }
    }
    const anyRow = () => Object.fromEntries(NAMES.map((name) => [name, random.pick<unknown>(OPTIONS[name])])) as Row;
    const gain = (row: Row) => pairsOf(row).filter((pair) => open.has(pair)).length;
    const rows: Row[] = [];
    while (rows.length < least || open.size > 0) {
      const best = Array.from({ length: 60 }, anyRow).reduce((a, b) => (gain(b) > gain(a) ? b : a));
      for (const pair of pairsOf(best)) open.delete(pair);
      rows.push(best);
    }
    return rows;
  }

  function endpointsOf(upstream: Row["upstream"], directory: string): Endpoint[] {
    if (upstream === "none") return [];
    const health: readonly EndpointHealth[] = ["healthy", "draining", "unhealthy"];
    return health.map((each, slot) => {
      const socketPath = `${directory}/web-${slot}.sock`;
      const isSocket = upstream === "socket" || (upstream === "mixed" && slot === 1);
      return { workerId: `web-${slot}`, address: isSocket ? { socketPath } : { port: 9090 + slot }, health: each };
    });
  }

  const rows = pairwise(64);

  test(`${rows.length} combinations, every two values of two options together`, (t) => {
    const directory = temporaryDirectory();
    t.after(() => rmSync(directory, { recursive: true }));
    const tls = { certPath: join(directory, "cert.pem"), keyPath: join(directory, "key.pem") };
    writeFileSync(tls.certPath, CERTIFICATE);
    writeFileSync(tls.keyPath, PRIVATE_KEY);
    const file = join(directory, "validate.json");
    for (const { upstream, admin, tls: isTls, ...options } of rows) {
      const spec = proxySpec(directory, {
        ...options,
        adminPort: admin === "port" ? 8081 : undefined,
        tls: isTls ? tls : undefined,
      });
      writeFileSync(file, JSON.stringify(validationBootstrapOf(spec, endpointsOf(upstream, directory))));
      const { status, stderr } = spawnSync(ENVOY, validateArguments(file), { encoding: "utf8", timeout: 20_000 });
      assert.equal(status, 0, `${JSON.stringify({ ...options, upstream, admin, isTls })}\n${stderr}`);
      assert.deepEqual(parseValidationOutput(stderr), []);
    }
  });

  test("the bootstrap that refers to files passes as well, for both kinds of admin interface", (t) => {
    for (const adminPort of [undefined, 8081]) {
      const directory = temporaryDirectory();
      t.after(() => rmSync(directory, { recursive: true }));
      const spec = proxySpec(directory, { adminPort });
      const admin = new AdminClient(adminAddressOf(spec));
      new Publisher({ spec, admin }).prepare(endpointsOf("mixed", directory));
      const { bootstrap, ...resources } = proxyPaths(spec);
      assert.deepEqual(JSON.parse(readFileSync(bootstrap, "utf8")), bootstrapOf(spec));
      const { status, stderr } = spawnSync(ENVOY, validateArguments(bootstrap), { encoding: "utf8", timeout: 20_000 });
      assert.equal(status, 0, stderr);
      assert.equal(statSync(directory).mode & 0o777, 0o700);
      for (const kind of ["listeners", "clusters", "endpoints"] as const) {
        assert.equal(statSync(resources[kind].directory).mode & 0o777, 0o700);
        assert.equal(statSync(resources[kind].file).mode & 0o777, 0o600);
      }
    }
  });

  test("what is wrong is told in Envoy's words", (t) => {
    const directory = temporaryDirectory();
    t.after(() => rmSync(directory, { recursive: true }));
    const spec = proxySpec(directory, { tls: { certPath: "/none/cert.pem", keyPath: "/none/key.pem" } });
    const file = join(directory, "validate.json");
    writeFileSync(file, JSON.stringify(validationBootstrapOf(spec, [])));
    const { status, stderr } = spawnSync(ENVOY, validateArguments(file), { encoding: "utf8", timeout: 20_000 });
    assert.equal(status, 1);
    assert.match(parseValidationOutput(stderr).join("\n"), /\/none\/key\.pem/u, stderr);
  });
});

describe("the binary", () => {
  const search = (exec: string | undefined, changes: Partial<EnvoySearch> = {}): EnvoySearch => ({
    exec,
    pathVariable: "/none",
    ownDirectory: "/none",
    ...changes,
  });

  test("the pinned Envoy is found by path, on PATH and beside the controller, with its version", async () => {
    const version = { major: 1, minor: 40, patch: 0 };
    const dist = resolve("dist");
    assert.deepEqual(await locateEnvoy(search(ENVOY), run), { path: ENVOY, version });
    assert.deepEqual(await locateEnvoy(search("envoy", { pathVariable: `/none:${dist}` }), run), {
      path: ENVOY,
      version,
    });
    assert.deepEqual(await locateEnvoy(search(undefined, { ownDirectory: dist }), run), { path: ENVOY, version });
  });

  test("a missing, old, foreign or not executable binary is told apart", async (t) => {
    const directory = temporaryDirectory();
    t.after(() => rmSync(directory, { recursive: true }));
    const write = (name: string, body: string, mode: number) => {
      writeFileSync(join(directory, name), `#!/bin/sh\n${body}\n`, { mode });
      return join(directory, name);
    };
    const kindOf = async (exec: string) => {
      const found = await locateEnvoy(search(exec), run);
      return "kind" in found ? `${found.kind}: ${found.message}` : found;
    };
    const old = write("old", "echo 'envoy  version: 0123/1.29.4/Clean/RELEASE/BoringSSL'", 0o755);
    const foreign = write("foreign", "echo hello; exit 3", 0o755);
    const plain = write("plain", "", 0o644);
    assert.equal(await kindOf(old), `too-old: "${old}" is Envoy 1.29.4, older than 1.37.0`);
    assert.equal(await kindOf(foreign), `unusable: "${foreign}" is no Envoy: --version exited with 3 and said "hello"`);
    assert.equal(await kindOf(plain), `not-executable: "${plain}" is not executable`);
    assert.equal(await kindOf("/none/envoy"), 'not-found: "/none/envoy" does not exist');
    assert.equal(await kindOf("envoi"), 'not-found: executable "envoi" is not on PATH');
  });
});

/** A worker inside this process that answers with its id; `/sleep` is answered when the test says so. */
class Worker {
  readonly id: string;
  readonly server: Server;
  readonly requests: IncomingMessage[] = [];
  active = 0;
  mostActive = 0;
  /** Whether `/health` is answered with 200. */
  isHealthy = true;
  readonly #held: (() => void)[] = [];
  #onHeld: (() => void) | undefined;

  constructor(id: string) {
    this.id = id;
    this.server = createServer({ keepAliveTimeout: 5000 }, (incoming, response) => {
      if (incoming.url === "/health") {
        response.writeHead(this.isHealthy ? 200 : 503).end();
        return;
      }
      this.requests.push(incoming);
      this.active++;
      this.mostActive = Math.max(this.mostActive, this.active);
      const answer = () => {
        this.active--;
        response.writeHead(200, { "X-Worker-Id": id }).end(id);
      };
      if (incoming.url !== "/hold") answer();
      else {
        this.#held.push(answer);
        this.#onHeld?.();
      }
    });
    this.server.on("upgrade", (incoming, socket) => {
      this.requests.push(incoming);
      socket.write("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
      socket.on("error", () => {});
      socket.pipe(socket);
    });
  }

  /** Listens on a free port, or on a Unix socket. */
  async listen(socketPath?: string): Promise<this> {
    if (socketPath === undefined) this.server.listen(0, "127.0.0.1");
    else this.server.listen(socketPath);
    await once(this.server, "listening");
    return this;
  }

  endpoint(health: EndpointHealth = "healthy"): Endpoint {
    const address = this.server.address();
    assert.ok(address !== null);
    const at = typeof address === "string" ? { socketPath: address } : { port: address.port };
    return { workerId: this.id, address: at, health };
  }

  get heldCount(): number {
    return this.#held.length;
  }

  /** Waits until `count` requests are held. */
  async untilHeld(count: number): Promise<void> {
    while (this.#held.length < count) {
      await new Promise<void>((done) => {
        this.#onHeld = done;
      });
    }
  }

  release(): void {
    for (const answer of this.#held.splice(0)) answer();
  }

  close(): void {
    this.release();
    this.server.close();
    this.server.closeAllConnections();
  }
}

interface Answer {
  readonly status: number;
  readonly body: string;
  readonly response: IncomingMessage;
}

/** An Envoy with its publisher, clients and workers; everything ends with it. */
class ProxyUnderTest implements AsyncDisposable {
  readonly directory = temporaryDirectory();
  readonly workers: Worker[] = [];
  readonly refusals: Refusal[] = [];
  readonly agent = new Agent({ keepAlive: true });
  spec: ProxySpec;
  publisher: Publisher;
  admin: AdminClient;
  child: ChildProcess | undefined;
  output = "";

  constructor(changes: Partial<ProxySpec>) {
    this.spec = proxySpec(this.directory, changes);
    this.admin = new AdminClient(adminAddressOf(this.spec));
    this.publisher = new Publisher({
      spec: this.spec,
      admin: this.admin,
      onRefused: (refusal) => this.refusals.push(refusal),
    });
  }

  /** An Envoy that serves `count` workers. */
  static async start(count: number, changes: Partial<ProxySpec> = {}): Promise<ProxyUnderTest> {
    const proxy = new ProxyUnderTest({ listenerPort: await freePort(), ...changes });
    try {
      for (let slot = 0; slot < count; slot++) proxy.workers.push(await new Worker(`web-${slot}`).listen());
      proxy.publisher.prepare(proxy.workers.map((worker) => worker.endpoint()));
      const publication = await proxy.launch();
      assert.equal(publication.outcome, "applied", JSON.stringify(publication) + proxy.output);
      return proxy;
    } catch (error) {
      await proxy[Symbol.asyncDispose]();
      throw error;
    }
  }

  launch() {
    this.child = spawn(ENVOY, serveArguments(this.spec), { stdio: ["ignore", "pipe", "pipe"] });
    const keep = (chunk: Buffer) => {
      this.output += chunk.toString();
    };
    this.child.stdout?.on("data", keep);
    this.child.stderr?.on("data", keep);
    return this.publisher.confirmStarted(10_000);
  }

  worker(slot: number): Worker {
    const worker = this.workers[slot];
    assert.ok(worker !== undefined);
    return worker;
  }

  /** Publishes all workers, healthy unless said otherwise. */
  async publish(health: Readonly<Record<string, EndpointHealth>> = {}) {
    const publication = await this.publisher.publish(
      this.workers.map((worker) => worker.endpoint(health[worker.id] ?? "healthy")),
    );
    assert.equal(publication.outcome, "applied", JSON.stringify(publication) + this.output);
    return publication;
  }

  get(path = "/", headers: Readonly<Record<string, string>> = {}, method = "GET", body = ""): Promise<Answer> {
    return new Promise((done, fail) => {
      const options = { host: "127.0.0.1", port: this.spec.listenerPort, path, method, headers, agent: this.agent };
      const outgoing = request(options, (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("error", fail);
        response.on("end", () => done({ status: response.statusCode ?? 0, body: text, response }));
      });
      outgoing.on("error", fail);
      outgoing.end(body);
    });
  }

  /** How often each answer came to `count` requests at once. */
  async tally(count: number, path = "/", headers = {}): Promise<Record<string, number>> {
    const tally: Record<string, number> = {};
    for (const { status, body } of await Promise.all(Array.from({ length: count }, () => this.get(path, headers)))) {
      const key = status === 200 ? body : String(status);
      tally[key] = (tally[key] ?? 0) + 1;
    }
    return tally;
  }

  async kill(signal: NodeJS.Signals): Promise<void> {
    const { child } = this;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    child.kill(signal);
    await once(child, "close");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.agent.destroy();
    this.publisher[Symbol.dispose]();
    await this.kill("SIGKILL");
    this.admin[Symbol.dispose]();
    for (const worker of this.workers) worker.close();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** Asks again, a few milliseconds apart, until `done` says so. */
async function until<T>(ask: () => Promise<T>, done: (value: T) => boolean, what: string): Promise<T> {
  for (let attempt = 0; attempt < 1000; attempt++) {
    const value = await ask();
    if (done(value)) return value;
    await new Promise((wake) => setTimeout(wake, 5));
  }
  assert.fail(`it never came: ${what}`);
}

describe("a real Envoy", () => {
  test("a draining worker gets no new request, those in flight end well and are counted to zero", async () => {
    await using proxy = await ProxyUnderTest.start(2);
    const held = [proxy.get("/hold"), proxy.get("/hold")];
    await Promise.all([proxy.worker(0).untilHeld(1), proxy.worker(1).untilHeld(1)]);
    await proxy.publish({ "web-0": "draining" });
    assert.deepEqual(await proxy.tally(40), { "web-1": 40 });
    const draining = (await proxy.admin.clusters()).find((each) => each.workerId === "web-0");
    assert.equal(draining?.health, "DRAINING");
    assert.equal(draining.requestsActive, 1);
    for (const worker of proxy.workers) worker.release();
    assert.deepEqual((await Promise.all(held)).map((answer) => answer.body).sort(), ["web-0", "web-1"]);
    await until(
      () => proxy.admin.clusters(),
      (reports) => reports.every((each) => each.requestsActive === 0),
      "nothing in flight",
    );
    await proxy.publish();
    assert.deepEqual(await proxy.tally(40), { "web-0": 20, "web-1": 20 });
  });

  test("when every worker drains clients get 503 and no worker gets a request", async () => {
    for (const algorithm of ["ROUND_ROBIN", "LEAST_REQUEST", "RING_HASH"] as const) {
      await using proxy = await ProxyUnderTest.start(2, { algorithm });
      await proxy.publish({ "web-0": "draining", "web-1": "draining" });
      assert.deepEqual(await proxy.tally(10), { 503: 10 }, algorithm);
      assert.deepEqual(await proxy.publisher.publish([]).then((each) => each.outcome), "applied");
      assert.deepEqual(await proxy.tally(1), { 503: 1 });
    }
  });

  test("fifty changes are applied, each within the first renames", async (t) => {
    await using proxy = await ProxyUnderTest.start(3);
    const latencies: number[] = [];
    for (let round = 0; round < 50; round++) {
      const publication = await proxy.publish(round % 2 === 0 ? { "web-0": "draining" } : {});
      assert.ok(publication.outcome === "applied");
      latencies.push(publication.latencyMs);
    }
    latencies.sort((a, b) => a - b);
    const at = (share: number) => latencies[Math.floor(share * (latencies.length - 1))]?.toFixed(1);
    t.diagnostic(`publish to applied: p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, max ${at(1)} ms`);
  });

  test("changes at the same time melt into the latest, and each is told of the version that holds it", async () => {
    await using proxy = await ProxyUnderTest.start(2);
    const endpoints = proxy.workers.map((worker) => worker.endpoint());
    const publications = await Promise.all(
      Array.from({ length: 20 }, (_, index) => proxy.publisher.publish(endpoints.slice(0, index === 19 ? 1 : 2))),
    );
    assert.ok(publications.every((each) => each.outcome === "applied"));
    assert.ok(new Set(publications.map((each) => each.version)).size <= 2);
    assert.deepEqual(
      (await proxy.admin.clusters()).map((each) => each.workerId),
      ["web-0"],
    );
  });

  test("after a worker was killed only what it had begun fails, a POST is not sent twice, and its removal holds", async () => {
    await using proxy = await ProxyUnderTest.start(1);
    const code = `const s = require("node:http").createServer((q, r) => { if (q.url === "/hold") process.stdout.write("got"); else r.end("child"); });
      s.listen(0, "127.0.0.1", () => process.stdout.write(s.address().port + " "));`;
    const child = spawn(process.execPath, ["-e", code], { stdio: ["ignore", "pipe", "inherit"] });
    try {
      let said = "";
      child.stdout.on("data", (chunk: Buffer) => {
        said += chunk.toString();
      });
      await once(child.stdout, "data");
      const endpoint: Endpoint = { workerId: "web-1", address: { port: Number.parseInt(said, 10) }, health: "healthy" };
      const both = [proxy.worker(0).endpoint(), endpoint];
      assert.equal((await proxy.publisher.publish(both)).outcome, "applied");
      assert.deepEqual(await proxy.tally(20), { child: 10, "web-0": 10 });
      const begun = [proxy.get("/hold", {}, "POST", "x"), proxy.get("/hold", {}, "POST", "x")];
      const atChild = until(
        async () => said,
        (text) => text.endsWith("got"),
        "the child has the request",
      );
      await Promise.all([atChild, proxy.worker(0).untilHeld(1)]);
      child.kill("SIGKILL");
      await once(child, "exit");
      // The endpoint is still there; whoever would go to it tries another worker.
      assert.deepEqual(await proxy.tally(40), { "web-0": 40 });
      proxy.worker(0).release();
      const statuses = (await Promise.all(begun)).map((answer) => answer.status).sort();
      assert.deepEqual(statuses, [200, 503]);
      assert.equal(proxy.worker(0).requests.filter((each) => each.method === "POST").length, 1);
      await proxy.publish();
      assert.deepEqual(
        (await proxy.admin.clusters()).map((each) => each.workerId),
        ["web-0"],
      );
      assert.deepEqual(await proxy.tally(10), { "web-0": 10 });
    } finally {
      child.kill("SIGKILL");
    }
  });

  test("a refused update is reported with Envoy's reason, the old one stays, in the file too", async () => {
    await using proxy = await ProxyUnderTest.start(1);
    const paths = proxyPaths(proxy.spec);
    const good = readFileSync(paths.endpoints.file, "utf8");
    const bad = await proxy.publisher.publish([{ workerId: "web-9", address: { port: 70_000 }, health: "healthy" }]);
    assert.equal(bad.outcome, "refused");
    assert.equal(readFileSync(paths.endpoints.file, "utf8"), good);
    const goodListener = readFileSync(paths.listeners.file, "utf8");
    const tls = { certPath: "/none/cert.pem", keyPath: "/none/key.pem" };
    const worse = await proxy.publisher.reconfigure({ ...proxy.spec, tls });
    assert.ok(worse.outcome === "refused");
    assert.match(worse.refusal.reason, /^[^;]*\/none\/key\.pem$/u);
    assert.equal(readFileSync(paths.listeners.file, "utf8"), goodListener);
    assert.deepEqual(
      proxy.refusals.map((each) => each.kind),
      ["endpoints", "listeners"],
    );
    assert.deepEqual(await proxy.tally(5), { "web-0": 5 });
    await proxy.publish();
  });

  test("a listener whose port is taken is a refusal at the start, not an Envoy that looks ready", async () => {
    const squatter = createTcpServer().listen(0, "127.0.0.1");
    await once(squatter, "listening");
    await using proxy = new ProxyUnderTest({ listenerPort: (squatter.address() as AddressInfo).port });
    try {
      proxy.publisher.prepare([]);
      const publication = await proxy.launch();
      assert.ok(publication.outcome === "refused", JSON.stringify(publication));
      assert.match(publication.refusal.reason, /Address already in use/u);
      assert.equal(publication.refusal.kind, "listeners");
    } finally {
      squatter.close();
    }
  });

  test("two Envoys cannot share a port", async () => {
    await using first = await ProxyUnderTest.start(1, { concurrency: 2 });
    await using second = new ProxyUnderTest({ listenerPort: first.spec.listenerPort, concurrency: 2 });
    second.publisher.prepare([]);
    assert.equal((await second.launch()).outcome, "refused");
  });

  test("another request timeout takes effect without a restart, requests in flight stay counted", async () => {
    await using proxy = await ProxyUnderTest.start(1);
    const held = proxy.get("/hold");
    await proxy.worker(0).untilHeld(1);
    const publication = await proxy.publisher.reconfigure({ ...proxy.spec, requestTimeoutMs: 50 });
    assert.equal(publication.outcome, "applied", JSON.stringify(publication));
    assert.equal((await proxy.admin.clusters())[0]?.requestsActive, 1);
    assert.equal((await proxy.get("/hold")).status, 504);
    proxy.worker(0).release();
    assert.equal((await held).status, 200);
  });

  test("an Envoy that was killed comes back with the latest endpoints, also those written while it was gone", async () => {
    await using proxy = await ProxyUnderTest.start(2);
    await proxy.kill("SIGKILL");
    assert.equal(await proxy.admin.ready(), false);
    const meanwhile = await proxy.publisher.publish([proxy.worker(1).endpoint()]);
    assert.equal(meanwhile.outcome, "unconfirmed");
    assert.equal((await proxy.launch()).outcome, "applied");
    assert.equal(await proxy.admin.ready(), true);
    assert.deepEqual(await proxy.tally(4), { "web-1": 4 });
  });

  test("a drain tells clients to leave, closing refuses new ones, what is in flight ends well and Envoy stays", async () => {
    await using proxy = await ProxyUnderTest.start(1);
    const startedAt = performance.now();
    const held = proxy.get("/hold");
    await proxy.worker(0).untilHeld(1);
    assert.deepEqual(await proxy.admin.downstream(), { requestsActive: 1, connectionsActive: 1, requestsTotal: 1 });
    await proxy.admin.drainListeners();
    // Longer than the drain time of a second: clients are told to leave, who comes is still served.
    const left = await until(
      () => proxy.get("/"),
      ({ response }) => response.headers.connection === "close" && performance.now() - startedAt > 1200,
      "clients are told to leave",
    );
    assert.equal(left.status, 200);
    await proxy.admin.closeListeners();
    const socket = connectTcp(proxy.spec.listenerPort, "127.0.0.1");
    const [error] = await once(socket, "error");
    assert.equal((error as NodeJS.ErrnoException).code, "ECONNREFUSED");
    assert.equal((await proxy.admin.downstream()).requestsActive, 1);
    proxy.worker(0).release();
    const answer = await held;
    assert.equal(answer.status, 200);
    assert.equal(answer.response.headers.connection, "close");
    await until(
      () => proxy.admin.downstream(),
      (report) => report.requestsActive === 0 && report.connectionsActive === 0,
      "no client left",
    );
    assert.equal(proxy.child?.exitCode, null);
    const ended = once(proxy.child, "close");
    await proxy.admin.quit();
    assert.deepEqual(await ended, [0, null]);
  });

  test("LEAST_REQUEST gives each of n requests a worker of its own", async () => {
    await using proxy = await ProxyUnderTest.start(6, { algorithm: "LEAST_REQUEST" });
    const held: Promise<Answer>[] = [];
    for (let count = 1; count <= 6; count++) {
      held.push(proxy.get("/hold"));
      await until(
        async () => proxy.workers.reduce((sum, worker) => sum + worker.heldCount, 0),
        (sum) => sum === count,
        "the request is held",
      );
    }
    assert.deepEqual(
      proxy.workers.map((worker) => worker.heldCount),
      [1, 1, 1, 1, 1, 1],
    );
    for (const worker of proxy.workers) worker.release();
    await Promise.all(held);
  });

  test("a worker never has more than its limit, the queue is bounded, and what waits is served", async () => {
    await using proxy = await ProxyUnderTest.start(2, {
      algorithm: "LEAST_REQUEST",
      maxConcurrentPerWorker: 2,
      maxQueue: 3,
    });
    // One after the other: a request waits in the queue for a moment while its connection is made.
    const all: Promise<Answer>[] = [];
    for (let count = 1; count <= 4; count++) {
      all.push(proxy.get("/hold"));
      await until(
        async () => proxy.workers.reduce((sum, worker) => sum + worker.heldCount, 0),
        (sum) => sum === count,
        "the request is held",
      );
    }
    for (let count = 0; count < 6; count++) all.push(proxy.get("/hold"));
    const reports = await until(
      () => proxy.admin.clusters(),
      (each) => each.reduce((sum, report) => sum + report.requestsPending, 0) === 3,
      "three requests wait",
    );
    assert.deepEqual(
      reports.map((each) => each.requestsActive),
      [2, 2],
    );
    const ended = Promise.all(all);
    const isOver = ended.then(() => true);
    while (!(await Promise.race([isOver, new Promise<boolean>((wake) => setTimeout(() => wake(false), 2))]))) {
      for (const worker of proxy.workers) worker.release();
    }
    assert.deepEqual((await ended).map((answer) => answer.status).sort(), [...Array(7).fill(200), 503, 503, 503]);
    assert.deepEqual(
      proxy.workers.map((worker) => worker.mostActive),
      [2, 2],
    );
  });

  test("a hash keeps equal values with one worker, and spreads others", async () => {
    for (const algorithm of ["RING_HASH", "MAGLEV"] as const) {
      await using proxy = await ProxyUnderTest.start(3, { algorithm, hashOn: "header:x-user" });
      const seen = new Set<string>();
      for (let user = 0; user < 20; user++) {
        const tally = await proxy.tally(3, "/", { "X-User": `user-${user}` });
        assert.equal(Object.keys(tally).length, 1, algorithm);
        seen.add(Object.keys(tally)[0] ?? "");
      }
      assert.equal(seen.size, 3, algorithm);
    }
  });

  test("a new worker counts as applied only after Envoy's own check, one that fails it is named", async () => {
    await using proxy = await ProxyUnderTest.start(1, { healthCheckPath: "/health" });
    proxy.workers.push(await new Worker("web-1").listen(), await new Worker("web-2").listen());
    proxy.worker(2).isHealthy = false;
    const publication = await proxy.publish({ "web-0": "draining" });
    assert.ok(publication.outcome === "applied");
    assert.deepEqual(publication.failingCheck, ["web-2"]);
    assert.deepEqual(await proxy.tally(10), { "web-1": 10 });
  });

  test("client and worker see each other's words: scheme, address, names of headers, no marks of the proxy", async () => {
    await using proxy = await ProxyUnderTest.start(1);
    const { response } = await proxy.get("/", {
      "X-Forwarded-Proto": "https",
      "X-Forwarded-For": "192.0.2.7",
      "X-CamelCase": "1",
    });
    const { headers, rawHeaders } = proxy.worker(0).requests[0] ?? assert.fail();
    assert.equal(headers["x-forwarded-proto"], "https");
    assert.match(String(headers["x-forwarded-for"]), /^192\.0\.2\.7, ?[\d.]+$/u);
    assert.ok(rawHeaders.includes("X-CamelCase"));
    assert.ok(response.rawHeaders.includes("X-Worker-Id"));
    assert.deepEqual(
      Object.keys({ ...headers, ...response.headers }).filter((name) => /envoy|^server$|request-id/u.test(name)),
      [],
    );
  });

  test("HTTP/1.0, WebSocket and HTTP/2 without TLS reach HTTP/1.1 workers, also by Unix socket", async () => {
    await using proxy = await ProxyUnderTest.start(0);
    proxy.workers.push(await new Worker("web-0").listen(join(proxy.directory, "web-0.sock")));
    await proxy.publish();
    const say = async (text: string, end: RegExp) => {
      const socket = connectTcp(proxy.spec.listenerPort, "127.0.0.1");
      let said = "";
      socket.setEncoding("utf8").on("data", (chunk: string) => {
        said += chunk;
        if (said.includes("101 Switching") && !said.includes("ping")) socket.write("ping");
        if (end.test(said)) socket.destroy();
      });
      socket.write(text);
      await once(socket, "close");
      return said;
    };
    assert.match(await say("GET / HTTP/1.0\r\n\r\n", /web-0$/u), /^HTTP\/1\.[01] 200/u);
    const upgrade = "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    assert.match(await say(upgrade, /ping$/u), /^HTTP\/1\.1 101/u);
    assert.equal(await getHttp2(`http://127.0.0.1:${proxy.spec.listenerPort}`), "web-0");
  });

  test("TLS offers HTTP/2 and HTTP/1.1", async () => {
    const files = temporaryDirectory();
    const tls = { certPath: join(files, "cert.pem"), keyPath: join(files, "key.pem") };
    writeFileSync(tls.certPath, CERTIFICATE);
    writeFileSync(tls.keyPath, PRIVATE_KEY);
    try {
      await using proxy = await ProxyUnderTest.start(1, { tls });
      const { listenerPort: port } = proxy.spec;
      assert.equal(await getHttp2(`https://localhost:${port}`), "web-0");
      const socket = connectTls({
        port,
        host: "127.0.0.1",
        servername: "localhost",
        ca: CERTIFICATE,
        ALPNProtocols: ["http/1.1"],
      });
      await once(socket, "secureConnect");
      assert.equal(socket.alpnProtocol, "http/1.1");
      socket.destroy();
    } finally {
      rmSync(files, { recursive: true });
    }
  });

  test("grpc speaks HTTP/2 to the workers, with trailers and with the limit of each worker", async () => {
    const server = createHttp2Server();
    server.on("stream", (stream: ServerHttp2Stream) => {
      stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end("reply");
    });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    try {
      await using proxy = await ProxyUnderTest.start(0, {
        protocol: "grpc",
        maxConcurrentPerWorker: 4,
        algorithm: "LEAST_REQUEST",
      });
      const endpoint: Endpoint = {
        workerId: "web-0",
        address: { port: (server.address() as AddressInfo).port },
        health: "healthy",
      };
      assert.equal((await proxy.publisher.publish([endpoint])).outcome, "applied");
      const url = `http://127.0.0.1:${proxy.spec.listenerPort}`;
      const answers = await Promise.all(Array.from({ length: 20 }, () => getHttp2(url, "grpc-status")));
      assert.deepEqual(new Set(answers), new Set(["reply 0"]));
      assert.equal((await proxy.admin.clusters())[0]?.connectionsTotal, 1);
    } finally {
      server.close();
    }
  });

  test("tcp carries bytes, and counts connections of a worker that drains", async () => {
    const sockets: Socket[] = [];
    const server = createTcpServer((socket) => {
      sockets.push(socket);
      socket.on("error", () => {});
      socket.pipe(socket);
    }).listen(0, "127.0.0.1");
    await once(server, "listening");
    try {
      await using proxy = await ProxyUnderTest.start(0, {
        protocol: "tcp",
        algorithm: "LEAST_REQUEST",
        healthCheckPath: "/",
      });
      const { port } = server.address() as AddressInfo;
      const endpoint: Endpoint = { workerId: "web-0", address: { port }, health: "healthy" };
      assert.equal((await proxy.publisher.publish([endpoint])).outcome, "applied");
      const client = connectTcp(proxy.spec.listenerPort, "127.0.0.1");
      client.write("ping");
      assert.equal(String((await once(client, "data"))[0]), "ping");
      assert.equal((await proxy.publisher.publish([{ ...endpoint, health: "draining" }])).outcome, "applied");
      const [report] = await proxy.admin.clusters();
      assert.equal(report?.connectionsActive, 1);
      assert.equal((await proxy.admin.downstream()).connectionsActive, 1);
      client.end();
      await until(
        () => proxy.admin.clusters(),
        (reports) => reports[0]?.connectionsActive === 0,
        "the connection is gone",
      );
    } finally {
      for (const socket of sockets) socket.destroy();
      server.close();
    }
  });

  test("the admin interface on a port answers, and the access log names the worker", async () => {
    await using proxy = await ProxyUnderTest.start(1, { adminPort: await freePort(), accessLog: true });
    assert.equal((await proxy.get("/path")).status, 200);
    assert.equal(await proxy.admin.ready(), true);
    assert.match(await proxy.admin.prometheus(), /^envoy_cluster_upstream_rq_total\{.*\} 1$/mu);
    const line = await until(
      async () => proxy.output.split("\n").find((each) => each.includes('"/path"')),
      (each) => each !== undefined,
      "the line of the access log",
    );
    const { worker, status, method } = JSON.parse(line ?? "");
    assert.deepEqual({ worker, status, method }, { worker: "web-0", status: 200, method: "GET" });
  });

  test("Envoy starts without a warning", async () => {
    await using proxy = await ProxyUnderTest.start(2, { healthCheckPath: "/health", algorithm: "LEAST_REQUEST" });
    assert.equal(proxy.output, "");
  });
});

/** The body of a GET by HTTP/2, and the value of a trailer where one is named. */
async function getHttp2(url: string, trailer?: string): Promise<string> {
  const session = connectHttp2(url, { ca: CERTIFICATE });
  try {
    const stream = session.request({ ":path": "/" });
    let text = "";
    let trailers: Record<string, unknown> = {};
    stream.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    stream.on("trailers", (headers) => {
      trailers = headers;
    });
    await once(stream, "end");
    return trailer === undefined ? text : `${text} ${String(trailers[trailer])}`;
  } finally {
    session.close();
  }
}
