/**
 * A real controller whose configuration a test changes key by key, and means to observe the effect: processes before and
 * after, events since the change, and a small server that records what it receives.
 */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { EventRecord, ReloadAccepted } from "../../src/admin/api.ts";
import { ControllerUnderTest, eventually, poolOf } from "./controller.ts";
import { type Block, put } from "./keyCases.ts";
import { type EventOf, eventsOf } from "./watch.ts";

/** Values by key. Keys of a pool begin with its name and a slash, as in `web/limits.memory`; undefined removes a key. */
export type Changes = Readonly<Record<string, unknown>>;

export class KeyScene implements AsyncDisposable {
  readonly directory: string;
  readonly controller: ControllerUnderTest;
  /** Pids by worker before the latest change. */
  before: Readonly<Record<string, number>> = {};
  /** The last event before the latest change. */
  seq = 0;
  #whole: Block = {};
  #pools: ReadonlyMap<string, Block>;
  /** Restores the configuration before the latest change. */
  #restore: () => void = () => {};

  private constructor(directory: string, controller: ControllerUnderTest, pools: ReadonlyMap<string, Block>) {
    this.directory = directory;
    this.controller = controller;
    this.#pools = pools;
  }

  /** Starts the pools. `make` receives a directory for their files. */
  static async start(make: (directory: string) => Readonly<Record<string, Block>>): Promise<KeyScene> {
    const directory = mkdtempSync(join(tmpdir(), "monoceros-keys-"));
    try {
      const pools = new Map(Object.entries(make(directory)));
      const controller = await ControllerUnderTest.start({ workers: formatPools(pools) });
      return new KeyScene(directory, controller, pools);
    } catch (error) {
      rmSync(directory, { recursive: true, force: true });
      throw error;
    }
  }

