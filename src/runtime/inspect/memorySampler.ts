/**
 * Samples the memory of workers and notifies the listener when one reaches a limit. This file decides what to read,
 * core/policy/limits.ts what it means. A worker is sampled every few seconds, and sooner when it nears its limits.
 *
 * Invariants: no timer and no read while no worker has a limit; no notification about an incarnation after `forget`;
 * each limit is reported once per incarnation, then every REPORT_INTERVAL_MS while it stays exceeded.
 */
import type { Logger } from "../../base/log.ts";
import { monotonicMs } from "../../base/monotonic.ts";
import { after, type Instant, instant } from "../../base/time.ts";
import { formatRoundSize } from "../../base/units.ts";
import type { LimitKind } from "../../core/event.ts";
import { type PoolIndex, slotKey, type WorkerRef } from "../../core/identity.ts";
import { CONFIRM_MS, decideMemory, decideSampleDelayMs } from "../../core/policy/limits.ts";
import type { LimitsPolicy } from "../../core/spec.ts";
import type { Clock } from "../clock.ts";

/** Non-urgent samples are aligned to this interval, so that hundreds of workers need few wake-ups. */
const GRID_MS = 250;

/** Minimum interval between process listings; new children of a worker count from the next listing on. */
const LISTING_MS = 2000;

/** Delay before the first sample of a new worker. */
const FIRST_SAMPLE_MS = 1000;

/** Decay factor of the highest growth rate, applied at each sample with less growth. */
const GROWTH_MEMORY = 0.7;

/** A limit that stays exceeded is reported again, because no action may have been possible at the earlier report. */
const REPORT_INTERVAL_MS = 60_000;

/** How long a PSS reading is reused while resident memory does not grow. */
const PSS_REUSE_MS = 30_000;

/** Minimum interval between PSS readings, as a multiple of a reading's duration. */
const PSS_COST_FACTOR = 50;

type MemoryLimit = Extract<LimitKind, "memory" | "memory_hard">;

/** One incarnation, from its spawn on. */
export interface MemoryTarget extends WorkerRef {
  /** Leader of its processes. */
  readonly pid: number;
}

interface Reading {
  readonly bytes: number;
  readonly kind: LimitsPolicy["memoryKind"];
  readonly processes: number;
}

interface Watch {
  readonly target: MemoryTarget;
  /** Whether it has become ready; until then only the hard limit applies. */
  isServing: boolean;
  dueAt: Instant;
  last: { readonly at: Instant; readonly bytes: number };
  growthPerMs: number;
  samplesAbove: number;
  /** When samplesAbove last grew. */
  countedAt: Instant;
  readonly reportedAt: Map<MemoryLimit, Instant>;
  pss: { readonly at: Instant; readonly bytes: number; readonly rssBytes: number; readonly costMs: number } | undefined;
}

interface MemorySamplerOptions {
  readonly clock: Clock;
  readonly trees: { refresh(): void; membersOf(leader: number): readonly number[] };
  /** Undefined if a process has exited or is hidden. */
  readonly memory: { rssBytes(pid: number): number | undefined; pssBytes(pid: number): number | undefined };
  readonly limitsOf: (pool: PoolIndex) => LimitsPolicy;
  readonly listener: {
    /** `reason` is a clause that is ready to print. */
    limitReached(worker: WorkerRef, limit: MemoryLimit, reason: string): void;
  };
  readonly log: Logger;
}

export class MemorySampler {
  readonly #options: MemorySamplerOptions;
  readonly #watches = new Map<string, Watch>();
  readonly #hiddenPools = new Set<PoolIndex>();
  #timer: { readonly at: Instant; readonly handle: Disposable } | undefined;
  #listedAt: Instant = instant(Number.NEGATIVE_INFINITY);

  /** `limitsOf` returns the current limits of a pool. */
  constructor(options: MemorySamplerOptions) {
    this.#options = options;
  }

