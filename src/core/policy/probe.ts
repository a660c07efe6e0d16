/**
 * Probes: what an attempt means for the verdict, and which attempt is due when. Each incarnation has an immutable schedule
 * of its own. The semantics are those of Kubernetes: nothing changes below a threshold, and startup holds back the other
 * probes. A fault of the prober itself is no failure.
 *
 * Intervals are jittered so that workers are not probed all at once. Those of startup are up to a tenth longer, so that no
 * worker has less time to boot than configured. The others are up to a tenth shorter, so that no fault is found later.
 */
import { after, type Instant } from "../../base/time.ts";

/** What a probe is for. */
export type ProbePurpose = "startup" | "readiness" | "liveness";

export const PROBE_PURPOSES: readonly ProbePurpose[] = ["startup", "readiness", "liveness"];

/** When a probe is attempted and how many attempts make a verdict. */
export interface ProbePolicy {
  /** No attempt sooner than this after the spawn. */
  readonly initialDelayMs: number;
  /** Time from the start of an attempt to the start of the next one. */
  readonly periodMs: number;
  /** The first interval, each further one half as long again until it is `periodMs`; undefined: always `periodMs`. */
  readonly firstPeriodMs: number | undefined;
  /** Time after which an attempt without an answer has failed. */
  readonly timeoutMs: number;
  /** Failures in a row that make the verdict bad; Infinity: never. */
  readonly failureThreshold: number;
  /** Successes in a row that make it good. */
  readonly successThreshold: number;
}

/** The result of one attempt; `error` is a fault of the prober (no descriptor left), not of the worker. */
export type AttemptOutcome =
  | { readonly kind: "success" }
  /** `how` is known if nothing listens, or if no answer arrived in time. */
  | { readonly kind: "failure"; readonly reason: string; readonly how?: "refused" | "timeout" }
  | { readonly kind: "error"; readonly reason: string };

/** How an attempt is counted. */
export const ATTEMPT_RESULTS = ["success", "failure", "refused", "timeout", "error"] as const;
export type AttemptResult = (typeof ATTEMPT_RESULTS)[number];

/** failure: a bad answer. */
export function resultOf(outcome: AttemptOutcome): AttemptResult {
  return outcome.kind === "failure" ? (outcome.how ?? "failure") : outcome.kind;
}

export type Verdict = "good" | "bad" | "unknown";

/** A verdict and the equal attempts in a row that may change it. */
export interface Fold {
  readonly verdict: Verdict;
  readonly last: "success" | "failure" | undefined;
  /** How many attempts in a row ended like the last one. */
  readonly run: number;
  /** Why the last failure was one; empty before any. */
  readonly reason: string;
}

const FIRST_VERDICT: Readonly<Record<ProbePurpose, Verdict>> = {
  startup: "unknown",
  readiness: "bad",
  liveness: "good",
};

/** The verdict before any attempt: neither ready nor dead. */
export function newFold(purpose: ProbePurpose): Fold {
  return { verdict: FIRST_VERDICT[purpose], last: undefined, run: 0, reason: "" };
}

/** Folds one attempt into the verdict. */
export function foldAttempt(fold: Fold, outcome: AttemptOutcome, policy: ProbePolicy): Fold {
  if (outcome.kind === "error") return fold;
  const run = outcome.kind === fold.last ? fold.run + 1 : 1;
  const isGood = outcome.kind === "success";
  const threshold = isGood ? policy.successThreshold : policy.failureThreshold;
  const verdict = run < threshold ? fold.verdict : isGood ? "good" : "bad";
  return { verdict, last: outcome.kind, run, reason: outcome.kind === "failure" ? outcome.reason : fold.reason };
}

/** Random share of an interval. */
const JITTER = 0.1;

/** The first attempt of startup and readiness waits a random time of at most this and a tenth of the interval. */
const MAX_FIRST_JITTER_MS = 100;

const GROWTH = 1.5;

/** The interval after attempt number `attempt` (from 1); `random` is 0 … 1. */
export function decideIntervalMs(purpose: ProbePurpose, policy: ProbePolicy, attempt: number, random: number): number {
  const { firstPeriodMs = policy.periodMs, periodMs } = policy;
  // Bounded, because 0 times infinity after very many attempts would be no number.
  const grown = Math.min(firstPeriodMs * Math.min(GROWTH ** (attempt - 1), Number.MAX_VALUE), periodMs);
  return grown * (purpose === "startup" ? 1 + JITTER * random : 1 - JITTER * random);
}

