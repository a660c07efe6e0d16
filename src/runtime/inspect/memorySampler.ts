/**
 * Watches the memory of workers and tells when one has reached a limit. What is read is decided here, what it means in
 * core/limits.ts. A worker far from its limits is looked at every few seconds, one that grows towards them sooner.
 *
 * Invariants: no timer and no read while no worker has a limit; nothing is told about an incarnation after `forget`; a limit
 * is told once for an incarnation, and again only while it stays exceeded for long.
 */
import type { Logger } from "../../base/log.ts";
import { monotonicMs } from "../../base/monotonic.ts";
import { after, type Instant, instant } from "../../base/time.ts";
import { formatRoundSize } from "../../base/units.ts";
import type { LimitKind } from "../../core/event.ts";
import type { Incarnation, Slot } from "../../core/identity.ts";
import { CONFIRM_MS, decideMemory, decideSampleDelayMs } from "../../core/policy/limits.ts";
import type { LimitsPolicy } from "../../core/spec.ts";
import type { Clock } from "../clock.ts";

/** Samples that are not urgent wait for each other, so that hundreds of workers need few wakes. */
const GRID_MS = 250;

/** Processes are listed at most so often: children of a worker count from the next listing on. */
const LISTING_MS = 2000;

/** First look at a new worker. */
const FIRST_SAMPLE_MS = 1000;

/** How much of the highest growth is expected to come again after each sample without it. */
const GROWTH_MEMORY = 0.7;

/** A limit that stays exceeded is told again: what was told may have come when nothing could be done. */
const TELL_AGAIN_MS = 60_000;

/** So long a reading of PSS stands in for the next ones where residents do not grow. */
const PSS_STANDS_MS = 30_000;

/** A reading of PSS is not repeated before so many times its own duration. */
const PSS_COST_FACTOR = 50;

type MemoryLimit = Extract<LimitKind, "memory" | "memory_hard">;

/** One incarnation, from its spawn on; `pool` is the index of the pool. */
export interface MemoryTarget {
  readonly pool: number;
  readonly slot: Slot;
  readonly incarnation: Incarnation;
  /** Leader of its processes. */
  readonly pid: number;
}

/** Whose processes are whose; ProcessTrees, unless a test plays it. */
export interface TreeSource {
  refresh(): void;
  membersOf(leader: number): readonly number[];
}

/** Where numbers come from; undefined where a process is gone or hidden. */
export interface MemorySource {
  rssBytes(pid: number): number | undefined;
  pssBytes(pid: number): number | undefined;
}

/** `reason` is a full sentence part, ready to print. */
export interface MemoryListener {
  limitReached(pool: number, slot: Slot, incarnation: Incarnation, limit: MemoryLimit, reason: string): void;
}

interface Reading {
  readonly bytes: number;
  readonly kind: LimitsPolicy["memoryKind"];
  readonly processes: number;
}

interface Watch {
  readonly target: MemoryTarget;
  /** Whether it has become ready: until then only the hard limit counts. */
  isServing: boolean;
  dueAt: Instant;
  last: { readonly at: Instant; readonly bytes: number };
  growthPerMs: number;
  samplesAbove: number;
  /** When samplesAbove last grew. */
  countedAt: Instant;
  readonly toldAt: Map<MemoryLimit, Instant>;
  pss: { readonly at: Instant; readonly bytes: number; readonly rssBytes: number; readonly costMs: number } | undefined;
}

export class MemorySampler {
  readonly #clock: Clock;
  readonly #trees: TreeSource;
  readonly #memory: MemorySource;
  readonly #limitsOf: (pool: number) => LimitsPolicy;
  readonly #listener: MemoryListener;
  readonly #log: Logger;
  readonly #watches = new Map<string, Watch>();
  readonly #hiddenPools = new Set<number>();
  #timer: { readonly at: Instant; readonly handle: Disposable } | undefined;
  #listedAt: Instant = instant(Number.NEGATIVE_INFINITY);

