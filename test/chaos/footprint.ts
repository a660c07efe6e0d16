/** Resources that the controller itself uses over time, and whether they grow. */
import { readdirSync, readFileSync } from "node:fs";

/** A sample. */
export interface Footprint {
  readonly atMs: number;
  readonly rssKiB: number;
  /** The part of it that is not backed by files: heap, stacks, compiled code. */
  readonly anonymousKiB: number;
  readonly descriptors: number;
  readonly threads: number;
}

/** An estimate, and the interval that holds the true value with a probability of 95 %. */
export interface Slope {
  readonly estimate: number;
  readonly low: number;
  readonly high: number;
}

/** Growth per minute. */
export interface Growth {
  readonly minutes: number;
  readonly rssKiB: Slope;
  readonly descriptors: Slope;
  readonly threads: Slope;
  /** Minimum of the resident memory in each minute, including the first ones. */
  readonly rssKiBByMinute: readonly number[];
  readonly anonymousKiBByMinute: readonly number[];
}

/** Minutes in which caches and pools fill. */
export const WARM_UP_MINUTES = 5;
/** Minimum duration of a run that is checked for leaks. */
export const JUDGED_MINUTES = 20;
const MINUTE_MS = 60_000;

/** Permitted growth per minute. Descriptors and threads vary with the number of workers. */
export const LIMITS = { rssKiB: 20, descriptors: 0.2, threads: 0.1 } as const;

export function footprintOf(pid: number, atMs: number): Footprint {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const field = (name: string) => Number(new RegExp(`^${name}:\\s+(\\d+)`, "mu").exec(status)?.[1]);
  return {
    atMs,
    rssKiB: field("VmRSS"),
    anonymousKiB: field("RssAnon"),
    threads: field("Threads"),
    descriptors: readdirSync(`/proc/${pid}/fd`).length,
  };
}

/** The growth of a controller after its first minutes, from the minimum of each minute because garbage varies. */
export function growthOf(samples: readonly Footprint[]): Growth | undefined {
  const [first] = samples;
  const last = samples.at(-1);
  if (first === undefined || last === undefined) return undefined;
  const least = new Map<number, Footprint>();
  for (const sample of samples) {
    const minute = Math.floor((sample.atMs - first.atMs) / MINUTE_MS);
    const before = least.get(minute) ?? sample;
    least.set(minute, {
      atMs: minute,
      rssKiB: Math.min(before.rssKiB, sample.rssKiB),
      anonymousKiB: Math.min(before.anonymousKiB, sample.anonymousKiB),
      descriptors: Math.min(before.descriptors, sample.descriptors),
      threads: Math.min(before.threads, sample.threads),
    });
  }
  const all = [...least.values()];
  const minutes = all.filter(({ atMs }) => atMs >= WARM_UP_MINUTES);
  const slope = (of: (sample: Footprint) => number) => slopeOf([minutes.map((each) => [each.atMs, of(each)])]);
  return {
    minutes: (last.atMs - first.atMs) / MINUTE_MS,
    rssKiB: slope(({ rssKiB }) => rssKiB),
    descriptors: slope(({ descriptors }) => descriptors),
    threads: slope(({ threads }) => threads),
    rssKiBByMinute: all.map(({ rssKiB }) => rssKiB),
    anonymousKiBByMinute: all.map(({ anonymousKiB }) => anonymousKiB),
  };
}

/**
 * Resources that certainly grow too fast; empty if the run was too short. Garbage moves the resident memory by megabytes, so
 * the slope of half an hour is uncertain by about 100 KiB per minute. soak.ts judges the lives of two hours together.
 */
export function leaksOf(growth: Pick<Growth, "minutes" | keyof typeof LIMITS>): readonly string[] {
  if (growth.minutes < JUDGED_MINUTES) return [];
  return (["rssKiB", "descriptors", "threads"] as const).flatMap((key) => {
    const { estimate, low, high } = growth[key];
    const range = `95 %: ${low.toFixed(2)} to ${high.toFixed(2)}`;
    return low > LIMITS[key] ? [`${key} of the controller grows by ${estimate.toFixed(2)} per minute (${range})`] : [];
  });
}

type Points = readonly (readonly [x: number, y: number])[];

/**
 * The slope that several series have in common: the median of the slopes between all pairs of points of a series
 * (Theil–Sen), which single peaks do not move. The interval is that of Sen (1968), from the variance of Kendall's S.
 */
export function slopeOf(series: readonly Points[]): Slope {
  const slopes: number[] = [];
  let variance = 0;
  for (const points of series) {
    for (const [index, [x, y]] of points.entries())
      for (const [otherX, otherY] of points.slice(index + 1)) slopes.push((otherY - y) / (otherX - x));
    variance += (points.length * (points.length - 1) * (2 * points.length + 5)) / 18;
  }
  slopes.sort((a, b) => a - b);
  const margin = 1.96 * Math.sqrt(variance);
  const at = (rank: number) => slopes[Math.min(Math.max(Math.round(rank), 0), slopes.length - 1)] ?? 0;
  const middle = slopes.length / 2;
  return {
    estimate: (at(Math.ceil(middle) - 1) + at(Math.floor(middle))) / 2,
    low: at((slopes.length - margin) / 2 - 1),
    high: at((slopes.length + margin) / 2),
  };
}