/**
 * When the first attempt is due of a probe that may begin at `at`; `random` is 0 … 1. Liveness starts anywhere in its
 * period: it is good until the opposite is proved, while the others are waited for.
 */
export function decideFirstAttempt(
  purpose: ProbePurpose,
  policy: ProbePolicy,
  spawnedAt: Instant,
  at: Instant,
  random: number,
): Instant {
  const { initialDelayMs, periodMs, firstPeriodMs = periodMs } = policy;
  const spreadMs = purpose === "liveness" ? periodMs : Math.min(JITTER * firstPeriodMs, MAX_FIRST_JITTER_MS);
  return after(at, Math.max(0, after(spawnedAt, initialDelayMs) - at) + spreadMs * random);
}

/** The probes of a pool's workers. A readiness of "notify" has no attempts: the worker reports it. */
export interface ProbeSet {
  readonly startup: ProbePolicy | undefined;
  readonly readiness: ProbePolicy | "notify" | undefined;
  readonly liveness: ProbePolicy | undefined;
}

/** One attempted probe of one incarnation. */
interface Track {
  readonly policy: ProbePolicy;
  readonly fold: Fold;
  /** When the next attempt may start; undefined while the probe waits for startup or is over. */
  readonly dueAt: Instant | undefined;
  readonly inFlight: boolean;
  /** Attempts started. */
  readonly attempts: number;
}

/** The probes of one incarnation. */
export interface ProbeSchedule {
  readonly spawnedAt: Instant;
  readonly tracks: Readonly<Record<ProbePurpose, Track | undefined>>;
  /** Whether the worker must report that it is ready. */
  readonly waitsForNotice: boolean;
  readonly hasNotified: boolean;
  /** waiting: startup has neither succeeded nor failed. */
  readonly startup: "waiting" | "passed" | "failed";
  readonly isReady: boolean;
  /** Whether liveness has succeeded since the start or since it failed last. */
  readonly isProvedAlive: boolean;
}

/** What an event means for the worker; only changes are reported. */
export type ProbeNews =
  | { readonly kind: "becameReady" }
  | { readonly kind: "becameUnready"; readonly reason: string }
  | { readonly kind: "startupFailed"; readonly reason: string }
  | { readonly kind: "livenessFailed"; readonly reason: string }
  /** The first success of liveness, or the first good verdict after a bad one. */
  | { readonly kind: "becameAlive" };

export interface ProbeStep {
  readonly schedule: ProbeSchedule;
  readonly news: readonly ProbeNews[];
}

/** The schedule of an incarnation that was spawned at `at`; without probes it is ready at once. */
export function beginProbes(probes: ProbeSet, at: Instant, random: number): ProbeStep {
  const waitsForNotice = probes.readiness === "notify";
  const schedule: ProbeSchedule = {
    spawnedAt: at,
    tracks: {
      startup: newTrack("startup", probes.startup),
      readiness: probes.readiness === "notify" ? undefined : newTrack("readiness", probes.readiness),
      liveness: newTrack("liveness", probes.liveness),
    },
    waitsForNotice,
    hasNotified: false,
    startup: "waiting",
    isReady: false,
    isProvedAlive: false,
  };
  const { startup } = schedule.tracks;
  if (startup === undefined) return passStartup(schedule, at, random);
  return { schedule: withTrack(schedule, "startup", begun("startup", startup, at, at, random)), news: [] };
}

/** The attempt that is due first, and when; undefined if there is none. */
export function nextAttempt(
  schedule: ProbeSchedule,
): { readonly purpose: ProbePurpose; readonly dueAt: Instant } | undefined {
  let next: { purpose: ProbePurpose; dueAt: Instant } | undefined;
  for (const purpose of PROBE_PURPOSES) {
    const track = schedule.tracks[purpose];
    if (track?.dueAt === undefined || track.inFlight) continue;
    if (next === undefined || track.dueAt < next.dueAt) next = { purpose, dueAt: track.dueAt };
  }
  return next;
}

/** An attempt starts at `at`. The next one is due an interval later, or when this one ends if that is later still. */
export function startAttempt(
  schedule: ProbeSchedule,
  purpose: ProbePurpose,
  at: Instant,
  random: number,
): ProbeSchedule {
  const track = schedule.tracks[purpose];
  if (track === undefined) return schedule;
  const attempts = track.attempts + 1;
  const dueAt = after(at, decideIntervalMs(purpose, track.policy, attempts, random));
  return withTrack(schedule, purpose, { ...track, attempts, dueAt, inFlight: true });
}