  /** `limitsOf` gives those of a pool at present. */
  constructor(options: {
    clock: Clock;
    trees: TreeSource;
    memory: MemorySource;
    limitsOf: (pool: number) => LimitsPolicy;
    listener: MemoryListener;
    log: Logger;
  }) {
    this.#clock = options.clock;
    this.#trees = options.trees;
    this.#memory = options.memory;
    this.#limitsOf = options.limitsOf;
    this.#listener = options.listener;
    this.#log = options.log;
  }

  /** Begins to look at a worker that has just been spawned. */
  watch(target: MemoryTarget): void {
    const now = this.#clock.now();
    const watch: Watch = {
      target,
      isServing: false,
      dueAt: onGrid(after(now, FIRST_SAMPLE_MS)),
      // So that the growth is known from the first look on.
      last: { at: now, bytes: 0 },
      growthPerMs: 0,
      samplesAbove: 0,
      countedAt: now,
      toldAt: new Map(),
      pss: undefined,
    };
    this.#watches.set(keyOf(target.pool, target.slot), watch);
    if (isLimited(this.#limitsOf(target.pool))) this.#armAt(watch.dueAt);
  }

  /** It is ready, so a successor can take over from it: the soft limit counts from now on. */
  serves(pool: number, slot: Slot, incarnation: Incarnation): void {
    const watch = this.#watches.get(keyOf(pool, slot));
    if (watch?.target.incarnation === incarnation) watch.isServing = true;
  }

  /** Looks at a worker no more. */
  forget(pool: number, slot: Slot, incarnation: Incarnation): void {
    const key = keyOf(pool, slot);
    if (this.#watches.get(key)?.target.incarnation !== incarnation) return;
    this.#watches.delete(key);
    if (this.#watches.size === 0) this.#disarm();
  }

  /** Limits may have changed: they are held against all workers anew, soon. */
  reconsider(): void {
    const soon = after(this.#clock.now(), GRID_MS);
    for (const watch of this.#watches.values()) if (watch.dueAt > soon) watch.dueAt = soon;
    this.#arm();
  }

  close(): void {
    this.#watches.clear();
    this.#disarm();
  }

  /** One timer for the look that is due first among workers with a limit. */
  #arm(): void {
    let at: Instant | undefined;
    for (const watch of this.#watches.values()) {
      if ((at === undefined || watch.dueAt < at) && isLimited(this.#limitsOf(watch.target.pool))) at = watch.dueAt;
    }
    if (at === undefined) this.#disarm();
    else this.#armAt(at);
  }

  /** Wakes at `at` unless the timer does before. */
  #armAt(at: Instant): void {
    if (this.#timer !== undefined && this.#timer.at <= at) return;
    this.#disarm();
    this.#timer = { at, handle: this.#clock.wakeAt(at, () => this.#wake()) };
  }

  #disarm(): void {
    this.#timer?.handle[Symbol.dispose]();
    this.#timer = undefined;
  }

  #wake(): void {
    this.#timer = undefined;
    const now = this.#clock.now();
    const due = [...this.#watches.values()].filter(
      ({ dueAt, target }) => dueAt <= now && isLimited(this.#limitsOf(target.pool)),
    );
    if (due.length > 0 && now - this.#listedAt >= LISTING_MS) {
      this.#trees.refresh();
      this.#listedAt = now;
    }
    for (const watch of due) {
      // What was told of another one may have ended this one.
      const { pool, slot } = watch.target;
      if (this.#watches.get(keyOf(pool, slot)) === watch) this.#sample(watch, now);
    }
    this.#arm();
  }

  #sample(watch: Watch, now: Instant): void {
    const limits = this.#limitsOf(watch.target.pool);
    const reading = this.#read(watch, limits, now);
    const { bytes } = reading;
    const { last } = watch;
    const growth = now > last.at ? (bytes - last.bytes) / (now - last.at) : 0;
    watch.growthPerMs = Math.max(0, growth, watch.growthPerMs * GROWTH_MEMORY);
    watch.last = { at: now, bytes };
    const delayMs = decideSampleDelayMs(limits, bytes, watch.growthPerMs);
    watch.dueAt = delayMs < CONFIRM_MS ? after(now, delayMs) : onGrid(after(now, delayMs));
    this.#judge(watch, limits, reading, now);
    // The second sample is not put off by looks between it and the first.
    if (watch.samplesAbove === 1) watch.dueAt = instant(Math.min(watch.dueAt, after(watch.countedAt, CONFIRM_MS)));
  }

  #judge(watch: Watch, limits: LimitsPolicy, reading: Reading, now: Instant): void {
    // A look that came early because of the hard limit is no second sample for the soft one.
    const isEarly = watch.samplesAbove > 0 && now - watch.countedAt < CONFIRM_MS;
    const before = watch.isServing ? watch.samplesAbove - (isEarly ? 1 : 0) : 0;
    const { samplesAbove, limit } = decideMemory(limits, before, reading.bytes);
    watch.samplesAbove = watch.isServing ? samplesAbove : 0;
    if (!isEarly) watch.countedAt = now;
    if (limit === undefined) return;
    const toldAt = watch.toldAt.get(limit);
    if (toldAt !== undefined && now - toldAt < TELL_AGAIN_MS) return;
    watch.toldAt.set(limit, now);
    const { pool, slot, incarnation } = watch.target;
    const allowed = limit === "memory" ? limits.memoryBytes : limits.memoryHardBytes;
    this.#listener.limitReached(pool, slot, incarnation, limit, describe(reading, allowed ?? 0));
  }

  #read(watch: Watch, limits: LimitsPolicy, now: Instant): Reading {
    const members = this.#trees.membersOf(watch.target.pid);
    let rssBytes = 0;
    let processes = 0;
    for (const pid of members) {
      const bytes = this.#memory.rssBytes(pid);
      // Nothing resident: a zombie.
      if (bytes === undefined || bytes === 0) continue;
      rssBytes += bytes;
      processes++;
    }
    const lowest = Math.min(
      limits.memoryBytes ?? Number.POSITIVE_INFINITY,
      limits.memoryHardBytes ?? Number.POSITIVE_INFINITY,
    );
    // The shares of shared pages never add up to more than the pages.
    if (limits.memoryKind === "rss" || rssBytes <= lowest)
      return { bytes: rssBytes, kind: limits.memoryKind, processes };
    const bytes = this.#readPss(watch, members, rssBytes, lowest, now);
    return bytes === undefined ? { bytes: rssBytes, kind: "rss", processes } : { bytes, kind: "pss", processes };
  }

  /** Reads what is expensive only where it could be above the lowest limit. */
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
      if (ageMs < pss.costMs * PSS_COST_FACTOR || (ageMs < PSS_STANDS_MS && atMost <= lowest)) return atMost;
    }
    const beganMs = monotonicMs();
    let bytes = 0;
    for (const pid of members) {
      const share = this.#memory.pssBytes(pid);
      if (share !== undefined) bytes += share;
      else if ((this.#memory.rssBytes(pid) ?? 0) > 0) {
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
    this.#log.warn("the PSS of workers is hidden from the controller, their RSS counts instead", {
      pid,
      hint: "Workers of another user need CAP_SYS_PTRACE in the controller for memory_kind: pss.",
    });
  }
}

function keyOf(pool: number, slot: Slot): string {
  return `${pool}/${slot}`;
}

function isLimited({ memoryBytes, memoryHardBytes }: LimitsPolicy): boolean {
  return memoryBytes !== undefined || memoryHardBytes !== undefined;
}

/** The next instant of the grid. */
function onGrid(at: Instant): Instant {
  return instant(Math.ceil(at / GRID_MS) * GRID_MS);
}

function describe({ bytes, kind, processes }: Reading, allowedBytes: number): string {
  const where = processes === 1 ? "" : ` in ${processes} processes`;
  return `${formatRoundSize(bytes)} ${kind}${where}, allowed are ${formatRoundSize(allowedBytes)}`;
}
