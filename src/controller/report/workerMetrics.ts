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
import { join } from "node:path";
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
import type { WorkerScraper } from "./workerScraper.ts";

/** Maximum number of workers of a pool with scope pool that one scrape tries, until one answers. */
const MAX_TRIES_FOR_POOL = 2;

/** How long an answer is shared. */
const FRESH_MS = 1000;

/** Time after a scrape in which another one is expected. */
const EXPECTED_MS = 300_000;

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

/** A worker to scrape, and its address. */
interface Target {
  readonly measured: MeasuredPool;
  readonly address: UpstreamAddress;
  readonly worker: WorkerView;
}

export interface WorkerMetricsOptions {
  /** The current state of a pool; undefined if its workers expose no metrics. */
  readonly poolOf: (name: string) => MeasuredPool | undefined;
  readonly view: () => ControllerView;
  readonly scraper: Pick<WorkerScraper, "scrape" | "forget">;
  readonly clock: Clock;
}

type Answers = Record<keyof WorkerMetricsTotals["answers"], number>;

export class WorkerMetrics {
  readonly #options: WorkerMetricsOptions;
  readonly #merged = new MergedMetrics();
  readonly #memo = new SeriesMemo();
  readonly #answers = new Map<string, Answers>();
  /** Path and scope of each pool's last scrape. */
  readonly #subjects = new Map<string, string>();
  /** The slot that answered last for its pool. */
  readonly #lastAnswered = new Map<string, Slot>();
  #requestedAt: Instant | undefined;
  #scrape: { readonly endedAt: Instant | undefined; readonly done: Promise<void> } | undefined;
  #texts = new Map<ExpositionFormat, string>();

  constructor(options: WorkerMetricsOptions) {
    this.#options = options;
  }

  /** The exposition in the format that an Accept header requests, within the time limit for a worker's answer. */
  async exposition(accept: string): Promise<{ text: string; contentType: string }> {
    this.#requestedAt = this.#options.clock.now();
    await this.#refresh();
    const format = chooseFormat(accept);
    const text = this.#texts.get(format) ?? this.#merged.format(format);
    this.#texts.set(format, text);
    return { text, contentType: CONTENT_TYPES[format] };
  }

