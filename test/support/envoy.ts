/**
 * A real Envoy (dist/envoy) under the control of a PoolProxy, and small workers in this process behind it. Tests wait for
 * calls of the proxy's listener, never for a fixed time.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import {
  createServer,
  type IncomingMessage,
  type RequestOptions,
  request,
  type Server,
  type ServerResponse,
} from "node:http";
import { createConnection, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { PoolProxy, type ProxyListener } from "../../src/envoy/control/proxy.ts";
import type { ProxyLocation, ProxySettings, Upstream } from "../../src/envoy/resources/settings.ts";
import { systemClock } from "../../src/runtime/clock.ts";
import { freePort } from "./ports.ts";

export const ENVOY = resolve("dist/envoy");

/** Settings of a pool "web" of HTTP workers, which a test may override. */
export function proxySettings(changes: Partial<ProxySettings> = {}): ProxySettings {
  return {
    pool: "web",
    listenerAddress: "127.0.0.1",
    listenerPort: 10_000,
    protocol: "http",
    algorithm: "LEAST_REQUEST",
    hashOn: undefined,
    healthCheckPath: undefined,
    healthCheckHost: "localhost",
    requestTimeoutMs: 0,
    maxConcurrentPerWorker: undefined,
    maxQueue: 1024,
    workerKeepaliveMs: 1000,
    maxHeaders: 1000,
    maxHeaderBytes: 256 * 1024,
    trustedHops: 1,
    envoyMinor: 40,
    concurrency: 1,
    accessLog: false,
    tls: undefined,
    drainTimeSeconds: 5,
    replacedDrainSeconds: 5,
    ...changes,
  };
}

/** One call of the proxy's listener. */
export type News = {
  readonly [Name in keyof ProxyListener]: { readonly name: Name; readonly args: Parameters<ProxyListener[Name]> };
}[keyof ProxyListener];

export class ProxyUnderTest implements AsyncDisposable {
  readonly directory = mkdtempSync(join(tmpdir(), "monoceros-envoy-"));
  readonly location: ProxyLocation = {
    directory: join(this.directory, "web"),
    admin: { socketPath: join(this.directory, "web", "admin.sock") },
  };
  readonly settings: ProxySettings;
  readonly proxy: PoolProxy;
  /** Calls of the listener so far, except `activated` and `requestsCounted`. */
  readonly news: News[] = [];
  /** Activated endpoints, as `slot/incarnation`, in order. */
  readonly activated: string[] = [];
  /** The latest request count by `slot/incarnation`. */
  readonly counted = new Map<string, number>();
  /** Output of all Envoy processes. */
  output = "";
  child: ChildProcess | undefined;
  readonly #waiting = new Set<() => void>();

  private constructor(settings: ProxySettings) {
    this.settings = settings;
    const tell =
      <Name extends keyof ProxyListener>(name: Name) =>
      (...args: Parameters<ProxyListener[Name]>) => {
        this.news.push({ name, args } as unknown as News);
        this.#wake();
      };
    this.proxy = new PoolProxy({
      settings,
      location: this.location,
      clock: systemClock,
      listener: {
        ready: tell("ready"),
        failed: tell("failed"),
        activated: (slot, incarnation) => {
          this.activated.push(`${slot}/${incarnation}`);
          this.#wake();
        },
        drained: tell("drained"),
        listenersDrained: tell("listenersDrained"),
        updateLate: tell("updateLate"),
        updateRefused: tell("updateRefused"),
        writeFailed: tell("writeFailed"),
        requestsCounted: (slot, incarnation, total) => {
          this.counted.set(`${slot}/${incarnation}`, total);
          this.#wake();
        },
      },
    });
  }

  /** Creates a proxy whose Envoy does not run yet. */
  static async create(changes: Partial<ProxySettings> = {}): Promise<ProxyUnderTest> {
    assert.ok(existsSync(ENVOY), "there is no dist/envoy: make envoy");
    return new ProxyUnderTest(proxySettings({ listenerPort: await freePort(), ...changes }));
  }

  /** Creates a proxy whose Envoy listens. */
  static async start(upstreams: readonly Upstream[], changes: Partial<ProxySettings> = {}): Promise<ProxyUnderTest> {
    const under = await ProxyUnderTest.create(changes);
    try {
      under.proxy.update(upstreams);
      under.spawn(1);
      await under.told("ready");
    } catch (error) {
      // The caller has no object to dispose of yet.
      await under[Symbol.asyncDispose]();
      throw error;
    }
    return under;
  }

  /** Starts an Envoy process. The proxy is notified of its exit. */
  spawn(incarnation: number): ChildProcess {
    this.proxy.prepare();
    const child = spawn(ENVOY, this.proxy.args(), { stdio: ["ignore", "pipe", "pipe"] });
    for (const stream of [child.stdout, child.stderr])
      stream.setEncoding("utf8").on("data", (text: string) => {
        this.output += text;
        this.#wake();
      });
    this.child = child;
    this.proxy.spawned(incarnation);
    child.once("exit", () => {
      if (this.child === child) this.proxy.ended();
      this.#wake();
    });
    return child;
  }