  /** Starts sampling a newly spawned worker. */
  watch(target: MemoryTarget): void {
    const now = this.#options.clock.now();
    const watch: Watch = {
      target,
      isServing: false,
      dueAt: onGrid(after(now, FIRST_SAMPLE_MS)),
      // Lets the first sample compute a growth rate.
      last: { at: now, bytes: 0 },
      growthPerMs: 0,
      samplesAbove: 0,
      countedAt: now,
      reportedAt: new Map(),
      pss: undefined,
    };
    this.#watches.set(slotKey(target), watch);
    if (isLimited(this.#options.limitsOf(target.pool))) this.#armAt(watch.dueAt);
  }

  /** The worker is ready, so a successor can replace it: the soft limit applies from now on. */
  serves(worker: WorkerRef): void {
    const watch = this.#watches.get(slotKey(worker));
    if (watch?.target.incarnation === worker.incarnation) watch.isServing = true;
  }

  /** Stops sampling a worker. */
  forget(worker: WorkerRef): void {
    const key = slotKey(worker);
    if (this.#watches.get(key)?.target.incarnation !== worker.incarnation) return;
    this.#watches.delete(key);
    if (this.#watches.size === 0) this.#disarm();
  }

  /** Limits may have changed: samples all workers again within GRID_MS. */
  reconsider(): void {
    const soon = after(this.#options.clock.now(), GRID_MS);
    for (const watch of this.#watches.values()) if (watch.dueAt > soon) watch.dueAt = soon;
    this.#arm();
  }

  close(): void {
    this.#watches.clear();
    this.#disarm();
  }

  /** Sets the one timer to the first due sample among workers with a limit. */
  #arm(): void {
    let at: Instant | undefined;
    for (const watch of this.#watches.values()) {
      if ((at === undefined || watch.dueAt < at) && isLimited(this.#options.limitsOf(watch.target.pool)))
        at = watch.dueAt;
    }
    if (at === undefined) this.#disarm();
    else this.#armAt(at);
  }

  /** Wakes at `at`, unless the timer already fires earlier. */
  #armAt(at: Instant): void {
    if (this.#timer !== undefined && this.#timer.at <= at) return;
    this.#disarm();
    this.#timer = { at, handle: this.#options.clock.wakeAt(at, () => this.#wake()) };
  }

  #disarm(): void {
    this.#timer?.handle[Symbol.dispose]();
    this.#timer = undefined;
  }

  #wake(): void {
    this.#timer = undefined;
    const now = this.#options.clock.now();
    const due = [...this.#watches.values()].filter(
      ({ dueAt, target }) => dueAt <= now && isLimited(this.#options.limitsOf(target.pool)),
    );
    if (due.length > 0 && now - this.#listedAt >= LISTING_MS) {
      this.#options.trees.refresh();
      this.#listedAt = now;
    }
    for (const watch of due) {
      // A notification about another worker may have ended this one.
      if (this.#watches.get(slotKey(watch.target)) === watch) this.#sample(watch, now);
    }
    this.#arm();
  }

  #sample(watch: Watch, now: Instant): void {
    const limits = this.#options.limitsOf(watch.target.pool);
    const reading = this.#read(watch, limits, now);
    const { bytes } = reading;
    const { last } = watch;
    const growth = now > last.at ? (bytes - last.bytes) / (now - last.at) : 0;
    watch.growthPerMs = Math.max(0, growth, watch.growthPerMs * GROWTH_MEMORY);
    watch.last = { at: now, bytes };
    const delayMs = decideSampleDelayMs(limits, bytes, watch.growthPerMs);
    watch.dueAt = delayMs < CONFIRM_MS ? after(now, delayMs) : onGrid(after(now, delayMs));
    this.#judge(watch, limits, reading, now);
    // Samples taken early do not delay the confirming second sample.
    if (watch.samplesAbove === 1) watch.dueAt = instant(Math.min(watch.dueAt, after(watch.countedAt, CONFIRM_MS)));
  }

  #judge(watch: Watch, limits: LimitsPolicy, reading: Reading, now: Instant): void {
    // An early sample for the hard limit does not count as the second sample for the soft limit.
    const isEarly = watch.samplesAbove > 0 && now - watch.countedAt < CONFIRM_MS;
    const before = watch.isServing ? watch.samplesAbove - (isEarly ? 1 : 0) : 0;
    const { samplesAbove, limit } = decideMemory(limits, before, reading.bytes);
    watch.samplesAbove = watch.isServing ? samplesAbove : 0;
    if (!isEarly) watch.countedAt = now;
    if (limit === undefined) return;
    const reportedAt = watch.reportedAt.get(limit);
    if (reportedAt !== undefined && now - reportedAt < REPORT_INTERVAL_MS) return;
    watch.reportedAt.set(limit, now);
    const allowed = limit === "memory" ? limits.memoryBytes : limits.memoryHardBytes;
    this.#options.listener.limitReached(watch.target, limit, describe(reading, allowed ?? 0));
  }

  #read(watch: Watch, limits: LimitsPolicy, now: Instant): Reading {
    const members = this.#options.trees.membersOf(watch.target.pid);
    let rssBytes = 0;
    let processes = 0;
    for (const pid of members) {
      const bytes = this.#options.memory.rssBytes(pid);
      // A zombie has no resident memory.
      if (bytes === undefined || bytes === 0) continue;
      rssBytes += bytes;
      processes++;
    }
    const lowest = Math.min(
      limits.memoryBytes ?? Number.POSITIVE_INFINITY,
      limits.memoryHardBytes ?? Number.POSITIVE_INFINITY,
    );
    // The PSS of the processes never exceeds their RSS.
    if (limits.memoryKind === "rss" || rssBytes <= lowest)
      return { bytes: rssBytes, kind: limits.memoryKind, processes };
    const bytes = this.#readPss(watch, members, rssBytes, lowest, now);
    return bytes === undefined ? { bytes: rssBytes, kind: "rss", processes } : { bytes, kind: "pss", processes };
  }

  /** Reads the expensive PSS only if it could exceed the lowest limit. */
  #readPss(
    watch: Watch,
    members: readonly number[],
    rssBytes: number,
    lowest: number,
    now: Instant,
  ): number | undefined {
    const { pss } = watch;
    if (pss !== undefined) {
      const ageMs = now - pss.at;
      const atMost = pss.bytes + Math.max(0, rssBytes - pss.rssBytes);
      if (ageMs < pss.costMs * PSS_COST_FACTOR || (ageMs < PSS_REUSE_MS && atMost <= lowest)) return atMost;
    }
    const beganMs = monotonicMs();
    let bytes = 0;
    for (const pid of members) {
      const share = this.#options.memory.pssBytes(pid);
      if (share !== undefined) bytes += share;
      else if ((this.#options.memory.rssBytes(pid) ?? 0) > 0) {
        this.#warnOfHidden(watch.target);
        return undefined;
      }
    }
    watch.pss = { at: now, bytes, rssBytes, costMs: monotonicMs() - beganMs };
    return bytes;
  }

  #warnOfHidden({ pool, pid }: MemoryTarget): void {
    if (this.#hiddenPools.has(pool)) return;
    this.#hiddenPools.add(pool);
    this.#options.log.warn("the PSS of workers is hidden from the controller, their RSS counts instead", {
      pid,
      hint: "Workers of another user need CAP_SYS_PTRACE in the controller for memory_kind: pss.",
    });
  }
}

function isLimited({ memoryBytes, memoryHardBytes }: LimitsPolicy): boolean {
  return memoryBytes !== undefined || memoryHardBytes !== undefined;
}

/** Rounds up to the next multiple of GRID_MS. */
function onGrid(at: Instant): Instant {
  return instant(Math.ceil(at / GRID_MS) * GRID_MS);
}

function describe({ bytes, kind, processes }: Reading, allowedBytes: number): string {
  const where = processes === 1 ? "" : ` in ${processes} processes`;
  return `${formatRoundSize(bytes)} ${kind}${where}; the limit is ${formatRoundSize(allowedBytes)}`;
}
