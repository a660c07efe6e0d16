/**
 * The workers' own metrics as one exposition: scrapes all workers concurrently, with timeouts, and merges the results.
 * If workers answer for their whole pool (metrics.scope: pool), one is scraped, and another if it does not answer.
 *
 * Workers are scraped on request, not by a timer, because a single-threaded worker serves no requests while it renders
 * metrics. Counts between the last scrape and a worker's exit are lost, as with a Prometheus that scrapes workers
 * directly. If metrics were requested lately, a worker about to be replaced is scraped once more while it drains.
 * Scrapes share an answer for one second, so that scrapes cannot be used to load workers.
 */
import { existsSync, readdirSync, rmSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import type { Logger } from "../../base/log.ts";
import type { Instant } from "../../base/time.ts";
import type { MetricsScope } from "../../config/config.ts";
import type { LifecycleEvent } from "../../core/event.ts";
import { type Slot, workerId } from "../../core/identity.ts";
import type { ControllerView, WorkerView } from "../../core/view.ts";
import type { UpstreamAddress } from "../../envoy/resources/settings.ts";
import { CONTENT_TYPES, chooseFormat, type ExpositionFormat } from "../../metrics/exposition.ts";
import { MergedMetrics, type Source } from "../../metrics/merge.ts";
import { deadGaugeFiles } from "../../metrics/multiproc.ts";
import { parseExposition, SeriesMemo } from "../../metrics/parse.ts";
import type { WorkerMetricsTotals } from "../../metrics/scrape.ts";
import type { Clock } from "../../runtime/clock.ts";
import type { Asked, Ownership } from "../../runtime/socket/socketOwners.ts";

/** Time limit for an answer. A worker that misses it is left out of the scrape. */
const ANSWER_MS = 1000;

/** Maximum number of workers of a pool with scope pool that one scrape tries, until one answers. */
const MAX_ASKED_FOR_POOL = 2;

/** How long an answer is shared. */
const FRESH_MS = 1000;

/** Time after a scrape in which another one is expected. */
const WANTED_MS = 300_000;

const MAX_ANSWER_BYTES = 4 << 20;

/** Workers whose connections are opened in one turn of the event loop. */
const BATCH = 50;

/** A pool whose workers expose metrics. */
export interface MeasuredPool {
  readonly name: string;
  readonly path: string;
  /** Where a worker that was launched with a revision exposes them. */
  readonly addressOf: (slot: Slot, revision: number) => UpstreamAddress | undefined;
  readonly scope: MetricsScope;
  /** The directory of PROMETHEUS_MULTIPROC_DIR that the controller keeps; undefined if it keeps none. */
  readonly multiprocDirectory?: string | undefined;
  /** MULTIPROCESS_WORKER_ID of a slot; names of files in that directory may contain it. */
  readonly identifierOf: (slot: Slot) => string;
}

type Answers = Record<keyof WorkerMetricsTotals["answers"], number>;

/** A worker to scrape, and its address. */
interface Target extends Source {
  readonly measured: MeasuredPool;
  readonly address: UpstreamAddress;
  readonly worker: WorkerView;
}

/** Finds the owner of the listener at an address (SocketOwners.judge). */
type Judge = (asked: Asked, address: UpstreamAddress) => Promise<Ownership>;

export class WorkerMetrics {
  readonly #poolOf: (name: string) => MeasuredPool | undefined;
  readonly #view: () => ControllerView;
  readonly #judge: Judge;
  readonly #clock: Clock;
  readonly #log: Logger;
  /** Processes that may answer for a worker, by its leader; SocketOwners uses this object as its cache key. */
  readonly #asked = new Map<number, Asked>();
  /** Foreign processes that were warned about, by the worker whose address they hold. */
  readonly #strangers = new Map<string, string>();
  readonly #merged = new MergedMetrics();
  readonly #memo = new SeriesMemo();
  readonly #answers = new Map<string, Answers>();
  /** Path and scope of each pool's last scrape. */
  readonly #subjects = new Map<string, string>();
  /** The slot that answered last for its pool. */
  readonly #spokesmen = new Map<string, Slot>();
  #askedAt: Instant | undefined;
  #scrape: { readonly endedAt: Instant | undefined; readonly done: Promise<void> } | undefined;
  #texts = new Map<ExpositionFormat, string>();

  /** `poolOf` returns the current state of a pool; undefined if its workers expose no metrics. */
  constructor(options: {
    poolOf: (name: string) => MeasuredPool | undefined;
    view: () => ControllerView;
    judge: Judge;
    clock: Clock;
    log: Logger;
  }) {
    this.#poolOf = options.poolOf;
    this.#view = options.view;
    this.#judge = options.judge;
    this.#clock = options.clock;
    this.#log = options.log;
  }

  /** The exposition in the format that an Accept header requests, within the time limit for a worker's answer. */
  async exposition(accept: string): Promise<{ text: string; contentType: string }> {
    this.#askedAt = this.#clock.now();
    await this.#fresh();
    const format = chooseFormat(accept);
    let text = this.#texts.get(format);
    if (text === undefined) {
      text = this.#merged.format(format);
      this.#texts.set(format, text);
    }
    return { text, contentType: CONTENT_TYPES[format] };
  }

  /** Call for every lifecycle event. */
  handle(event: LifecycleEvent): void {
    switch (event.kind) {
      case "exited": {
        const measured = this.#poolOf(event.pool);
        if (measured !== undefined) removeDeadGauges(measured, measured.identifierOf(event.slot));
        if (measured?.scope !== "pool") this.#merged.ended(event);
        this.#asked.delete(event.pid);
        this.#strangers.delete(workerId(event.pool, event.slot));
        // Omit its gauges at once, even if the other metrics are fresh.
        this.#texts = new Map();
        return;
      }
      case "draining":
        if (this.#askedAt !== undefined && this.#clock.now() - this.#askedAt < WANTED_MS) this.#askOnceMore(event);
        return;
      case "operation_finished":
        if (event.what === "reload") this.#forgetUnmeasured(event.pool);
        return;
      default:
        return;
    }
  }

  /** Totals of the scrapes themselves. */
  totals(): WorkerMetricsTotals[] {
    return Array.from(this.#answers, ([pool, answers]) => ({
      pool,
      answers: { ...answers },
      dropped: { ...this.#merged.droppedOf(pool) },
      lines: this.#merged.linesOf(pool),
    }));
  }

  #askOnceMore({ pool, slot, incarnation }: Source): void {
    const measured = this.#poolOf(pool);
    // If one worker answers for the whole pool, no counts are lost when a worker exits.
    if (measured === undefined || measured.scope === "pool") return;
    const worker = this.#view()
      .pools.find(({ name }) => name === pool)
      ?.workers.find((each) => each.slot === slot && each.incarnation === incarnation);
    for (const target of worker === undefined ? [] : targetsOf([worker], measured)) void this.#ask(target);
  }

  /** Forgets a pool if a reload removed it or its metrics. */
  #forgetUnmeasured(pool: string): void {
    const isThere = this.#view().pools.some(({ name }) => name === pool);
    if (isThere && this.#poolOf(pool) !== undefined) return;
    this.#merged.forget(pool);
    for (const known of [this.#answers, this.#subjects, this.#spokesmen]) known.delete(pool);
    this.#texts = new Map();
  }

  /** Forgets earlier answers if the path or scope changed: their sums would be meaningless. */
  #beginSubject({ name, path, scope }: MeasuredPool): void {
    const subject = `${scope} ${path}`;
    const before = this.#subjects.get(name);
    if (before !== undefined && before !== subject) this.#merged.forget(name);
    this.#subjects.set(name, subject);
  }

  #fresh(): Promise<void> {
    const last = this.#scrape;
    const isOver = last?.endedAt !== undefined && this.#clock.now() - last.endedAt >= FRESH_MS;
    if (last !== undefined && !isOver) return last.done;
    const done = this.#askAll().finally(() => {
      this.#scrape = { endedAt: this.#clock.now(), done };
      this.#texts = new Map();
    });
    this.#scrape = { endedAt: undefined, done };
    return done;
  }

  async #askAll(): Promise<void> {
    const asked: Promise<unknown>[] = [];
    for (const { name, workers } of this.#view().pools) {
      const measured = this.#poolOf(name);
      if (measured === undefined) continue;
      this.#beginSubject(measured);
      removeDeadGauges(measured);
      const targets = targetsOf(workers, measured);
      if (measured.scope === "pool") {
        asked.push(this.#askForPool(name, targets));
        continue;
      }
      for (const target of targets) {
        asked.push(this.#ask(target));
        if (asked.length % BATCH === 0) await new Promise(setImmediate);
      }
    }
    await Promise.all(asked);
  }

  /** Tries the worker that answered last first, so that the source of the answer changes as rarely as possible. */
  async #askForPool(name: string, targets: readonly Target[]): Promise<void> {
    const last = this.#spokesmen.get(name);
    const sorted = targets.toSorted((a, b) => Number(b.slot === last) - Number(a.slot === last));
    for (const target of sorted.slice(0, MAX_ASKED_FOR_POOL)) {
      if (await this.#ask({ ...target, slot: 0, incarnation: 1, isPool: true })) {
        this.#spokesmen.set(name, target.slot);
        return;
      }
      // Do not try this worker first next time, although it may be ready.
      this.#spokesmen.delete(name);
    }
  }

  /** Scrapes one worker; resolves with whether it answered. */
  async #ask(target: Target): Promise<boolean> {
    const { pool, measured, address } = target;
    const answers = this.#answers.get(pool) ?? { success: 0, failure: 0, timeout: 0, foreign: 0 };
    this.#answers.set(pool, answers);
    const subject = this.#subjects.get(pool);
    const answer: Answer = (await this.#isForeign(target))
      ? { kind: "foreign" }
      : await fetchText(address, encodePath(measured.path));
    // A reload may have changed the path or scope meanwhile.
    if (this.#subjects.get(pool) !== subject) return false;
    answers[answer.kind]++;
    if (answer.kind === "success") this.#merged.observe(target, parseExposition(answer.text, this.#memo));
    else this.#merged.unanswered(target);
    return answer.kind === "success";
  }

  /** Whether a foreign process listens at the address; logs a warning that names it. Unknown owners may answer. */
  async #isForeign({ measured, address, worker }: Target): Promise<boolean> {
    const { pid, slot } = worker;
    if (pid === undefined) return false;
    const id = workerId(measured.name, slot);
    const ownership = await this.#judge(this.#askedOf(measured, pid), address);
    if (ownership.kind !== "foreign") {
      this.#strangers.delete(id);
      return false;
    }
    if (this.#strangers.get(id) !== ownership.who) {
      this.#strangers.set(id, ownership.who);
      const where = "port" in address ? `port ${address.port}` : address.path;
      this.#log.warn(
        `cannot scrape worker "${id}": ${ownership.who} listens on ${where} and is not a process of this worker`,
        { hint: "Stop that process, or set another metrics.port." },
      );
    }
    return true;
  }

  #askedOf({ name }: MeasuredPool, leader: number): Asked {
    let asked = this.#asked.get(leader);
    if (asked === undefined) {
      const pool = () => this.#view().pools.find((each) => each.name === name)?.workers ?? [];
      const siblings = () => (this.#poolOf(name)?.scope === "pool" ? pool().flatMap(({ pid }) => pid ?? []) : []);
      asked = { leader, siblings };
      this.#asked.set(leader, asked);
    }
    return asked;
  }
}