  /** Kills Envoy and waits for its exit. */
  async kill(): Promise<void> {
    const { child } = this;
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  get isEnvoyAlive(): boolean {
    return this.child !== undefined && this.child.exitCode === null && this.child.signalCode === null;
  }

  /** Waits until `condition` holds. It is checked after each call of the listener and each output. */
  async until(condition: () => boolean, what: string): Promise<void> {
    const late = setTimeout(() => this.#wake(), 20_000);
    const deadline = performance.now() + 19_900;
    while (!condition()) {
      assert.ok(performance.now() < deadline, `not within 20 s: ${what}\n${JSON.stringify(this.news)}\n${this.output}`);
      await new Promise<void>((wake) => this.#waiting.add(wake));
    }
    clearTimeout(late);
  }

  /** Waits for the nth (from 1) call of a listener's method. */
  async told<Name extends News["name"]>(name: Name, nth = 1): Promise<Extract<News, { name: Name }>> {
    const all = () => this.news.filter((news): news is Extract<News, { name: Name }> => news.name === name);
    await this.until(() => all().length >= nth, `${name} number ${nth}`);
    const found = all()[nth - 1];
    assert.ok(found !== undefined);
    return found;
  }

  /** Sets the endpoints of the proxy and waits until Envoy has applied them. */
  async apply(upstreams: readonly Upstream[]): Promise<void> {
    this.proxy.update(upstreams);
    const wanted = upstreams.map(({ address, state }) => `${"port" in address ? address.port : address.path} ${state}`);
    const deadline = performance.now() + 20_000;
    for (;;) {
      assert.ok(performance.now() < deadline, `not applied: ${wanted.join(", ")}`);
      const found = (await this.admin("/clusters"))
        .split("\n")
        .flatMap((line) => /^workers::(?:127\.0\.0\.1:)?(\S+?)::health_flags::(.*)$/u.exec(line)?.slice(1, 3) ?? []);
      const states = new Map<string, string>();
      for (let at = 0; at < found.length; at += 2)
        states.set(found[at] ?? "", (found[at + 1] ?? "").includes("eds") ? "draining" : "serving");
      if (
        [...states]
          .map(([address, state]) => `${address} ${state}`)
          .sort()
          .join() === wanted.sort().join()
      )
        return;
    }
  }

  /** The response of Envoy's admin interface to a GET, independent of the proxy. */
  async admin(path: string): Promise<string> {
    assert.ok("socketPath" in this.location.admin);
    return (await call({ socketPath: this.location.admin.socketPath, path, agent: false })).body;
  }

  /** Sends one request through Envoy on a connection of its own. */
  get(path = "/", headers: Readonly<Record<string, string>> = {}, method = "GET"): Promise<Answer> {
    return call({ host: "127.0.0.1", port: this.settings.listenerPort, path, headers, method, agent: false });
  }

  /** Opens a raw connection to Envoy. */
  async connect(): Promise<Socket> {
    const socket = createConnection(this.settings.listenerPort, "127.0.0.1");
    await once(socket, "connect");
    return socket;
  }

  #wake(): void {
    const waiting = [...this.#waiting];
    this.#waiting.clear();
    for (const wake of waiting) wake();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.proxy[Symbol.dispose]();
    await this.kill();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

/** The answer to a request. */
export interface Answer {
  readonly status: number;
  readonly body: string;
  readonly rawHeaders: readonly string[];
  readonly trailers: NodeJS.Dict<string>;
}

function call(options: RequestOptions): Promise<Answer> {
  return new Promise((done, fail) => {
    const sent = request(options, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        body += chunk;
      });
      response.on("end", () => {
        const { statusCode, rawHeaders, trailers } = response;
        done({ status: statusCode ?? 0, body, rawHeaders, trailers });
      });
      response.on("error", fail);
    });
    sent.on("error", fail);
    sent.end();
  });
}

/** A request that a worker does not answer until `release`. */
export interface Held {
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
}

/** A worker that answers with its name, or holds requests for `/hold`. */
export class StubWorker implements AsyncDisposable {
  readonly name: string;
  readonly server: Server;
  /** 0 if it listens on a Unix socket. */
  port = 0;
  /** Requests so far. */
  readonly requests: IncomingMessage[] = [];
  readonly held: Held[] = [];
  /** Maximum number of concurrent requests. */
  mostAtOnce = 0;
  #atOnce = 0;
  readonly #waiting = new Set<() => void>();

  constructor(name: string, handle?: (request: IncomingMessage, response: ServerResponse) => void) {
    this.name = name;
    this.server = createServer({ keepAliveTimeout: 60_000 }, (request, response) => {
      this.requests.push(request);
      this.#atOnce += 1;
      this.mostAtOnce = Math.max(this.mostAtOnce, this.#atOnce);
      response.once("close", () => {
        this.#atOnce -= 1;
      });
      if (handle !== undefined) handle(request, response);
      else if (request.url?.startsWith("/hold") === true) this.held.push({ request, response });
      else response.end(name);
      for (const wake of this.#waiting) wake();
    });
  }

  static async start(
    name: string,
    handle?: (request: IncomingMessage, response: ServerResponse) => void,
  ): Promise<StubWorker> {
    const worker = new StubWorker(name, handle);
    worker.server.listen(0, "127.0.0.1");
    await once(worker.server, "listening");
    const address = worker.server.address();
    assert.ok(typeof address === "object" && address !== null);
    worker.port = address.port;
    return worker;
  }

  /** This worker as an upstream. */
  upstream(slot: number, state: Upstream["state"] = "serving", incarnation = 1): Upstream {
    return { slot, incarnation, state, address: { port: this.port } };
  }

  /** Waits until `count` requests are held. */
  async holds(count: number): Promise<void> {
    while (this.held.length < count)
      await new Promise<void>((wake) => {
        this.#waiting.add(wake);
      });
  }

  /** Answers all held requests. */
  release(): void {
    for (const { response } of this.held.splice(0)) response.end(this.name);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.release();
    this.server.close();
    this.server.closeAllConnections();
  }
}
