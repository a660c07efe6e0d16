/**
 * How many workers a pool needs for its load: up fast, down slowly, without oscillation. A pool grows only after its load
 * has needed more workers for a while. It shrinks only after fewer were enough for longer, and only if they stay below
 * the target by the tolerance. Measuring happens elsewhere.
 */
import type { Instant } from "../../base/time.ts";
import { after } from "../../base/time.ts";
import { formatDuration } from "../../base/units.ts";
import type { AutoscalePolicy } from "../spec.ts";

/** What was measured of a pool at one moment, as averages of its ready workers. */
export interface AutoscaleSample {
  readonly at: Instant;
  /** The present number of replicas. */
  readonly replicas: number;
  /** Workers that shared the load; 0 gives no opinion. */
  readonly readyCount: number;
  /** CPU usage per worker, in CPUs; undefined if unknown. */
  readonly cpuRatio: number | undefined;
  /** Requests in flight per worker; undefined if not counted. */
  readonly inFlightPerWorker: number | undefined;
}

/** What the load needed during a short time. */
interface Opinion {
  /** When it began. */
  readonly at: Instant;
  /** Workers needed at least during that time, and at most with the tolerance. */
  readonly least: number;
  readonly most: number;
}

/** State between samples; bounded. */
export interface AutoscaleState {
  /** Number of replicas the opinions are about. */
  readonly replicas: number;
  /** Oldest first, without a gap. */
  readonly opinions: readonly Opinion[];
}

export interface AutoscaleDecision {
  readonly state: AutoscaleState;
  /** The number of replicas from now on. */
  readonly replicas: number;
  /** Why the number changed: a clause; undefined if it did not. */
  readonly reason: string | undefined;
}

/** A smaller difference between a measured value and the target means nothing. */
export const TOLERANCE = 0.1;

/**
 * Parts that the longer of both times is divided into, and most of them where the time for up is much shorter: what is
 * remembered does not grow with the number of samples.
 */
const PARTS = 60;
const MOST_PARTS = 1000;

/** Rounds up, but not what arithmetic alone has put above a whole number. */
function ceil(value: number): number {
  return Math.ceil(value - 1e-9);
}

/** Before the first sample. */
export function newAutoscale(): AutoscaleState {
  return { replicas: 0, opinions: [] };
}

/** Folds one sample; samples come in the order of time, at any distance well below the times of the policy. */
export function decideReplicas(
  state: AutoscaleState,
  sample: AutoscaleSample,
  policy: AutoscalePolicy,
): AutoscaleDecision {
  const { replicas } = sample;
  const { minReplicas, maxReplicas, upAfterMs, downAfterMs } = policy;
  const within = Math.min(Math.max(replicas, minReplicas), maxReplicas);
  // After any change of the number the time until the next change restarts.
  const before = state.replicas === replicas ? state.opinions : [];
  if (within !== replicas) {
    const reason = `autoscale keeps it from ${minReplicas} to ${maxReplicas}`;
    return { state: { replicas: within, opinions: [] }, replicas: within, reason };
  }
  const opinion = opinionOf(sample, policy);
  if (opinion === undefined) return { state: { replicas, opinions: [] }, replicas, reason: undefined };
  const opinions = remember(before, opinion, policy);

  const up = Math.min(maxReplicas, leastSince(opinions, sample.at, upAfterMs) ?? 0);
  if (up > replicas) return changed(up, sample, policy, upAfterMs);
  const down = Math.max(minReplicas, mostSince(opinions, sample.at, downAfterMs) ?? Number.POSITIVE_INFINITY);
  if (down < replicas) return changed(down, sample, policy, downAfterMs);
  return { state: { replicas, opinions }, replicas, reason: undefined };
}

function changed(
  replicas: number,
  sample: AutoscaleSample,
  policy: AutoscalePolicy,
  sinceMs: number,
): AutoscaleDecision {
  const { targetCpu, targetInFlight } = policy;
  const [value, target, what] =
    targetCpu === undefined
      ? [sample.inFlightPerWorker, targetInFlight, "requests in flight"]
      : [sample.cpuRatio, targetCpu, "CPUs"];
  const which = replicas > sample.replicas ? "more" : "fewer";
  const reason = `${which} wanted for ${formatDuration(sinceMs)}: ${round(value)} ${what} a worker, the target is ${round(target)}`;
  return { state: { replicas, opinions: [] }, replicas, reason };
}

function round(value: number | undefined): string {
  return value === undefined ? "?" : String(Number(value.toFixed(2)));
}

/** How many workers the present load needs; undefined if unknown. */
function opinionOf(sample: AutoscaleSample, policy: AutoscalePolicy): Opinion | undefined {
  const { at, replicas, readyCount } = sample;
  const { targetCpu, targetInFlight } = policy;
  const value = targetCpu === undefined ? sample.inFlightPerWorker : sample.cpuRatio;
  const target = targetCpu ?? targetInFlight;
  if (value === undefined || target === undefined || !Number.isFinite(value) || readyCount <= 0) return undefined;
  const load = (readyCount * Math.max(0, value)) / target;
  // Up as soon as the target is passed by more than the tolerance, and then to where it is met.
  const least = load > readyCount * (1 + TOLERANCE) ? ceil(load) : Math.min(replicas, ceil(load));
  // Down to where the load would be below the target by the tolerance, and not while workers are missing.
  const enough = ceil(load / (1 - TOLERANCE));
  return { at, least, most: readyCount < replicas ? Math.max(enough, replicas) : enough };
}

/** Adds an opinion; those of a short time become one, those that are too old are dropped. */
function remember(opinions: readonly Opinion[], opinion: Opinion, policy: AutoscalePolicy): readonly Opinion[] {
  const longestMs = Math.max(policy.upAfterMs, policy.downAfterMs);
  const partMs = Math.max(Math.min(policy.upAfterMs / 4, longestMs / PARTS), longestMs / MOST_PARTS);
  const last = opinions.at(-1);
  const isSamePart = last !== undefined && opinion.at - last.at < partMs;
  const all = isSamePart ? opinions.slice(0, -1) : [...opinions];
  all.push(
    isSamePart
      ? { at: last.at, least: Math.min(last.least, opinion.least), most: Math.max(last.most, opinion.most) }
      : opinion,
  );
  const horizon = after(opinion.at, -longestMs);
  // The last one from before the horizon says what held when the time began.
  const first = all.findLastIndex(({ at }) => at <= horizon);
  return all.slice(Math.max(0, first));
}

/** The fewest workers needed at any moment of the last `ms`; undefined if less is known. */
function leastSince(opinions: readonly Opinion[], now: Instant, ms: number): number | undefined {
  const known = since(opinions, now, ms);
  return known.length === 0 ? undefined : Math.min(...known.map(({ least }) => least));
}

/** The most workers needed at any moment of the last `ms`; undefined if less is known. */
function mostSince(opinions: readonly Opinion[], now: Instant, ms: number): number | undefined {
  const known = since(opinions, now, ms);
  return known.length === 0 ? undefined : Math.max(...known.map(({ most }) => most));
}

/** The opinions of the last `ms`, from the one that held at their begin; none where they do not reach back so far. */
function since(opinions: readonly Opinion[], now: Instant, ms: number): readonly Opinion[] {
  const first = opinions.findLastIndex(({ at }) => at <= now - ms);
  return first < 0 ? [] : opinions.slice(first);
}