  /** Call for every lifecycle event. */
  handle(event: LifecycleEvent): void {
    switch (event.kind) {
      case "exited": {
        const measured = this.#options.poolOf(event.pool);
        if (measured !== undefined) removeDeadGauges(measured, measured.identifierOf(event.slot));
        if (measured?.scope !== "pool") this.#merged.ended(event);
        this.#options.scraper.forget(workerId(event.pool, event.slot), event.pid);
        // Omit its gauges at once, even if the other metrics are fresh.
        this.#texts = new Map();
        return;
      }
      case "draining":
        if (this.#requestedAt !== undefined && this.#options.clock.now() - this.#requestedAt < EXPECTED_MS)
          this.#scrapeLastTime(event);
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

  #scrapeLastTime({ pool, slot, incarnation }: Source): void {
    const measured = this.#options.poolOf(pool);
    // If one worker answers for the whole pool, no counts are lost when a worker exits.
    if (measured === undefined || measured.scope === "pool") return;
    const worker = this.#workersOf(pool).filter((each) => each.slot === slot && each.incarnation === incarnation);
    for (const target of targetsOf(worker, measured)) void this.#scrapeOne(target);
  }

  #workersOf(pool: string): readonly WorkerView[] {
    return this.#options.view().pools.find(({ name }) => name === pool)?.workers ?? [];
  }

  /** Forgets a pool if a reload removed it or its metrics. */
  #forgetUnmeasured(pool: string): void {
    const isThere = this.#options.view().pools.some(({ name }) => name === pool);
    if (isThere && this.#options.poolOf(pool) !== undefined) return;
    this.#merged.forget(pool);
    for (const known of [this.#answers, this.#subjects, this.#lastAnswered]) known.delete(pool);
    this.#texts = new Map();
  }

  /** Forgets earlier answers if the path or scope changed: their sums would be meaningless. */
  #beginSubject({ name, path, scope }: MeasuredPool): void {
    const subject = `${scope} ${path}`;
    const before = this.#subjects.get(name);
    if (before !== undefined && before !== subject) this.#merged.forget(name);
    this.#subjects.set(name, subject);
  }

  /** Scrapes the workers, unless the last scrape still runs or is fresh. */
  #refresh(): Promise<void> {
    const last = this.#scrape;
    const isOver = last?.endedAt !== undefined && this.#options.clock.now() - last.endedAt >= FRESH_MS;
    if (last !== undefined && !isOver) return last.done;
    const done = this.#scrapeAll().finally(() => {
      this.#scrape = { endedAt: this.#options.clock.now(), done };
      this.#texts = new Map();
    });
    this.#scrape = { endedAt: undefined, done };
    return done;
  }

  async #scrapeAll(): Promise<void> {
    const scrapes: Promise<unknown>[] = [];
    for (const { name, workers } of this.#options.view().pools) {
      const measured = this.#options.poolOf(name);
      if (measured === undefined) continue;
      this.#beginSubject(measured);
      removeDeadGauges(measured);
      const targets = targetsOf(workers, measured);
      if (measured.scope === "pool") {
        scrapes.push(this.#scrapeForPool(name, targets));
        continue;
      }
      for (const target of targets) {
        scrapes.push(this.#scrapeOne(target));
        if (scrapes.length % BATCH === 0) await new Promise(setImmediate);
      }
    }
    await Promise.all(scrapes);
  }

  /** Tries the worker that answered last first, so that the source of the answer changes as rarely as possible. */
  async #scrapeForPool(name: string, targets: readonly Target[]): Promise<void> {
    const last = this.#lastAnswered.get(name);
    const sorted = targets.toSorted((a, b) => Number(b.worker.slot === last) - Number(a.worker.slot === last));
    for (const target of sorted.slice(0, MAX_TRIES_FOR_POOL)) {
      if (await this.#scrapeOne(target)) {
        this.#lastAnswered.set(name, target.worker.slot);
        return;
      }
      // Do not try this worker first next time, although it may be ready.
      this.#lastAnswered.delete(name);
    }
  }

  /** Resolves with whether the worker answered. */
  async #scrapeOne({ measured, address, worker }: Target): Promise<boolean> {
    const { name, path, scope } = measured;
    const answers = this.#answers.get(name) ?? { success: 0, failure: 0, timeout: 0, foreign: 0 };
    this.#answers.set(name, answers);
    const subject = this.#subjects.get(name);
    const siblings = () => (this.#options.poolOf(name)?.scope === "pool" ? leadersOf(this.#workersOf(name)) : []);
    const answer = await this.#options.scraper.scrape(worker, { address, path, siblings });
    // A reload may have changed the path or scope meanwhile.
    if (this.#subjects.get(name) !== subject) return false;
    answers[answer.kind]++;
    const { slot, incarnation } = worker;
    const source = scope === "pool" ? { slot: 0, incarnation: 1, isPool: true } : { slot, incarnation };
    if (answer.kind === "success")
      this.#merged.observe({ pool: name, ...source }, parseExposition(answer.text, this.#memo));
    else this.#merged.unanswered({ pool: name, ...source });
    return answer.kind === "success";
  }
}

/** The workers that may be scraped, ready ones first. */
function targetsOf(workers: readonly WorkerView[], measured: MeasuredPool): Target[] {
  return (["ready", "unready", "draining"] as const).flatMap((phase) =>
    workers.flatMap((worker) => {
      const address = worker.phase === phase ? measured.addressOf(worker.slot, worker.revision) : undefined;
      return address === undefined ? [] : [{ measured, address, worker }];
    }),
  );
}

function leadersOf(workers: readonly WorkerView[]): number[] {
  return workers.flatMap(({ pid }) => pid ?? []);
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