/** The workers that may be scraped, ready ones first. */
function targetsOf(workers: readonly WorkerView[], measured: MeasuredPool): Target[] {
  const targets = (["ready", "unready", "draining"] as const).flatMap((phase) =>
    workers.filter((worker) => worker.phase === phase),
  );
  return targets.flatMap((worker) => {
    const address = measured.addressOf(worker.slot, worker.revision);
    return address === undefined
      ? []
      : [{ ...sourceOf({ ...worker, pool: measured.name }), measured, address, worker }];
  });
}

/** Removes the live gauges of processes that have exited, and of those named `ended`. */
function removeDeadGauges({ multiprocDirectory }: MeasuredPool, ended?: string): void {
  if (multiprocDirectory === undefined) return;
  const isDead = (identifier: string) =>
    identifier === ended || (/^\d+$/u.test(identifier) && !existsSync(`/proc/${identifier}`));
  try {
    for (const name of deadGaugeFiles(readdirSync(multiprocDirectory), isDead))
      rmSync(join(multiprocDirectory, name), { force: true });
  } catch {
    // Without the directory there are no metrics either; the workers' own errors report that.
  }
}

function encodePath(path: string): string {
  const { pathname, search } = new URL(`http://localhost${path}`);
  return pathname + search;
}

function sourceOf({ pool, slot, incarnation }: Source): Source {
  return { pool, slot, incarnation };
}

