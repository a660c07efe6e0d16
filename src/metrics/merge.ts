/**
 * Merges the workers' own metrics as if one never-ending program exposed them. Counters, histograms and summaries are
 * summed over the workers of a pool, including earlier incarnations; gauges stay separate by worker. If any worker
 * answers for the whole pool (metrics.scope: pool), the pool is one never-ending source. Pure bookkeeping: the caller
 * decides which worker to scrape and when, and supplies the text.
 *
 * Invariants: a sum never decreases while its series exists. Late results of an ended incarnation change nothing. The
 * series of a pool are bounded; the excess is counted and dropped. A series that a live process no longer exposes
 * keeps its last value.
 */
import { type Incarnation, type Slot, workerId } from "../core/identity.ts";
import { type ExpositionFormat, escapeLabel, formatBound, formatHead, formatNumber } from "./exposition.ts";
import {
  type Distribution,
  type DistributionFamily,
  type Dropped,
  ownCopy,
  type ParsedExposition,
  type ParsedFamily,
  type ValueFamily,
} from "./parse.ts";

/** Maximum number of lines for the sums of one pool. */
const MAX_LINES = 20_000;

/** Maximum number of bounds of a histogram whose workers disagree on bounds. */
const MAX_BOUNDS = 200;

/** Relative error that rounding may cause when numbers are added in another order. */
const ROUNDING = 1e-9;

/** What was dropped, in samples; `conflict`: the type differs from that of other workers. */
export interface MergeDropped extends Dropped {
  conflict: number;
}

/** One process whose metrics are merged. */
export interface Source {
  readonly pool: string;
  readonly slot: Slot;
  readonly incarnation: Incarnation;
  /** Whether its answer stands for all workers of the pool; its gauges then have no worker label. */
  readonly isPool?: boolean;
}

/** The state of a slot. */
interface Worker {
  readonly pool: Pool;
  readonly slot: Slot;
  /** Labels of its gauges. */
  readonly label: string;
  /** The incarnation observed last, alive or not. */
  incarnation: Incarnation;
  hasEnded: boolean;
  /** Families in its last answer. */
  families: ReadonlySet<Family>;
  /** Gauges in its last answer; empty if it has not answered since. */
  gauges: ReadonlyMap<Family, ReadonlyMap<string, number>>;
}

interface Pool {
  readonly name: string;
  /** The pool as a label. */
  readonly label: string;
  readonly workers: Map<Slot, Worker>;
  lines: number;
  readonly dropped: MergeDropped;
}

interface Family {
  readonly name: string;
  readonly type: ParsedFamily["type"];
  help: string;
  /** Workers that had it in their last answer. */
  readonly reporters: Set<Worker>;
  /** Sums by pool and labels; empty for gauges. */
  readonly counters: Map<Pool, Map<string, Counter>>;
  readonly distributions: Map<Pool, Map<string, Histogram>>;
}

/** A sum: the counts of ended processes, plus those of each slot's current process. */
class Counter {
  #ended = 0;
  readonly #seen: number[] = [];
  #printed = 0;

  observe(slot: Slot, value: number): void {
    const seen = this.#seen[slot] ?? 0;
    // A smaller value means that the program reset its counter or forked.
    if (value < seen) this.#ended += seen;
    this.#seen[slot] = value;
  }

  fold(slot: Slot): void {
    this.#ended += this.#seen[slot] ?? 0;
    this.#seen[slot] = 0;
  }

  total(): number {
    let total = this.#ended;
    for (const value of this.#seen) total += value ?? 0;
    this.#printed = withoutRounding(this.#printed, total);
    return this.#printed;
  }
}

/** A sum of histograms or summaries, with the bounds of all workers combined. */
class Histogram {
  bounds: readonly number[];
  #ended: Distribution;
  readonly #seen: (Distribution | undefined)[] = [];
  #printedSum = 0;

  constructor(bounds: readonly number[]) {
    this.bounds = bounds;
    this.#ended = emptyDistribution(bounds);
  }

  observe(slot: Slot, shown: Distribution): void {
    if (!isSame(this.bounds, shown.bounds)) this.#widen(shown.bounds);
    const value = withBounds(shown, this.bounds);
    const seen = this.#seen[slot];
    if (seen !== undefined && beganAgain(seen, value)) this.fold(slot);
    this.#seen[slot] = value;
  }

