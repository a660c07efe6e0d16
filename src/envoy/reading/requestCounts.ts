/**
 * Counters that only grow, made of counters that begin again: Envoy's are lost with its process, and those of a worker
 * with each removal from the endpoints. Pure: (state, observation) → state.
 */

/** What is known of a worker's slot. */
export interface SlotCount {
  readonly incarnation: number;
  /** Requests given to all incarnations of the slot. */
  readonly requestsTotal: number;
  /** Requests of all incarnations that failed: no answer, or 5xx. */
  readonly failedTotal: number;
  /** Requests given to the present incarnation. */
  readonly ofIncarnation: number;
  /** Envoy's own counters when they were last seen; 0 where it counts from the beginning. */
  readonly seenRequests: number;
  readonly seenFailed: number;
}

/** Counts of all slots, and the process of Envoy they were last seen in. */
export interface RequestCounts {
  /** Incarnation of Envoy. */
  readonly run: number;
  readonly slots: ReadonlyMap<number, SlotCount>;
}

/** What Envoy tells about one worker. */
export interface WorkerObservation {
  readonly slot: number;
  readonly incarnation: number;
  readonly requests: number;
  readonly failed: number;
}

/** Nothing seen yet. */
export const NO_COUNTS: RequestCounts = { run: 0, slots: new Map() };

/** How much a counter grew from `seen` to `value`; a smaller value is one that began again. */
export function growth(seen: number, value: number): number {
  return value >= seen ? value - seen : value;
}

/** Adds what Envoy's incarnation `run` tells. Slots that are not observed stay as they are. */
export function addObservations(
  counts: RequestCounts,
  run: number,
  observations: readonly WorkerObservation[],
): RequestCounts {
  const slots = new Map(counts.slots);
  for (const { slot, incarnation, requests, failed } of observations) {
    const known = slots.get(slot);
    const isContinued = counts.run === run;
    const more = growth(isContinued ? (known?.seenRequests ?? 0) : 0, requests);
    const moreFailed = growth(isContinued ? (known?.seenFailed ?? 0) : 0, failed);
    slots.set(slot, {
      incarnation,
      requestsTotal: (known?.requestsTotal ?? 0) + more,
      failedTotal: (known?.failedTotal ?? 0) + moreFailed,
      ofIncarnation: (known?.incarnation === incarnation ? known.ofIncarnation : 0) + more,
      seenRequests: requests,
      seenFailed: failed,
    });
  }
  if (counts.run === run) return { run, slots };
  // In another process every counter began again, also those that were not observed yet.
  const observed = new Set(observations.map(({ slot }) => slot));
  for (const [slot, count] of slots)
    if (!observed.has(slot)) slots.set(slot, { ...count, seenRequests: 0, seenFailed: 0 });
  return { run, slots };
}

/** Envoy dropped its counters of every slot that is not in `present`. */
export function forgetAbsent(counts: RequestCounts, present: ReadonlySet<number>): RequestCounts {
  const slots = new Map(counts.slots);
  for (const [slot, count] of slots)
    if (!present.has(slot)) slots.set(slot, { ...count, seenRequests: 0, seenFailed: 0 });
  return { run: counts.run, slots };
}

/** Named counters that only grow, and Envoy's values when they were last seen. */
export interface NamedCounts {
  readonly run: number;
  readonly totals: ReadonlyMap<string, number>;
  readonly seen: ReadonlyMap<string, number>;
}

/** Nothing seen yet. */
export const NO_NAMED_COUNTS: NamedCounts = { run: 0, totals: new Map(), seen: new Map() };

/** Adds Envoy's present values of named counters. */
export function addNamed(counts: NamedCounts, run: number, values: ReadonlyMap<string, number>): NamedCounts {
  const totals = new Map(counts.totals);
  for (const [name, value] of values) {
    const seen = counts.run === run ? (counts.seen.get(name) ?? 0) : 0;
    totals.set(name, (totals.get(name) ?? 0) + growth(seen, value));
  }
  // A counter that is missing this time has not begun again.
  return { run, totals, seen: counts.run === run ? new Map([...counts.seen, ...values]) : values };
}
