/**
 * A real controller (dist/monoceros) under test. It is started with a configuration in a private directory, observed
 * through its event stream, and always stopped with everything it started. Tests wait for events, never for a fixed time.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { createInterface } from "node:readline";
import type { EventRecord, Status, WorkerStatus } from "../../src/admin/api.ts";

export const MONOCEROS = resolve("dist/monoceros");
export const PROCESSBIN = resolve("dist/processbin");
/** Python with the packages of scripts/exampleServers.sh; missing if they could not be installed. */
export const PYTHON = resolve("node_modules/.tools/venv/bin/python");

/** Exit status of the controller. */
export interface Ending {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface StartOptions {
  /** Pools as indented YAML list items of supervisor.workers. */
  readonly workers: string;
  /**
   * By default pools without min_ready get `min_ready: 0s`, so that those without probes are ready at once. true leaves
   * the pools unchanged.
   */
  readonly hasDefaultMinReady?: boolean;
  /** More keys of `supervisor:` and `admin:`, each line indented by two spaces. */
  readonly supervisor?: string;
  readonly admin?: string;
  /** Admin port; 0 (any free port) by default. */
  readonly port?: number;
  /** Admin address; loopback by default. */
  readonly address?: string;
  /** Path of the control socket; by default in the private directory. */
  readonly socket?: string;
  readonly args?: readonly string[];
  /** Starts `monoceros dev` instead of `monoceros run`. */
  readonly isDevelopment?: boolean;
  readonly env?: NodeJS.ProcessEnv;
  /** A program and its arguments in front of the controller's command line, such as `setpriv …`. */
  readonly wrapper?: readonly string[];
  /** uid that owns the private directory if `wrapper` starts the controller as another user. */
  readonly owner?: number;
  /** stdout: "lines" (default) records it, "ignore" drops it, "stalled" is a pipe that is not read; or a descriptor. */
  readonly stdout?: "lines" | "ignore" | "stalled" | number;
}

export class ControllerUnderTest implements AsyncDisposable {
  readonly directory: string;
  readonly socket: string;
  readonly child: ChildProcess;
  /** Lines of stdout so far. */
  readonly stdout: string[] = [];
  /** Lines of stderr so far. */
  readonly stderr: string[] = [];
  /** All events so far. */
  readonly events: EventRecord[] = [];
  readonly ended: Promise<Ending>;
  #options: StartOptions;
  #stream: IncomingMessage | undefined;
  #streamEnded: Promise<unknown> | undefined;
  readonly #waiting = new Set<() => void>();