  fold(slot: Slot): void {
    const seen = this.#seen[slot];
    if (seen !== undefined) this.#ended = sumOf(this.#ended, seen);
    this.#seen[slot] = undefined;
  }

  total(): Distribution {
    let total = this.#ended;
    for (const seen of this.#seen) if (seen !== undefined) total = sumOf(total, seen);
    this.#printedSum = withoutRounding(this.#printedSum, total.sum);
    return { ...total, sum: this.#printedSum };
  }

  #widen(bounds: readonly number[]): void {
    const all = [...new Set([...this.bounds, ...bounds])].toSorted((a, b) => a - b);
    if (all.length > MAX_BOUNDS || all.length === this.bounds.length) return;
    this.bounds = all;
    this.#ended = withBounds(this.#ended, all);
    for (const [slot, seen] of this.#seen.entries()) if (seen !== undefined) this.#seen[slot] = withBounds(seen, all);
  }
}

export class MergedMetrics {
  readonly #pools = new Map<string, Pool>();
  readonly #families = new Map<string, Family>();
  /** Families by every name that their lines use. */
  readonly #names = new Map<string, Family>();

  /** Adds the metrics that a process exposes. */
  observe(source: Source, { families, dropped }: ParsedExposition): void {
    const worker = this.#workerOf(source);
    if (source.incarnation < worker.incarnation || (source.incarnation === worker.incarnation && worker.hasEnded))
      return;
    if (source.incarnation > worker.incarnation) {
      this.#fold(worker);
      worker.incarnation = source.incarnation;
      worker.hasEnded = false;
    }
    for (const reason of ["malformed", "limit", "unsupported"] as const) worker.pool.dropped[reason] += dropped[reason];
    const shown = new Set<Family>();
    const gauges = new Map<Family, ReadonlyMap<string, number>>();
    for (const parsed of families) {
      const family = this.#familyOf(parsed, worker);
      if (family === undefined) {
        worker.pool.dropped.conflict += sizeOf(parsed);
        continue;
      }
      shown.add(family);
      if (family.help === "" && parsed.help !== "") family.help = ownCopy(parsed.help);
      if ("distributions" in parsed) addDistributions(family, worker, parsed);
      else if (parsed.type === "counter") addCounters(family, worker, parsed);
      else gauges.set(family, parsed.values);
    }
    this.#changeFamilies(worker, shown);
    worker.gauges = gauges;
  }

  /** Handles a process that did not answer: its gauges become unknown, its counts stay. */
  unanswered({ pool, slot, incarnation }: Source): void {
    const worker = this.#pools.get(pool)?.workers.get(slot);
    if (worker?.incarnation === incarnation) worker.gauges = new Map();
  }

  /** Handles a process that exited: its counts stay part of the sums permanently. */
  ended(source: Source): void {
    const worker = this.#pools.get(source.pool)?.workers.get(source.slot);
    if (worker === undefined || source.incarnation < worker.incarnation || worker.hasEnded) return;
    this.#fold(worker);
    worker.incarnation = source.incarnation;
    worker.hasEnded = true;
  }

  /** Forgets a pool that no longer exposes metrics, or exposes others; nothing of it is printed any more. */
  forget(name: string): void {
    const pool = this.#pools.get(name);
    if (pool === undefined) return;
    this.#pools.delete(name);
    for (const worker of pool.workers.values()) this.#changeFamilies(worker, new Set());
    for (const family of this.#families.values()) {
      family.counters.delete(pool);
      family.distributions.delete(pool);
      if (isUnused(family)) this.#forget(family);
    }
  }

  /** What was dropped from the metrics of a pool so far. */
  droppedOf(pool: string): MergeDropped {
    return this.#pools.get(pool)?.dropped ?? nothingDropped();
  }

  /** Number of lines of a pool's metrics. */
  linesOf(pool: string): number {
    const known = this.#pools.get(pool);
    if (known === undefined) return 0;
    let gauges = 0;
    for (const worker of known.workers.values()) for (const values of worker.gauges.values()) gauges += values.size;
    return known.lines + gauges;
  }

  /** The whole exposition. */
  format(format: ExpositionFormat): string {
    let text = "";
    for (const family of this.#families.values()) {
      const lines = linesOfFamily(family, format);
      if (lines !== "") text += formatHead(described(family, format), format) + lines;
    }
    return format === "openmetrics" ? `${text}# EOF\n` : text;
  }

  #workerOf({ pool: name, slot, isPool = false }: Source): Worker {
    const pool = this.#pools.getOrInsertComputed(name, () => {
      const label = `pool="${escapeLabel(name)}"`;
      return { name, label, workers: new Map(), lines: 0, dropped: nothingDropped() };
    });
    return pool.workers.getOrInsertComputed(slot, () => {
      const label = isPool ? pool.label : `${pool.label},worker="${escapeLabel(workerId(name, slot))}"`;
      return { pool, slot, label, incarnation: 0, hasEnded: true, families: new Set(), gauges: new Map() };
    });
  }

