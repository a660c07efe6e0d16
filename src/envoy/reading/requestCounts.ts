/**
 * Monotonic counters built from counters that reset: Envoy loses all counters when its process exits, and those of a
 * worker when the worker is removed from the endpoints. Pure: (state, observation) → state.
 */

/** Counts of one slot. */
export interface SlotCount {
  readonly incarnation: number;
  /** Requests sent to all incarnations of the slot. */
  readonly requestsTotal: number;
  /** Failed requests of all incarnations: no response, or 5xx. */
  readonly failedTotal: number;
  /** Requests sent to the current incarnation. */
  readonly ofIncarnation: number;
  /** Envoy's own counters at the last observation; 0 if they have reset since. */
  readonly seenRequests: number;
  readonly seenFailed: number;
}

/** Counts of all slots, and the Envoy process that they were last read from. */
export interface RequestCounts {
  /** Incarnation of Envoy. */
  readonly run: number;
  readonly slots: ReadonlyMap<number, SlotCount>;
}

/** What Envoy reports about one worker. */
export interface WorkerObservation {
  readonly slot: number;
  readonly incarnation: number;
  readonly requests: number;
  readonly failed: number;
}

/** No observations yet. */
export const NO_COUNTS: RequestCounts = { run: 0, slots: new Map() };

/** How much a counter grew from `seen` to `value`; a smaller value means that it was reset. */
export function growth(seen: number, value: number): number {
  return value >= seen ? value - seen : value;
}

/** Adds observations of Envoy's incarnation `run`. Slots without an observation keep their totals. */
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
  // A new Envoy process resets every counter, including those not observed yet.
  return forgetAbsent({ run, slots }, new Set(observations.map(({ slot }) => slot)));
}

/** Resets the observed counters of every slot not in `present`, because Envoy dropped them. */
export function forgetAbsent(counts: RequestCounts, present: ReadonlySet<number>): RequestCounts {
  const slots = new Map(counts.slots);
  for (const [slot, count] of slots)
    if (!present.has(slot)) slots.set(slot, { ...count, seenRequests: 0, seenFailed: 0 });
  return { run: counts.run, slots };
}

/** Named monotonic counters, and Envoy's values at the last observation. */
export interface NamedCounts {
  readonly run: number;
  readonly totals: ReadonlyMap<string, number>;
  readonly seen: ReadonlyMap<string, number>;
}

/** No observations yet. */
export const NO_NAMED_COUNTS: NamedCounts = { run: 0, totals: new Map(), seen: new Map() };

/** Adds Envoy's current values of named counters. */
export function addNamed(counts: NamedCounts, run: number, values: ReadonlyMap<string, number>): NamedCounts {
  const totals = new Map(counts.totals);
  for (const [name, value] of values) {
    const seen = counts.run === run ? (counts.seen.get(name) ?? 0) : 0;
    totals.set(name, (totals.get(name) ?? 0) + growth(seen, value));
  }
  // A counter that is missing this time has not been reset.
  return { run, totals, seen: counts.run === run ? new Map([...counts.seen, ...values]) : values };
}
