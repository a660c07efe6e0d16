/**
 * The workers' own metrics as one exposition: asks all workers at once, each for a bounded time, and merges what they show.
 *
 * Workers are asked when somebody scrapes, not by a timer: showing metrics costs a single-threaded worker time in which it
 * serves nobody, and what a worker counts between the last scrape and its death is lost to any Prometheus that asks it
 * directly too. One that is about to be replaced is asked once more while it drains, if anybody wanted metrics lately. So
 * that scrapes cannot be used to load workers, an answer is kept for a second and shared by all who ask meanwhile.
 */
import { request } from "node:http";
import type { Instant } from "../base/time.ts";
import type { LifecycleEvent } from "../core/event.ts";
import type { Slot } from "../core/identity.ts";
import type { ControllerView, WorkerView } from "../core/view.ts";
import type { UpstreamAddress } from "../envoy/settings.ts";
import { CONTENT_TYPES, chooseFormat, type ExpositionFormat } from "../metrics/exposition.ts";
import { MergedMetrics, type Source } from "../metrics/merge.ts";
import { parseExposition, SeriesMemo } from "../metrics/parse.ts";
import type { WorkerMetricsTotals } from "../metrics/scrape.ts";
import type { Clock } from "../runtime/clock.ts";

/** A worker that has not answered by then is left out of the scrape. */
const ANSWER_MS = 1000;

/** So long an answer is good for everybody. */
const FRESH_MS = 1000;

/** Whoever scraped within this time will scrape again. */
const WANTED_MS = 300_000;

const MAX_ANSWER_BYTES = 4 << 20;

/** Workers whose connections are opened in one turn of the event loop. */
const BATCH = 50;

/** A pool whose workers show metrics. */
export interface MeasuredPool {
  readonly name: string;
  readonly path: string;
  /** Where a worker that was launched with a revision shows them. */
  readonly addressOf: (slot: Slot, revision: number) => UpstreamAddress | undefined;
}

interface Answers {
  success: number;
  failure: number;
  timeout: number;
}

/** Who is asked, and where. */
interface Target extends Source {
  readonly measured: MeasuredPool;
  readonly address: UpstreamAddress;
}

export class WorkerMetrics {
  readonly #poolOf: (name: string) => MeasuredPool | undefined;
  readonly #view: () => ControllerView;
  readonly #clock: Clock;
  readonly #merged = new MergedMetrics();
  readonly #memo = new SeriesMemo();
  readonly #answers = new Map<string, Answers>();
  /** The path that the merged metrics of a pool come from. */
  readonly #paths = new Map<string, string>();
  #askedAt: Instant | undefined;
  #scrape: { readonly endedAt: Instant | undefined; readonly done: Promise<void> } | undefined;
  #texts = new Map<ExpositionFormat, string>();

  /** `poolOf` knows a pool as it is now; undefined where its workers show no metrics. */
  constructor(options: {
    poolOf: (name: string) => MeasuredPool | undefined;
    view: () => ControllerView;
    clock: Clock;
  }) {
    this.#poolOf = options.poolOf;
    this.#view = options.view;
    this.#clock = options.clock;
  }

  /** The exposition in the format that an Accept header asks for, never later than a worker may take to answer. */
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

  /** To be told of every lifecycle event. */
  handle(event: LifecycleEvent): void {
    switch (event.kind) {
      case "exited":
        this.#merged.ended(event);
        // Without its gauges from now on, however fresh the rest is.
        this.#texts = new Map();
        return;
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

  /** What is told about the scrapes themselves. */
  totals(): WorkerMetricsTotals[] {
    return Array.from(this.#answers, ([pool, answers]) => ({
      pool,
      answers: { ...answers },
      dropped: { ...this.#merged.droppedOf(pool) },
      lines: this.#merged.linesOf(pool),
    }));
  }

  #askOnceMore({ pool, slot, incarnation }: Source): void {
    const worker = this.#view()
      .pools.find(({ name }) => name === pool)
      ?.workers.find((each) => each.slot === slot && each.incarnation === incarnation);
    const measured = this.#poolOf(pool);
    const target = worker && measured && targetOf(worker, measured);
    if (target !== undefined) void this.#ask(target);
  }

  /** A reload may have removed a pool, or its metrics. */
  #forgetUnmeasured(pool: string): void {
    const isThere = this.#view().pools.some(({ name }) => name === pool);
    if (isThere && this.#poolOf(pool) !== undefined) return;
    this.#merged.forget(pool);
    this.#answers.delete(pool);
    this.#paths.delete(pool);
    this.#texts = new Map();
  }

  /** Another path may show other metrics: sums of the two would mean nothing. */
  #askAt(pool: string, path: string): void {
    const before = this.#paths.get(pool);
    if (before !== undefined && before !== path) this.#merged.forget(pool);
    this.#paths.set(pool, path);
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
    const targets = this.#targets();
    const asked: Promise<void>[] = [];
    for (const [index, target] of targets.entries()) {
      asked.push(this.#ask(target));
      if (index % BATCH === BATCH - 1) await new Promise(setImmediate);
    }
    await Promise.all(asked);
  }

  #targets(): Target[] {
    return this.#view().pools.flatMap((pool) => {
      const measured = this.#poolOf(pool.name);
      if (measured === undefined) return [];
      return pool.workers.flatMap((worker) => targetOf(worker, measured) ?? []);
    });
  }

  async #ask(target: Target): Promise<void> {
    const { pool, measured, address } = target;
    this.#askAt(pool, measured.path);
    const answers = this.#answers.get(pool) ?? { success: 0, failure: 0, timeout: 0 };
    this.#answers.set(pool, answers);
    const answer = await fetchText(address, encodePath(measured.path));
    // A reload may have come meanwhile.
    if (this.#paths.get(pool) !== measured.path) return;
    answers[answer.kind]++;
    if (answer.kind === "success") this.#merged.observe(target, parseExposition(answer.text, this.#memo));
    else this.#merged.unanswered(target);
  }
}

/** undefined where the worker cannot be asked now. */
function targetOf(worker: WorkerView, measured: MeasuredPool): Target | undefined {
  const { slot, revision, phase } = worker;
  const isUp = phase === "ready" || phase === "unready" || phase === "draining";
  const address = isUp ? measured.addressOf(slot, revision) : undefined;
  return address === undefined ? undefined : { ...sourceOf(worker), measured, address };
}

function encodePath(path: string): string {
  const { pathname, search } = new URL(`http://localhost${path}`);
  return pathname + search;
}

function sourceOf({ pool, slot, incarnation }: Source): Source {
  return { pool, slot, incarnation };
}

type Answer = { readonly kind: "success"; readonly text: string } | { readonly kind: "failure" | "timeout" };

/** Asks one worker, over a connection of its own: one that is kept would hold up a worker with few of them. */
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
      // "end" does not come where the worker died in the midst of its answer.
      response.on("end", () => end({ kind: "success", text: Buffer.concat(chunks).toString("utf8") }));
      response.on("error", fail);
      response.on("close", fail);
    });
    call.end();
  });
}