  /** undefined if live workers expose this name with another type. A type that no worker exposes now is replaced. */
  #familyOf({ name, type, help }: ParsedFamily, worker: Worker): Family | undefined {
    const known = this.#families.get(name);
    if (known?.type === type) return known;
    const names = namesOf(name, type);
    const others = new Set([known, ...names.map((each) => this.#names.get(each))]);
    for (const other of others) {
      if (other === undefined) continue;
      if ([...other.reporters].some((reporter) => reporter !== worker)) return undefined;
    }
    for (const other of others) if (other !== undefined) this.#forget(other);
    const family: Family = {
      name: ownCopy(name),
      type,
      help: ownCopy(help),
      reporters: new Set(),
      counters: new Map(),
      distributions: new Map(),
    };
    this.#families.set(family.name, family);
    for (const each of names) this.#names.set(ownCopy(each), family);
    return family;
  }

  #forget(family: Family): void {
    this.#families.delete(family.name);
    for (const name of namesOf(family.name, family.type))
      if (this.#names.get(name) === family) this.#names.delete(name);
    for (const [pool, series] of family.counters) pool.lines -= series.size;
    for (const [pool, series] of family.distributions)
      for (const { bounds } of series.values()) pool.lines -= linesOfDistribution(bounds);
  }

  #changeFamilies(worker: Worker, shown: ReadonlySet<Family>): void {
    for (const family of shown) family.reporters.add(worker);
    for (const family of worker.families) {
      if (shown.has(family)) continue;
      family.reporters.delete(worker);
      // Sums are kept; a gauge exists only while workers expose it.
      if (isUnused(family) && this.#families.get(family.name) === family) this.#forget(family);
    }
    worker.families = shown;
  }

  #fold(worker: Worker): void {
    for (const { counters, distributions } of this.#families.values()) {
      for (const counter of counters.get(worker.pool)?.values() ?? []) counter.fold(worker.slot);
      for (const histogram of distributions.get(worker.pool)?.values() ?? []) histogram.fold(worker.slot);
    }
    this.#changeFamilies(worker, new Set());
    worker.gauges = new Map();
  }
}

/** Whether the family has nothing to print any more. */
function isUnused({ counters, distributions, reporters }: Family): boolean {
  return counters.size === 0 && distributions.size === 0 && reporters.size === 0;
}

function addCounters({ counters }: Family, { pool, slot }: Worker, { values }: ValueFamily): void {
  const series = counters.getOrInsertComputed(pool, () => new Map());
  for (const [labels, value] of values) {
    let counter = series.get(labels);
    if (counter === undefined) {
      if (!takeLines(pool, 1)) continue;
      counter = new Counter();
      series.set(labels, counter);
    }
    counter.observe(slot, value);
  }
}

function addDistributions(
  { distributions }: Family,
  { pool, slot }: Worker,
  { distributions: shown }: DistributionFamily,
): void {
  const series = distributions.getOrInsertComputed(pool, () => new Map());
  for (const [labels, value] of shown) {
    let histogram = series.get(labels);
    if (histogram === undefined) {
      if (!takeLines(pool, linesOfDistribution(value.bounds))) continue;
      histogram = new Histogram(value.bounds);
      series.set(labels, histogram);
    }
    const before = histogram.bounds.length;
    histogram.observe(slot, value);
    pool.lines += histogram.bounds.length - before;
  }
}

/** Reserves lines for a new series; false if the limit is reached. */
function takeLines(pool: Pool, lines: number): boolean {
  if (pool.lines + lines > MAX_LINES) {
    pool.dropped.limit += lines;
    return false;
  }
  pool.lines += lines;
  return true;
}

/** One line per bucket, including +Inf, plus sum and count. */
function linesOfDistribution(bounds: readonly number[]): number {
  return bounds.length + 3;
}

function nothingDropped(): MergeDropped {
  return { malformed: 0, limit: 0, unsupported: 0, conflict: 0 };
}

function sizeOf(family: ParsedFamily): number {
  return "values" in family ? family.values.size : family.distributions.size;
}

/** Every name that lines of a family use. */
function namesOf(name: string, type: ParsedFamily["type"]): readonly string[] {
  if (type === "histogram") return [name, `${name}_bucket`, `${name}_sum`, `${name}_count`];
  return type === "summary" ? [name, `${name}_sum`, `${name}_count`] : [name];
}

// Distributions

function emptyDistribution(bounds: readonly number[]): Distribution {
  return { bounds, counts: bounds.map(() => 0), sum: 0, count: 0 };
}

function isSame(a: readonly number[], b: readonly number[]): boolean {
  return a === b || (a.length === b.length && a.every((bound, index) => bound === b[index]));
}

/** Converts to other bounds. A missing bound gets the count of the next lower one, which is a lower limit. */
function withBounds(distribution: Distribution, bounds: readonly number[]): Distribution {
  if (isSame(distribution.bounds, bounds)) return { ...distribution, bounds };
  let at = 0;
  let below = 0;
  const counts = bounds.map((bound) => {
    while ((distribution.bounds[at] ?? Number.POSITIVE_INFINITY) <= bound) below = distribution.counts[at++] ?? below;
    return below;
  });
  return { ...distribution, bounds, counts };
}

function beganAgain(seen: Distribution, now: Distribution): boolean {
  return now.count < seen.count || now.counts.some((count, index) => count < (seen.counts[index] ?? 0));
}

function sumOf(a: Distribution, b: Distribution): Distribution {
  return {
    bounds: a.bounds,
    counts: a.counts.map((count, index) => count + (b.counts[index] ?? 0)),
    sum: a.sum + b.sum,
    count: a.count + b.count,
  };
}

/** Hides a decrease caused by another order of addition, which would look like a counter reset. */
function withoutRounding(before: number, now: number): number {
  return now < before && before - now <= Math.abs(before) * ROUNDING ? before : now;
}

// Text

function described(
  { name, type, help }: Family,
  format: ExpositionFormat,
): { name: string; type: string; help: string } {
  if (type === "unknown") return { name, help, type: format === "openmetrics" ? "unknown" : "untyped" };
  // OpenMetrics requires counters to end in _total.
  const isNamed = type !== "counter" || name.endsWith("_total");
  return { name, help, type: isNamed || format === "prometheus" ? type : "unknown" };
}

function linesOfFamily(family: Family, format: ExpositionFormat): string {
  let lines = "";
  for (const [pool, series] of family.counters) {
    for (const [labels, counter] of series)
      lines += `${family.name}{${joined(pool.label, labels)}} ${formatNumber(counter.total())}\n`;
  }
  for (const [pool, series] of family.distributions) {
    for (const [labels, histogram] of series)
      lines += linesOfHistogram(family, joined(pool.label, labels), histogram.total(), format);
  }
  if (family.type === "gauge" || family.type === "unknown") {
    for (const worker of family.reporters) {
      for (const [labels, value] of worker.gauges.get(family) ?? [])
        lines += `${family.name}{${joined(worker.label, labels)}} ${formatNumber(value)}\n`;
    }
  }
  return lines;
}

function linesOfHistogram(
  { name, type }: Family,
  labels: string,
  { bounds, counts, sum, count }: Distribution,
  format: ExpositionFormat,
): string {
  let lines = "";
  if (type === "histogram") {
    for (const [index, bound] of bounds.entries())
      lines += `${name}_bucket{${labels},le="${formatBound(bound, format)}"} ${formatNumber(counts[index] ?? 0)}\n`;
    lines += `${name}_bucket{${labels},le="+Inf"} ${formatNumber(count)}\n`;
  }
  // OpenMetrics forbids a sum that may decrease, and a histogram count without its sum.
  if (format === "openmetrics" && (sum < 0 || (bounds[0] ?? 0) < 0)) return lines;
  return `${lines}${name}_sum{${labels}} ${formatNumber(sum)}\n${name}_count{${labels}} ${formatNumber(count)}\n`;
}

function joined(first: string, rest: string): string {
  return rest === "" ? first : `${first},${rest}`;
}