  private constructor(options: StartOptions) {
    this.directory = mkdtempSync(join(tmpdir(), "monoceros-test-"));
    this.socket = options.socket ?? join(this.directory, "control.sock");
    this.#options = options;
    this.configure({});
    if (options.owner !== undefined) chownSync(this.directory, options.owner, options.owner);
    const program = [MONOCEROS, ...(options.isDevelopment === true ? ["dev"] : [])];
    const command = [...(options.wrapper ?? []), ...program, "-c", this.configFile, ...(options.args ?? [])];
    const [file, ...args] = command;
    const stdout =
      typeof options.stdout === "number" ? options.stdout : options.stdout === "ignore" ? "ignore" : "pipe";
    this.child = spawn(file ?? MONOCEROS, args, {
      stdio: ["ignore", stdout, "pipe"],
      env: { ...process.env, ...options.env },
    });
    this.ended = once(this.child, "close").then(([code, signal]) => ({ code, signal }));
    this.child.once("exit", () => this.#wake());
    if (this.child.stdout !== null && options.stdout !== "stalled") this.#keepLines(this.child.stdout, this.stdout);
    if (this.child.stderr !== null) this.#keepLines(this.child.stderr, this.stderr);
  }

  /** Starts a controller and returns at once. Its control socket may never exist. */
  static begin(options: StartOptions): ControllerUnderTest {
    return new ControllerUnderTest(options);
  }

  /** Starts a controller and returns when its event stream is open. */
  static async start(options: StartOptions): Promise<ControllerUnderTest> {
    const controller = new ControllerUnderTest(options);
    const ended = controller.ended.then(() => "ended" as const);
    const up = controller.until(
      () =>
        [controller.stderr, controller.stdout].some((lines) =>
          lines.some((line) => line.includes("controller is starting")),
        ),
      "the controller starts",
    );
    const first = await Promise.race([up, ended]);
    if (first === "ended") {
      const said = controller.stderr.join("\n");
      await controller[Symbol.asyncDispose]();
      throw new Error(`the controller ended at once: ${said}`);
    }
    await controller.#follow();
    return controller;
  }

  /** Runs a controller that is expected to exit by itself (invalid configuration, port in use). */
  static async run(options: StartOptions): Promise<{ ending: Ending; stdout: string[]; stderr: string[] }> {
    await using controller = new ControllerUnderTest(options);
    const ending = await controller.ended;
    return { ending, stdout: controller.stdout, stderr: controller.stderr };
  }

  get configFile(): string {
    return join(this.directory, "config.yaml");
  }

  /** Rewrites the configuration file with changes. The controller is not notified. */
  configure(changes: Partial<Pick<StartOptions, "workers" | "supervisor" | "admin" | "port" | "address">>): void {
    this.#options = { ...this.#options, ...changes };
    const { supervisor = "", admin = "", port = 0, address = "127.0.0.1", hasDefaultMinReady = false } = this.#options;
    const workers = hasDefaultMinReady ? this.#options.workers : withoutMinReady(this.#options.workers);
    const yaml = `admin:
  port: ${port}
  address: ${address}
  socket: ${this.socket}
${admin}
supervisor:
${supervisor}
  workers:
${workers}
`;
    writeFileSync(this.configFile, yaml);
  }

  /** Process id of the controller itself, even behind a wrapper. */
  get pid(): number {
    assert.ok(this.child.pid !== undefined);
    return this.child.pid;
  }

  /** Waits until `condition` holds. It is checked after each line and each event. */
  async until(condition: () => boolean, what: string): Promise<void> {
    while (!condition()) {
      if (this.child.exitCode !== null || this.child.signalCode !== null) {
        await Promise.all([this.ended, this.#streamEnded]);
        if (condition()) return;
        throw new Error(`the controller ended before ${what}: ${this.stderr.join("\n")}`);
      }
      await new Promise<void>((wake) => {
        this.#waiting.add(wake);
      });
    }
  }

  /** Waits for the first matching event, past or future, with a sequence number greater than `after`. */
  async event(matches: (event: EventRecord) => boolean, after = 0): Promise<EventRecord> {
    let found: EventRecord | undefined;
    await this.until(() => {
      found = this.events.find((event) => event.seq > after && matches(event));
      return found !== undefined;
    }, `an event ${matches.toString()}`);
    assert.ok(found !== undefined);
    return found;
  }

  /** Waits until the controller is ready. */
  async ready(): Promise<void> {
    await this.event((event) => event.kind === "controller_ready");
  }

  /** The status document. */
  async status(): Promise<Status> {
    return JSON.parse((await this.call("GET", "/v1/status")).body) as Status;
  }

  /** One worker of the status document. */
  async worker(id: string): Promise<WorkerStatus> {
    const found = (await this.status()).pools.flatMap((pool) => pool.workers).find((worker) => worker.id === id);
    assert.ok(found !== undefined, `there is no worker ${id}`);
    return found;
  }

  /** The pid of a running worker. */
  async pidOf(id: string): Promise<number> {
    const { pid } = await this.worker(id);
    assert.ok(pid !== null, `worker ${id} does not run`);
    return pid;
  }

  /** Pids of all running workers and proxies, by id. */
  async pids(): Promise<Readonly<Record<string, number>>> {
    const workers = (await this.status()).pools.flatMap((pool) => pool.workers);
    return Object.fromEntries(workers.flatMap(({ id, pid }) => (pid === null ? [] : [[id, pid]])));
  }

  /** Sends one request to the control socket. */
  call(
    method: string,
    path: string,
    headers: Record<string, string> = {},
    sent = "",
  ): Promise<{ status: number; body: string }> {
    return new Promise((done, fail) => {
      const call = request({ socketPath: this.socket, method, path, headers, agent: false }, (response) => {
        let body = "";
        response.setEncoding("utf8");
        response.on("data", (chunk: string) => {
          body += chunk;
        });
        response.on("end", () => done({ status: response.statusCode ?? 0, body }));
        response.on("error", fail);
      });
      call.on("error", fail);
      call.end(sent);
    });
  }

  /** The text of /metrics. */
  async metrics(): Promise<string> {
    return (await this.call("GET", "/metrics")).body;
  }

  /** The value of a metric line that starts with `series` (name with labels). */
  async metric(series: string): Promise<number> {
    const line = (await this.metrics()).split("\n").find((each) => each.startsWith(`${series} `));
    assert.ok(line !== undefined, `there is no series ${series}`);
    return Number(line.slice(series.length + 1));
  }

  /** Stops the controller with SIGTERM and returns its exit status. */
  async stop(): Promise<Ending> {
    this.child.kill("SIGTERM");
    return this.ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const descendants = listDescendants(this.pid);
    this.#stream?.destroy();
    if (this.child.exitCode === null && this.child.signalCode === null) {
      this.child.kill("SIGTERM");
      this.child.kill("SIGCONT");
      const second = setTimeout(() => this.child.kill("SIGTERM"), 2000);
      const last = setTimeout(() => this.child.kill("SIGKILL"), 6000);
      this.child.stdout?.resume();
      await this.ended;
      clearTimeout(second);
      clearTimeout(last);
    }
    rmSync(this.directory, { recursive: true, force: true });
    // The guardian exits a moment after the controller. All processes must exit within the documented two seconds.
    for (const until = performance.now() + 2000; descendants.some(isAlive) && performance.now() < until; )
      await new Promise((wake) => setTimeout(wake, 5));
    const left = descendants.filter(isAlive);
    for (const pid of left) process.kill(pid, "SIGKILL");
    assert.deepEqual(left, [], "processes outlive their controller");
  }

  #keepLines(stream: NodeJS.ReadableStream, lines: string[]): void {
    createInterface({ input: stream }).on("line", (line) => {
      lines.push(line);
      this.#wake();
    });
  }

  async #follow(): Promise<void> {
    const [response] = (await once(
      request({ socketPath: this.socket, path: "/v1/events", agent: false }).end(),
      "response",
    )) as [IncomingMessage];
    this.#stream = response;
    this.#streamEnded = new Promise((done) => response.once("close", done));
    response.on("error", () => {});
    const lines = createInterface({ input: response });
    lines.on("line", (line) => {
      if (!line.startsWith("data: ")) return;
      this.events.push(JSON.parse(line.slice(6)) as EventRecord);
      this.#wake();
    });
    // The reader re-emits the stream's error when the controller exits.
    lines.on("error", () => {});
  }

  #wake(): void {
    for (const wake of this.#waiting) wake();
    this.#waiting.clear();
  }
}

/** Adds `min_ready: 0s` to each pool without min_ready. Lines keep their numbers. */
function withoutMinReady(workers: string): string {
  return workers
    .split(/^(?= {4}- )/mu)
    .map((pool) => {
      if (pool.includes("min_ready") || !/^ {4}- /u.test(pool)) return pool;
      if (/"rolling":\{/u.test(pool)) return pool.replace(/"rolling":\{/u, '"rolling":{"min_ready":"0s",');
      if (/\brolling: \{/u.test(pool)) return pool.replace(/\brolling: \{/u, "rolling: { min_ready: 0s,");
      if (/\brolling\b/u.test(pool)) return pool;
      if (/^ {4}- \{/u.test(pool)) return pool.replace(/\}(\s*)$/u, ', "rolling": { "min_ready": "0s" } }$1');
      return `${pool.trimEnd()}\n      rolling: { min_ready: 0s }\n`;
    })
    .join("");
}

/** A pool as one YAML list item. Dollar signs are escaped, so that they reach the worker unchanged. */
export function poolOf(pool: { readonly name: string } & Readonly<Record<string, unknown>>): string {
  return `    - ${JSON.stringify(pool).replaceAll("$", "$$$$")}`;
}

/** Polls until `look` returns something other than undefined. For conditions without an event. */
export async function eventually<Found>(
  look: () => Found | undefined | Promise<Found | undefined>,
  what: string,
  withinMs = 30_000,
): Promise<Found> {
  const deadline = performance.now() + withinMs;
  for (;;) {
    const found = await look();
    if (found !== undefined) return found;
    assert.ok(performance.now() < deadline, `not within ${withinMs} ms: ${what}`);
    await new Promise((wake) => setTimeout(wake, 10));
  }
}

/** Whether a process exists and is not a zombie. */
export function isAlive(pid: number): boolean {
  try {
    return !/^State:\s+[ZX]/mu.test(readFileSync(`/proc/${pid}/status`, "utf8"));
  } catch {
    return false;
  }
}

/** All live descendants of a process. */
export function listDescendants(root: number): number[] {
  const parents = new Map<number, number>();
  for (const name of readdirSync("/proc")) {
    if (!/^\d+$/u.test(name) || !existsSync(`/proc/${name}/stat`)) continue;
    try {
      const stat = readFileSync(`/proc/${name}/stat`, "utf8");
      parents.set(Number(name), Number(stat.slice(stat.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      // It has exited meanwhile.
    }
  }
  const found = new Set([root]);
  for (let grew = true; grew; ) {
    grew = false;
    for (const [pid, parent] of parents) {
      if (found.has(parent) && !found.has(pid)) {
        found.add(pid);
        grew = true;
      }
    }
  }
  found.delete(root);
  return [...found];
}

/** Polls until a process, which need not be a child, has exited. */
export async function untilGone(pid: number, withinMs = 5000): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (isAlive(pid)) {
    assert.ok(performance.now() < deadline, `process ${pid} is still there after ${withinMs} ms`);
    await new Promise((wake) => setTimeout(wake, 5));
  }
}