  /** Changes keys and reloads. Resolves when the operations of the reload have finished, or have begun. */
  async change(changes: Changes, until: "done" | "begun" = "done"): Promise<ReloadAccepted> {
    const whole = this.#whole;
    const pools = this.#pools;
    this.#restore = () => {
      this.#whole = whole;
      this.#pools = pools;
    };
    for (const [key, value] of Object.entries(changes)) this.#put(key, value);
    return this.reload(until);
  }

  /** Reverts the latest change without a reload: the next change starts from the configuration before it. */
  undo(): void {
    this.#restore();
  }

  #put(key: string, value: unknown): void {
    const [pool = "", path] = key.split("/");
    if (path === undefined) this.#whole = (put(this.#whole, pool.split("."), value) ?? {}) as Block;
    else {
      const changed = put(this.#pools.get(pool) ?? {}, path.split("."), value) as Block;
      this.#pools = new Map([...this.#pools, [pool, changed]]);
    }
  }

  /** Writes the configuration and reloads it. */
  async reload(until: "done" | "begun" = "done"): Promise<ReloadAccepted> {
    const { controller } = this;
    const { admin, supervisor } = this.#whole;
    const { port, ...others } = (admin ?? {}) as Block;
    controller.configure({
      workers: formatPools(this.#pools),
      supervisor: formatKeys(supervisor),
      admin: formatKeys(others),
      port: Number(port ?? 0),
    });
    this.before = await controller.pids();
    this.seq = controller.events.at(-1)?.seq ?? 0;
    const { status, body } = await controller.call("POST", "/v1/reload");
    assert.equal(status, 202, body);
    const plan = JSON.parse(body) as ReloadAccepted;
    assert.deepEqual(plan.failed, []);
    for (const { id } of plan.operations) {
      const isOver = ({ kind }: EventRecord) =>
        kind === "operation_finished" ||
        kind === "operation_failed" ||
        (until === "begun" && kind === "operation_started");
      const over = await controller.event((event) => "operation" in event && event.operation === id && isOver(event));
      assert.notEqual(over.kind, "operation_failed", JSON.stringify(over));
    }
    return plan;
  }

  /** Waits for the first matching event of a kind since the latest change. */
  async happened<Kind extends EventRecord["kind"]>(
    kind: Kind,
    matches: (event: EventOf<Kind>) => boolean = () => true,
  ): Promise<EventOf<Kind>> {
    const event = await this.controller.event((each) => each.kind === kind && matches(each as EventOf<Kind>), this.seq);
    return event as EventOf<Kind>;
  }

  /** Events of a kind since the latest change. */
  eventsOf<Kind extends EventRecord["kind"]>(kind: Kind): EventOf<Kind>[] {
    return eventsOf(this.controller, kind).filter(({ seq }) => seq > this.seq);
  }

  /** The pid of a worker that was started since the latest change. */
  async newPid(pool = "web"): Promise<number> {
    return (await this.happened("spawned", (event) => event.pool === pool)).pid;
  }

  /** Waits until an event since the latest change, or the description of what a worker waits for, contains this text. */
  async mentions(text: string): Promise<void> {
    await eventually(async () => {
      const since = this.controller.events.filter(({ seq }) => seq > this.seq);
      const { pools } = await this.controller.status();
      const waits = pools.flatMap(({ workers }) => workers.map((worker) => worker.waits_for));
      return JSON.stringify([since, waits]).includes(text) ? true : undefined;
    }, `an event or a waiting worker says ${text}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.controller[Symbol.asyncDispose]();
    rmSync(this.directory, { recursive: true, force: true });
  }
}

function formatPools(pools: ReadonlyMap<string, Block>): string {
  return Array.from(pools, ([name, pool]) => poolOf({ rolling: { min_ready: "0s" }, ...pool, name })).join("\n");
}

/** The lines of a block inside its parent. */
function formatKeys(block: unknown): string {
  return Object.entries((block ?? {}) as Block)
    .map(([key, value]) => `  ${key}: ${JSON.stringify(value)}`)
    .join("\n");
}

/** A port that records what clients send and answers nothing. */
export class Listener implements AsyncDisposable {
  readonly port: number;
  /** Everything received. */
  received = "";
  connections = 0;
  readonly #server;

  private constructor(server: ReturnType<typeof createServer>, port: number) {
    this.#server = server;
    this.port = port;
  }

  static async open(): Promise<Listener> {
    const server = createServer();
    await once(server.listen(0, "127.0.0.1"), "listening");
    const address = server.address();
    assert.ok(typeof address === "object" && address !== null);
    const listener = new Listener(server, address.port);
    server.on("connection", (socket) => {
      listener.connections++;
      socket.on("error", () => {});
      socket.on("data", (chunk) => {
        listener.received += chunk.toString("latin1");
      });
      socket.on("end", () => socket.destroy());
    });
    return listener;
  }

  async receives(text: string): Promise<void> {
    await eventually(() => (this.received.includes(text) ? true : undefined), `port ${this.port} receives ${text}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
  }
}

/**
 * Writes an executable HTTP server and returns its path. It listens on the last port, or absolute path of a socket, among
 * its arguments, otherwise on PORT, and on MONOCEROS_METRICS_PORT. For each request it prints `asked PATH` and
 * `host HOST`. It does not answer `/hang`. Its answers contain a counter whose name is the path.
 */
export function writeServer(directory: string): string {
  const file = join(directory, "server.js");
  const source = `#!${process.execPath}
const { createServer } = require("node:http");
const serve = (request, response) => {
  console.log("asked " + request.url);
  console.log("host " + request.headers.host);
  if (request.url !== "/hang") response.end("# TYPE shown" + request.url.replace(/\\W/g, "_") + " counter\\nshown" + request.url.replace(/\\W/g, "_") + " 1\\n");
};
const places = process.argv.slice(2).flatMap((text) => /\\d+$/.exec(text) && !text.includes("/") ? [Number(/\\d+$/.exec(text)[0])] : /\\/.*/.exec(text) ?? []);
const ports = [places.at(-1) ?? Number(process.env.PORT ?? 0), process.env.MONOCEROS_METRICS_PORT && Number(process.env.MONOCEROS_METRICS_PORT)];
for (const place of new Set(ports)) if (place) createServer({ keepAliveTimeout: 60000 }, serve).listen(place, typeof place === "number" ? "127.0.0.1" : undefined);
process.on("SIGTERM", () => process.exit(0));
`;
  writeFileSync(file, source, { mode: 0o755 });
  return file;
}
