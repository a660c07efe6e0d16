/**
 * The successive controllers of a chaos run: their pools, the injected faults, and all detected problems. It continuously
 * checks events, log lines, the ledger and counters.
 */
import { existsSync, mkdirSync, readdirSync, readFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import type { EventRecord, ReloadAccepted, Status, WorkerStatus } from "../../src/admin/api.ts";
import { ControllerUnderTest, eventually, isAlive, listDescendants } from "../support/controller.ts";
import { assertNeverDown, monotonicSeries } from "../support/exposition.ts";
import type { SeededRandom } from "../support/random.ts";
import { killAll } from "../support/watch.ts";
import type { FailedRequest } from "./client.ts";
import { type Footprint, footprintOf } from "./footprint.ts";
import { Ledger, LogLines, type ProcessKey } from "./ledger.ts";
import { firstPlans, formatPools, type Places, type Plan, type Plans, POOLS, type PoolName } from "./pools.ts";
import { type Excuse, type Window, Windows } from "./verdict.ts";

/** Interval of the checks. */
const LOOK_MS = 50;
const SCRAPE_MS = 3000;
const FOOTPRINT_MS = 5000;
/** Delay before a failed request is judged, so that the ledger and the events are complete. */
const JUDGE_AFTER_MS = 1500;
/** How long an excuse lasts after the pool has recovered, so that clients have noticed it. */
const GRACE_MS = 1000;
/** A check that is this late shows that the machine has no CPU time for this process, nor for the controller. */
const STARVED_MS = 500;
/** How long late probes may still fail after that. */
const STARVED_FOR_MS = 20_000;
/** Time limit of an operation. */
const OPERATION_MS = 120_000;
/** Time limit for the exit of all processes: the promised two seconds, plus two for a busy machine. */
const EXIT_LIMIT_MS = 4000;
const RECOVERY_LIMIT_MS = 90_000;

interface OpenOperation {
  readonly pool: PoolName;
  readonly what: string;
  readonly begunAt: number;
  /** Whether it must fail because its workers crash on purpose. */
  readonly isMeantToFail: boolean;
}

/** Figures of a run, for its report. */
export interface Tallies {
  answered: number;
  killed: number;
  front: number;
  waiting: number;
  controllerKills: number;
  longestEndMs: number;
  operations: number;
  failedOperations: number;
  reloads: number;
  logLines: number;
  lives: number;
  scrapes: number;
  /** Processes that failed their liveness probe while the machine was too busy to answer it. */
  starved: number;
}

export class Scene {
  readonly random: SeededRandom;
  readonly places: Places;
  readonly windows = new Windows();
  /** Detected problems; empty in a successful run. */
  readonly problems: string[] = [];
  /** Actions so far, in order. */
  readonly history: string[] = [];
  readonly tallies: Tallies = {
    answered: 0,
    killed: 0,
    front: 0,
    waiting: 0,
    controllerKills: 0,
    longestEndMs: 0,
    operations: 0,
    failedOperations: 0,
    reloads: 0,
    logLines: 0,
    lives: 0,
    scrapes: 0,
    starved: 0,
  };
  /** Number of excused failures by excuse, pool and reason. */
  readonly excused = new Map<string, number>();
  /** Samples of each controller. */
  readonly footprints: Footprint[][] = [];
  plans: Plans = firstPlans();
  readonly #startedAt = performance.now();
  readonly #seen = new Set<number>();
  readonly #failed: FailedRequest[] = [];
  readonly #looking: NodeJS.Timeout;
  #life: Life | undefined;
  #nextId = 1;
  #lookedAt = performance.now();
  #starvedUntil = 0;

  constructor(random: SeededRandom, places: Places) {
    this.random = random;
    this.places = places;
    this.#looking = setInterval(() => this.#look(), LOOK_MS);
  }

  /** The running controller. */
  get life(): Life {
    if (this.#life === undefined) throw new Error("no controller runs");
    return this.#life;
  }

  nextId(): number {
    return this.#nextId++;
  }

  problem(text: string): void {
    this.problems.push(`${this.clock()} ${text}`);
  }

  note(text: string): void {
    this.history.push(`${this.clock()} ${text}`);
  }

  clock(): string {
    return `${((performance.now() - this.#startedAt) / 1000).toFixed(1)}s`;
  }

  requestFailed(request: FailedRequest): void {
    this.#failed.push(request);
  }

  /** Starts a controller and waits until it is ready. */
  async start(): Promise<void> {
    this.tallies.lives++;
    this.footprints.push([]);
    this.#life = await Life.start(this, this.tallies.lives, this.#seen);
    await this.life.controller.ready();
  }

  /** Ends the controller with SIGTERM or SIGKILL and checks that it leaves no process or file behind. */
  async end(signal: "SIGTERM" | "SIGKILL"): Promise<void> {
    const { life } = this;
    const { controller } = life;
    const family = listDescendants(controller.pid);
    const begun = performance.now();
    life.isEnding = true;
    controller.child.kill(signal);
    const ending = await controller.ended;
    const exitDeadline = (signal === "SIGKILL" ? begun : performance.now()) + EXIT_LIMIT_MS;
    while (family.some(isAlive) && performance.now() < exitDeadline) await new Promise((wake) => setTimeout(wake, 5));
    const left = family.filter(isAlive);
    if (left.length > 0)
      this.problem(`${left.length} processes still run after ${signal}: ${left.map(describe).join("; ")}`);
    killAll(left);
    this.#look();
    this.tallies.logLines += life.lines.count;
    if (signal === "SIGKILL") {
      this.tallies.controllerKills++;
      this.tallies.longestEndMs = Math.max(this.tallies.longestEndMs, performance.now() - begun);
    } else {
      if (ending.code !== 0) this.problem(`the controller exited with ${JSON.stringify(ending)}: ${life.lastErrors()}`);
      for (const missing of life.lines.missing(life.ledger.last)) this.problem(`log lines are missing: ${missing}`);
      if (existsSync(controller.socket)) this.problem("the control socket was not removed");
      const files = readdirSync(life.temporary);
      if (files.length > 0) this.problem(`files were not removed: ${files.join(", ")}`);
    }
    // Judge the requests that failed with this controller.
    this.#judge(Number.POSITIVE_INFINITY);
    this.#life = undefined;
    life.ledger.close();
    await controller[Symbol.asyncDispose]();
  }

  /** Opens windows for pools. The returned function closes them a moment later, after the pools have recovered. */
  excuse(pools: readonly PoolName[], why: string, isFront = false): () => void {
    const opened = pools.map((pool) => this.windows.open(pool, why, isFront));
    return () => {
      for (const window of opened) window.to = performance.now() + GRACE_MS;
    };
  }

  /** Waits until no operation runs, all pools are as planned, and the configuration in force equals the file. */
  async calm(): Promise<void> {
    const { life } = this;
    await this.until(() => life.operations.size === 0, "all operations end", OPERATION_MS + 5000);
    for (let attempt = 0; ; attempt++) {
      await this.well();
      const plan = await life.reload(true);
      if (plan.changes.length === 0) break;
      if (attempt === 3) {
        this.problem(`a reload has no effect: ${JSON.stringify(plan)}`);
        break;
      }
      // A reload was rolled back because its workers were killed.
      await life.reload(false);
      await this.until(() => life.operations.size === 0, "the repeated reload ends", OPERATION_MS + 5000);
    }
    await this.until(() => !this.windows.isAnyOpen, "all excuses end", 10_000);
  }

  /** Waits until all pools have their planned number of ready workers. */
  async well(): Promise<void> {
    const begun = performance.now();
    let missing = "";
    while (performance.now() < begun + RECOVERY_LIMIT_MS && this.problems.length === 0) {
      const { phase, healthy, pools } = await this.life.controller.status();
      missing = POOLS.flatMap((name) => {
        const pool = pools.find((each) => each.name === name);
        const { replicas } = this.plans[name];
        return pool?.ready === replicas && pool.replicas === replicas
          ? []
          : [`${name} has ${pool?.ready} of ${replicas}`];
      }).join(", ");
      const proxies = pools.filter(({ role }) => role === "proxy");
      if (phase === "running" && healthy && missing === "" && proxies.every(({ ready }) => ready === 1)) return;
      await new Promise((wake) => setTimeout(wake, LOOK_MS));
    }
    this.problem(`not recovered after ${RECOVERY_LIMIT_MS / 1000} s: ${missing}`);
  }

  /** Waits until `condition` holds. */
  async until(condition: () => boolean, what: string, withinMs = 60_000): Promise<void> {
    try {
      await eventually(() => condition() || this.problems.length > 0 || undefined, what, withinMs);
    } catch {
      this.problem(`not within ${withinMs / 1000} s: ${what}`);
    }
  }

  plan(pool: PoolName, plan: Plan): void {
    this.plans = { ...this.plans, [pool]: plan };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.#looking);
    await this.#life?.controller[Symbol.asyncDispose]().catch(() => {});
  }

  #excused({ pool, why }: FailedRequest, excuse: Excuse): void {
    this.tallies[excuse]++;
    const key = `${excuse} ${pool}: ${why}`;
    this.excused.set(key, (this.excused.get(key) ?? 0) + 1);
  }

  /** Whether processes had too little CPU time a moment ago. */
  get isStarved(): boolean {
    return performance.now() < this.#starvedUntil;
  }

  #look(): void {
    const now = performance.now();
    if (now > this.#lookedAt + LOOK_MS + STARVED_MS) this.#starvedUntil = now + STARVED_FOR_MS;
    this.#lookedAt = now;
    this.#life?.look();
    this.#judge(performance.now() - JUDGE_AFTER_MS);
  }

  #judge(before: number): void {
    const later: FailedRequest[] = [];
    for (const failure of this.#failed.splice(0)) {
      if (failure.failedAt > before) {
        later.push(failure);
        continue;
      }
      const by = this.#life?.ledger.executedBy(failure.id);
      const excuse = this.windows.excuse(failure, by, by !== undefined && this.life.doomed.has(by));
      if (excuse === undefined)
        this.problem(
          `request ${failure.id} of pool ${failure.pool} failed (${failure.why}), executed by ${by ?? "no worker"}, ` +
            `${((failure.failedAt - failure.sentAt) / 1000).toFixed(2)} s after it was sent`,
        );
      else this.#excused(failure, excuse);
    }
    this.#failed.push(...later);
    this.windows.forgetOld();
    const oldest = Math.min(this.#nextId, ...later.map(({ id }) => id));
    this.#life?.ledger.forgetBelow(oldest - 100_000);
  }
}

function describe(pid: number): string {
  try {
    return `${pid} ${readFileSync(`/proc/${pid}/cmdline`, "latin1").replaceAll("\0", " ").slice(0, 80)}`;
  } catch {
    return String(pid);
  }
}

/** One controller from its start to its end. */
export class Life {
  readonly controller: ControllerUnderTest;
  readonly ledger: Ledger;
  readonly lines: LogLines;
  readonly temporary: string;
  /** Processes that the run has killed or disabled. */
  readonly doomed = new Set<ProcessKey>();
  /** Processes affected by an action. All others may exit only if the controller stops them. */
  readonly touched = new Set<ProcessKey>();
  readonly operations = new Map<string, OpenOperation>();
  readonly exited = new Set<ProcessKey>();
  isEnding = false;
  /** The pool whose new workers crash on purpose. */
  badPool: PoolName | undefined;
  readonly #scene: Scene;
  readonly #ledgerFile: string;
  readonly #counters = new Map<string, ReadonlyMap<string, number>>();
  readonly #stops = new Map<ProcessKey, Window>();
  readonly #lastTouched = new Map<string, number>();
  #scrapedAt = 0;
  #measuredAt = 0;
  #isScraping = false;
  readonly #errors: string[] = [];
  /** Ends of operations whose response has not been read yet. */
  readonly #early = new Map<string, Extract<EventRecord, { operation: string }>>();

  private constructor(
    scene: Scene,
    controller: ControllerUnderTest,
    ledgerFile: string,
    temporary: string,
    seen: Set<number>,
  ) {
    this.#scene = scene;
    this.controller = controller;
    this.#ledgerFile = ledgerFile;
    this.temporary = temporary;
    this.ledger = new Ledger(ledgerFile, seen, (problem) => scene.problem(problem));
    this.lines = new LogLines((problem) => scene.problem(problem));
  }

  static async start(scene: Scene, life: number, seen: Set<number>): Promise<Life> {
    const temporary = join(scene.places.directory, `tmp-${life}`);
    mkdirSync(temporary);
    const ledgerFile = join(scene.places.directory, `ledger-${life}`);
    const controller = await ControllerUnderTest.start({
      workers: formatPools(scene.plans, scene.places, ledgerFile),
      hasDefaultMinReady: true,
      supervisor: `  runtime_dir: ${temporary}`,
      env: { TMPDIR: temporary },
    });
    return new Life(scene, controller, ledgerFile, temporary, seen);
  }

  /** The last lines of the controller's stderr. */
  lastErrors(): string {
    return this.#errors.slice(-30).join("\n");
  }

  /** Marks a process as affected by an action; `isDoomed` if its requests may fail. */
  touch(key: ProcessKey, isDoomed: boolean): void {
    this.touched.add(key);
    if (isDoomed) this.doomed.add(key);
    this.#lastTouched.set(poolOfKey(key), performance.now());
  }

  /** Marks a pool as affected by an action, so that its operations may fail. */
  touchPool(pool: string): void {
    this.#lastTouched.set(pool, performance.now());
  }

  /** A random ready worker of the pool; undefined if there is none. */
  async pickWorker(
    pool: string,
  ): Promise<(WorkerStatus & { readonly pid: number; readonly key: ProcessKey }) | undefined> {
    const workers = (await this.status()).pools.find(({ name }) => name === pool)?.workers ?? [];
    const ready = workers.flatMap((worker) => {
      const { pid, phase, id, incarnation } = worker;
      return pid !== null && phase === "ready" ? [{ ...worker, pid, key: `${id}.${incarnation}` }] : [];
    });
    return ready.length === 0 ? undefined : this.#scene.random.pick(ready);
  }

  status(): Promise<Status> {
    return this.controller.status();
  }

  /** Requests an operation on a pool. Returns its id, or undefined if it was rejected. */
  async order(pool: PoolName, path: string, body = "", isMeantToFail = false): Promise<string | undefined> {
    const answer = await this.controller.call(
      "POST",
      path,
      { "content-length": String(Buffer.byteLength(body)) },
      body,
    );
    if (answer.status !== 202) {
      this.#scene.note(`  rejected with ${answer.status}: ${answer.body.trim()}`);
      return undefined;
    }
    const { operation } = JSON.parse(answer.body) as { operation: string };
    this.#begun(operation, { pool, what: path, begunAt: performance.now(), isMeantToFail });
    return operation;
  }

  /** Writes the plans and requests a reload. */
  async reload(isDry: boolean, isMeantToFail = false): Promise<ReloadAccepted> {
    this.controller.configure({ workers: formatPools(this.#scene.plans, this.#scene.places, this.#ledgerFile) });
    const body = JSON.stringify({ dry_run: isDry });
    const answer = await this.controller.call("POST", "/v1/reload", { "content-length": String(body.length) }, body);
    const accepted = JSON.parse(answer.body) as ReloadAccepted;
    if (answer.status >= 300) {
      this.#scene.problem(`a valid reload was rejected: ${answer.body}`);
      return { changes: [], refused: [], failed: [], operations: [], since: 0 };
    }
    if (isDry) return accepted;
    this.#scene.tallies.reloads++;
    if (accepted.refused.length + accepted.failed.length > 0)
      this.#scene.problem(`a reload was not applied completely: ${answer.body}`);
    for (const { id, pool } of accepted.operations)
      this.#begun(id, { pool: pool as PoolName, what: "reload", begunAt: performance.now(), isMeantToFail });
    return accepted;
  }

  #begun(id: string, operation: OpenOperation): void {
    this.#scene.tallies.operations++;
    // A short operation may have ended before its response was read.
    const early = this.#early.get(id);
    this.#early.delete(id);
    this.operations.set(id, operation);
    if (early !== undefined) this.#ended(early);
  }

  look(): void {
    const now = performance.now();
    for (const event of this.controller.events.splice(0)) this.#see(event);
    for (const line of this.controller.stdout.splice(0)) this.lines.take(line);
    for (const line of this.controller.stderr.splice(0)) this.#seeError(line);
    this.ledger.read();
    for (const [id, { what, begunAt }] of this.operations) {
      if (now < begunAt + OPERATION_MS) continue;
      this.operations.delete(id);
      this.#scene.problem(`operation ${id} (${what}) has not ended`);
    }
    if (this.isEnding || this.controller.child.exitCode !== null || this.controller.child.signalCode !== null) {
      if (!this.isEnding) this.#scene.problem(`the controller exited by itself: ${this.lastErrors()}`);
      this.isEnding = true;
      return;
    }
    if (now > this.#measuredAt + FOOTPRINT_MS) {
      this.#measuredAt = now;
      this.#scene.footprints.at(-1)?.push(footprintOf(this.controller.pid, now));
    }
    if (now > this.#scrapedAt + SCRAPE_MS && !this.#isScraping) void this.#scrape();
  }

  #seeError(line: string): void {
    this.#errors.push(line.slice(0, 1000));
    if (this.#errors.length > 200) this.#errors.shift();
    if (/"code":"(?:BUG|INVARIANT)/u.test(line))
      this.#scene.problem(`the controller reports a bug: ${line.slice(0, 2000)}`);
  }

  #see(event: EventRecord): void {
    if ("operation" in event) {
      if (event.kind !== "operation_finished" && event.kind !== "operation_failed") return;
      if (this.operations.has(event.operation)) this.#ended(event);
      else this.#early.set(event.operation, event);
      return;
    }
    if (!("slot" in event)) return;
    const key = `${event.pool}-${event.slot}.${event.incarnation}`;
    if (event.kind === "spawned" && event.pool === this.badPool) this.touch(key, true);
    else if (event.kind === "stopping") {
      // A process that stops loses the connections queued in its own socket.
      if (event.pool === "reuse" && !this.#stops.has(key)) {
        const from = performance.now() - JUDGE_AFTER_MS;
        this.#stops.set(key, this.#scene.windows.open("reuse", `stop of ${key}`, false, from));
      }
      if (event.cause === "liveness" && !this.touched.has(key)) this.#failedByItself(key, event);
    } else if (event.kind === "killed") {
      if (!this.touched.has(key) && !this.isEnding) this.#scene.problem(`${key} had to be killed: ${event.reason}`);
    } else if (event.kind === "exited") {
      this.exited.add(key);
      const window = this.#stops.get(key);
      if (window !== undefined) window.to = performance.now() + GRACE_MS;
      this.#stops.delete(key);
      if (!event.planned && !this.touched.has(key) && !this.isEnding)
        this.#scene.problem(`${key} exited by itself although no action affected it: ${event.message}`);
    }
  }

  /** A process that no action affected failed its liveness probe. */
  #failedByItself(key: ProcessKey, { pool, reason }: { readonly pool: string; readonly reason: string }): void {
    if (!this.#scene.isStarved) {
      this.#scene.problem(`${key} failed its liveness probe although no action affected it: ${reason}`);
      return;
    }
    this.#scene.tallies.starved++;
    this.#scene.note(`  the machine is too busy: ${key} failed its liveness probe`);
    this.touch(key, true);
    const fronted = POOLS.find((name) => pool === `${name}-proxy`);
    const name = fronted ?? POOLS.find((each) => each === pool);
    if (name === undefined) return;
    this.touchPool(name);
    if (!this.#stops.has(key))
      this.#stops.set(key, this.#scene.windows.open(name, `liveness of ${key}`, fronted !== undefined));
  }

  #ended(event: Extract<EventRecord, { operation: string }>): void {
    const operation = this.operations.get(event.operation);
    this.operations.delete(event.operation);
    if (operation === undefined) return;
    const hasFailed = event.kind === "operation_failed";
    if (hasFailed) this.#scene.tallies.failedOperations++;
    if (hasFailed)
      this.#scene.note(`  ${event.operation} of ${operation.pool} (${operation.what}) failed: ${event.message}`);
    const isExcused = (this.#lastTouched.get(operation.pool) ?? 0) > operation.begunAt - 30_000;
    if (hasFailed && !operation.isMeantToFail && !isExcused)
      this.#scene.problem(`operation ${event.operation} (${operation.what}) failed: ${event.message}`);
    if (!hasFailed && operation.isMeantToFail)
      this.#scene.problem(`operation ${event.operation} (${operation.what}) succeeded with workers that crash`);
  }

  /** Checks that no counter has decreased or vanished. */
  async #scrape(): Promise<void> {
    this.#isScraping = true;
    try {
      for (const path of ["/metrics", "/metrics/workers"]) {
        const { status, body } = await this.controller.call("GET", path);
        if (status !== 200) throw new Error(`${path} answers ${status}`);
        const now = monotonicSeries(body);
        assertNeverDown(this.#counters.get(path) ?? new Map(), now);
        this.#counters.set(path, now);
        this.#scene.tallies.scrapes++;
      }
    } catch (error) {
      if (!this.isEnding) this.#scene.problem(`a scrape: ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      this.#isScraping = false;
      this.#scrapedAt = performance.now();
    }
  }
}

function poolOfKey(key: ProcessKey): string {
  return key.slice(0, key.lastIndexOf("-"));
}

/** Sends a request to a worker directly. Resolves with the status, or undefined without a response. */
export function askWorker(pid: number, path: string): Promise<number | undefined> {
  const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
  const argumentOf = (flag: string) => args[args.indexOf(flag) + 1] ?? "";
  const target = args.includes("--socket")
    ? { socketPath: argumentOf("--socket") }
    : { host: "127.0.0.1", port: Number(argumentOf("--port")) };
  return new Promise((done) => {
    const message = request({ ...target, path, agent: false, timeout: 300 }, (response) => {
      response.resume();
      response.on("end", () => done(response.statusCode));
    });
    message.on("timeout", () => message.destroy());
    message.on("error", () => done(undefined));
    message.end();
  });
}