/** An attempt ended at `at` with `outcome`. */
export function endAttempt(
  schedule: ProbeSchedule,
  purpose: ProbePurpose,
  outcome: AttemptOutcome,
  at: Instant,
  random: number,
): ProbeStep {
  const track = schedule.tracks[purpose];
  if (track === undefined) return { schedule, news: [] };
  const folded: Track = { ...track, inFlight: false, fold: foldAttempt(track.fold, outcome, track.policy) };
  const next = withTrack(schedule, purpose, folded);
  switch (purpose) {
    case "startup":
      return judgeStartup(next, folded, at, random);
    case "readiness":
      return judgeReadiness(next, folded);
    case "liveness":
      return judgeLiveness(next, track, folded, outcome);
  }
}

/** The worker reported that it is ready; before startup has succeeded this is remembered. */
export function acceptNotice(schedule: ProbeSchedule): ProbeStep {
  const notified: ProbeSchedule = { ...schedule, hasNotified: true };
  if (!schedule.waitsForNotice || schedule.isReady || schedule.startup !== "passed")
    return { schedule: notified, news: [] };
  return { schedule: { ...notified, isReady: true }, news: [{ kind: "becameReady" }] };
}

function judgeStartup(schedule: ProbeSchedule, track: Track, at: Instant, random: number): ProbeStep {
  const { verdict } = track.fold;
  if (verdict === "unknown") return { schedule, news: [] };
  const over = withTrack(schedule, "startup", { ...track, dueAt: undefined });
  if (verdict === "good") return passStartup(over, at, random);
  const reason = failureText("startup", track);
  return { schedule: { ...over, startup: "failed" }, news: [{ kind: "startupFailed", reason }] };
}

function judgeReadiness(schedule: ProbeSchedule, track: Track): ProbeStep {
  const isReady = track.fold.verdict === "good";
  if (isReady === schedule.isReady) return { schedule, news: [] };
  const news: ProbeNews = isReady
    ? { kind: "becameReady" }
    : { kind: "becameUnready", reason: failureText("readiness", track) };
  return { schedule: { ...schedule, isReady }, news: [news] };
}

function judgeLiveness(schedule: ProbeSchedule, before: Track, track: Track, outcome: AttemptOutcome): ProbeStep {
  const { verdict } = track.fold;
  if (verdict === "bad" && before.fold.verdict !== "bad") {
    const reason = failureText("liveness", track);
    return { schedule: { ...schedule, isProvedAlive: false }, news: [{ kind: "livenessFailed", reason }] };
  }
  if (verdict === "good" && outcome.kind === "success" && !schedule.isProvedAlive)
    return { schedule: { ...schedule, isProvedAlive: true }, news: [{ kind: "becameAlive" }] };
  return { schedule, news: [] };
}

/** Startup has succeeded or there is none: the other probes begin. */
function passStartup(schedule: ProbeSchedule, at: Instant, random: number): ProbeStep {
  const { spawnedAt } = schedule;
  const { readiness, liveness } = schedule.tracks;
  const isReady = schedule.waitsForNotice ? schedule.hasNotified : readiness === undefined;
  const tracks = {
    startup: schedule.tracks.startup,
    readiness: readiness === undefined ? undefined : begun("readiness", readiness, spawnedAt, at, random),
    liveness: liveness === undefined ? undefined : begun("liveness", liveness, spawnedAt, at, random),
  };
  return {
    schedule: { ...schedule, tracks, startup: "passed", isReady },
    news: isReady ? [{ kind: "becameReady" }] : [],
  };
}

function newTrack(purpose: ProbePurpose, policy: ProbePolicy | undefined): Track | undefined {
  if (policy === undefined) return undefined;
  return { policy, fold: newFold(purpose), dueAt: undefined, inFlight: false, attempts: 0 };
}

function begun(purpose: ProbePurpose, track: Track, spawnedAt: Instant, at: Instant, random: number): Track {
  return { ...track, dueAt: decideFirstAttempt(purpose, track.policy, spawnedAt, at, random) };
}

function withTrack(schedule: ProbeSchedule, purpose: ProbePurpose, track: Track): ProbeSchedule {
  return { ...schedule, tracks: { ...schedule.tracks, [purpose]: track } };
}

/** Such as `readiness failed 3 times in a row: HTTP 500`. */
function failureText(purpose: ProbePurpose, { fold }: Track): string {
  return `${purpose} failed${fold.run === 1 ? "" : ` ${fold.run} times in a row`}: ${fold.reason}`;
}