type Answer =
  | { readonly kind: "success"; readonly text: string }
  | { readonly kind: "failure" | "timeout" | "foreign" };

/** Scrapes one worker over a new connection: a kept one would block a worker that allows few connections. */
function fetchText(address: UpstreamAddress, path: string): Promise<Answer> {
  const place = "port" in address ? { host: "127.0.0.1", port: address.port } : { socketPath: address.path };
  return new Promise((resolve) => {
    let isLate = false;
    const end = (answer: Answer) => {
      clearTimeout(timer);
      resolve(answer);
      call.destroy();
    };
    const call = request({
      ...place,
      path,
      agent: false,
      headers: { host: "localhost", accept: "text/plain;version=0.0.4", connection: "close" },
    });
    const timer = setTimeout(() => {
      isLate = true;
      end({ kind: "timeout" });
    }, ANSWER_MS);
    const fail = () => {
      if (!isLate) end({ kind: "failure" });
    };
    call.on("error", fail);
    call.on("response", (response) => {
      if (response.statusCode !== 200) {
        fail();
        return;
      }
      const chunks: Buffer[] = [];
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_ANSWER_BYTES) fail();
        else chunks.push(chunk);
      });
      // "end" is not emitted if the worker dies while it answers.
      response.on("end", () => end({ kind: "success", text: Buffer.concat(chunks).toString("utf8") }));
      response.on("error", fail);
      response.on("close", fail);
    });
    call.end();
  });
}
