import assert from "node:assert/strict";
import { test } from "node:test";
import { SeededRandom } from "../../../test/support/random.ts";
import { after, type Instant, instant } from "../../base/time.ts";
import {
  type AttemptOutcome,
  acceptNotice,
  beginProbes,
  decideFirstAttempt,
  decideIntervalMs,
  endAttempt,
  foldAttempt,
  newFold,
  nextAttempt,
  type ProbeNews,
  type ProbePolicy,
  type ProbePurpose,
  type ProbeSchedule,
  type ProbeSet,
  startAttempt,
} from "./probe.ts";

const AT = instant(1000);
const SUCCESS: AttemptOutcome = { kind: "success" };
const FAILURE: AttemptOutcome = { kind: "failure", reason: "HTTP 500" };
const ERROR: AttemptOutcome = { kind: "error", reason: "EMFILE" };
const NO_PROBES: ProbeSet = { startup: undefined, readiness: undefined, liveness: undefined };

function policy(changes: Partial<ProbePolicy> = {}): ProbePolicy {
  return {
    initialDelayMs: 0,
    periodMs: 100,
    firstPeriodMs: undefined,
    timeoutMs: 50,
    failureThreshold: 3,
    successThreshold: 1,
    ...changes,
  };
}

/** A worker's probes. The test controls time and randomness. */
class Worker {
  schedule: ProbeSchedule;
  readonly news: ProbeNews[];
  at: Instant = AT;

  constructor(probes: Partial<ProbeSet>) {
    const begun = beginProbes({ ...NO_PROBES, ...probes }, AT, 0);
    this.schedule = begun.schedule;
    this.news = [...begun.news];
  }

  /** Makes an attempt for each outcome. Each must be of `purpose`, and it ends at once. */
  attempts(purpose: ProbePurpose, ...outcomes: readonly AttemptOutcome[]): this {
    for (const outcome of outcomes) {
      const next = nextAttempt(this.schedule);
      assert.equal(next?.purpose, purpose);
      this.at = next.dueAt;
      this.schedule = startAttempt(this.schedule, purpose, this.at, 0);
      this.accept(endAttempt(this.schedule, purpose, outcome, this.at, 0));
    }
    return this;
  }

  notifies(): this {
    this.accept(acceptNotice(this.schedule));
    return this;
  }

  /** News since the last call. */
  takeNews(): ProbeNews[] {
    return this.news.splice(0);
  }

  private accept({ schedule, news }: { schedule: ProbeSchedule; news: readonly ProbeNews[] }): void {
    this.schedule = schedule;
    this.news.push(...news);
  }
}

function folded(purpose: ProbePurpose, changes: Partial<ProbePolicy>, ...outcomes: readonly AttemptOutcome[]) {
  return outcomes.reduce((fold, outcome) => foldAttempt(fold, outcome, policy(changes)), newFold(purpose));
}

test("before the first attempt readiness is bad, liveness is good and startup is unknown", () => {
  assert.equal(newFold("readiness").verdict, "bad");
  assert.equal(newFold("liveness").verdict, "good");
  assert.equal(newFold("startup").verdict, "unknown");
});

test("fewer equal results than the threshold do not change the verdict", () => {
  assert.equal(folded("liveness", {}, FAILURE, FAILURE).verdict, "good");
  assert.equal(folded("startup", {}, FAILURE, FAILURE).verdict, "unknown");
  assert.equal(folded("readiness", { successThreshold: 2 }, SUCCESS).verdict, "bad");
});

test("as many equal results in a row as the threshold change the verdict", () => {
  assert.deepEqual(folded("liveness", {}, FAILURE, FAILURE, FAILURE), {
    verdict: "bad",
    last: "failure",
    run: 3,
    reason: "HTTP 500",
  });
  assert.equal(folded("readiness", { successThreshold: 2 }, SUCCESS, SUCCESS).verdict, "good");
  assert.equal(folded("startup", {}, SUCCESS).verdict, "good");
});

test("alternating results never reach a threshold", () => {
  const flaps = Array.from({ length: 30 }, (_, index) => (index % 3 === 2 ? SUCCESS : FAILURE));
  assert.equal(folded("liveness", {}, ...flaps).verdict, "good");
  assert.equal(folded("readiness", { successThreshold: 2 }, ...flaps).verdict, "bad");
});

test("an error of the prober itself neither counts nor interrupts a row of failures", () => {
  assert.equal(folded("liveness", {}, FAILURE, ERROR, ERROR, ERROR, FAILURE).verdict, "good");
  assert.equal(folded("liveness", {}, FAILURE, ERROR, FAILURE, ERROR, FAILURE).verdict, "bad");
});

test("with an unlimited failure threshold failures never change the verdict", () => {
  const failures = Array.from({ length: 1000 }, () => FAILURE);
  assert.equal(folded("startup", { failureThreshold: Number.POSITIVE_INFINITY }, ...failures).verdict, "unknown");
});

test("startup intervals are only lengthened by jitter, others only shortened", () => {
  assert.equal(decideIntervalMs("startup", policy(), 1, 0), 100);
  assert.equal(Math.round(decideIntervalMs("startup", policy(), 1, 1)), 110);
  for (const purpose of ["readiness", "liveness"] as const) {
    assert.equal(decideIntervalMs(purpose, policy(), 7, 0), 100);
    assert.equal(decideIntervalMs(purpose, policy(), 7, 1), 90);
  }
});

test("a growing interval starts at firstPeriodMs and is limited to periodMs", () => {
  const growing = policy({ firstPeriodMs: 20, periodMs: 250 });
  const intervals = [1, 2, 3, 4, 5, 6, 7, 8, 100_000].map((attempt) =>
    decideIntervalMs("startup", growing, attempt, 0),
  );
  assert.deepEqual(intervals, [20, 30, 45, 67.5, 101.25, 151.875, 227.8125, 250, 250]);
  assert.equal(decideIntervalMs("startup", policy({ firstPeriodMs: 0 }), 100_000, 0), 0);
});

test("the first attempt of startup and readiness comes soon, that of liveness at a random time in the period", () => {
  const first = (purpose: ProbePurpose, changes: Partial<ProbePolicy>, random: number) =>
    decideFirstAttempt(purpose, policy(changes), AT, AT, random) - AT;
  assert.equal(first("startup", {}, 0), 0);
  assert.equal(first("startup", {}, 1), 10);
  assert.equal(first("readiness", { periodMs: 10_000 }, 1), 100);
  assert.equal(first("startup", { firstPeriodMs: 20, periodMs: 250 }, 1), 2);
  assert.equal(first("liveness", { periodMs: 10_000 }, 0.5), 5000);
});

test("the initial delay counts from the spawn, not from the end of startup", () => {
  const slow = policy({ initialDelayMs: 300 });
  assert.equal(decideFirstAttempt("readiness", slow, AT, AT, 0), 1300);
  assert.equal(decideFirstAttempt("readiness", slow, AT, instant(1200), 0), 1300);
  assert.equal(decideFirstAttempt("readiness", slow, AT, instant(1500), 0), 1500);
});

test("the first liveness attempts of workers that start together are spread over the whole period", () => {
  const random = new SeededRandom(7);
  const liveness = policy({ periodMs: 10_000 });
  const starts = Array.from(
    { length: 1000 },
    () => decideFirstAttempt("liveness", liveness, AT, AT, random.next()) - AT,
  );
  for (let second = 0; second < 10; second++) {
    const inside = starts.filter((at) => at >= second * 1000 && at < (second + 1) * 1000).length;
    assert.ok(inside > 60 && inside < 140, `${inside} of 1000 in second ${second}`);
  }
});

test("a worker without probes is ready at once and is never probed", () => {
  const worker = new Worker({});
  assert.deepEqual(worker.takeNews(), [{ kind: "becameReady" }]);
  assert.equal(nextAttempt(worker.schedule), undefined);
});

test("a worker with only a liveness probe is ready at once", () => {
  const worker = new Worker({ liveness: policy() });
  assert.deepEqual(worker.takeNews(), [{ kind: "becameReady" }]);
  assert.equal(nextAttempt(worker.schedule)?.purpose, "liveness");
});

test("a worker without a readiness probe is ready when its startup probe has passed", () => {
  const worker = new Worker({ startup: policy() }).attempts("startup", FAILURE, FAILURE);
  assert.deepEqual(worker.takeNews(), []);
  assert.deepEqual(worker.attempts("startup", SUCCESS).takeNews(), [{ kind: "becameReady" }]);
  assert.equal(nextAttempt(worker.schedule), undefined);
});

test("readiness and liveness probes start when the startup probe has passed", () => {
  const worker = new Worker({ startup: policy(), readiness: policy(), liveness: policy() });
  worker.attempts("startup", FAILURE, FAILURE, SUCCESS);
  assert.deepEqual(worker.takeNews(), []);
  assert.deepEqual(worker.attempts("readiness", SUCCESS).takeNews(), [{ kind: "becameReady" }]);
  assert.deepEqual(worker.attempts("liveness", SUCCESS).takeNews(), [{ kind: "becameAlive" }]);
});

test("a failed startup is reported once, and no further attempt is made", () => {
  const worker = new Worker({ startup: policy(), readiness: policy(), liveness: policy() });
  worker.attempts("startup", FAILURE, ERROR, FAILURE, FAILURE);
  assert.deepEqual(worker.takeNews(), [{ kind: "startupFailed", reason: "startup failed 3 times in a row: HTTP 500" }]);
  assert.equal(nextAttempt(worker.schedule), undefined);
});

test("startup does not fail before period × failure threshold has passed", () => {
  const worker = new Worker({ startup: policy({ periodMs: 1000, failureThreshold: 30 }) });
  worker.attempts("startup", ...Array.from({ length: 29 }, () => FAILURE));
  assert.deepEqual(worker.takeNews(), []);
  worker.attempts("startup", FAILURE);
  assert.equal(worker.takeNews().length, 1);
  assert.ok(worker.at - AT >= 29_000);
});

test("readiness is reported only when it changes", () => {
  const worker = new Worker({ readiness: policy({ successThreshold: 2 }) });
  assert.deepEqual(worker.attempts("readiness", FAILURE, FAILURE, FAILURE, FAILURE).takeNews(), []);
  assert.deepEqual(worker.attempts("readiness", SUCCESS, SUCCESS, SUCCESS).takeNews(), [{ kind: "becameReady" }]);
  assert.deepEqual(worker.attempts("readiness", FAILURE, FAILURE, ERROR).takeNews(), []);
  assert.deepEqual(worker.attempts("readiness", FAILURE, FAILURE).takeNews(), [
    { kind: "becameUnready", reason: "readiness failed 3 times in a row: HTTP 500" },
  ]);
  assert.deepEqual(worker.attempts("readiness", SUCCESS, SUCCESS).takeNews(), [{ kind: "becameReady" }]);
});

test("liveness is reported when it first passes, when it fails and when it recovers", () => {
  const worker = new Worker({ liveness: policy() });
  worker.takeNews();
  assert.deepEqual(worker.attempts("liveness", SUCCESS, SUCCESS).takeNews(), [{ kind: "becameAlive" }]);
  assert.deepEqual(worker.attempts("liveness", FAILURE, FAILURE, FAILURE, FAILURE).takeNews(), [
    { kind: "livenessFailed", reason: "liveness failed 3 times in a row: HTTP 500" },
  ]);
  assert.deepEqual(worker.attempts("liveness", SUCCESS, SUCCESS).takeNews(), [{ kind: "becameAlive" }]);
});

test("errors of the prober neither pass nor fail the liveness probe", () => {
  const worker = new Worker({ liveness: policy({ failureThreshold: 1 }) });
  worker.takeNews();
  assert.deepEqual(worker.attempts("liveness", ERROR, ERROR).takeNews(), []);
  assert.deepEqual(worker.attempts("liveness", FAILURE).takeNews(), [
    { kind: "livenessFailed", reason: "liveness failed: HTTP 500" },
  ]);
});

test("a worker with readiness notify is ready at its first notification, and further ones change nothing", () => {
  const worker = new Worker({ readiness: "notify" });
  assert.deepEqual(worker.takeNews(), []);
  assert.equal(nextAttempt(worker.schedule), undefined);
  assert.deepEqual(worker.notifies().takeNews(), [{ kind: "becameReady" }]);
  assert.deepEqual(worker.notifies().takeNews(), []);
});

test("a notification that arrives before startup has passed takes effect afterwards", () => {
  const worker = new Worker({ startup: policy(), readiness: "notify" }).notifies();
  assert.deepEqual(worker.takeNews(), []);
  assert.deepEqual(worker.attempts("startup", SUCCESS).takeNews(), [{ kind: "becameReady" }]);
  const late = new Worker({ startup: policy(), readiness: "notify" }).attempts("startup", SUCCESS);
  assert.deepEqual(late.takeNews(), []);
  assert.deepEqual(late.notifies().takeNews(), [{ kind: "becameReady" }]);
});

test("a notification from a worker with a readiness probe changes nothing", () => {
  const worker = new Worker({ readiness: policy() }).notifies();
  assert.deepEqual(worker.takeNews(), []);
});

test("a probe has one attempt at a time, and the next one is due an interval after the start of the last one", () => {
  const { schedule } = beginProbes({ ...NO_PROBES, readiness: policy(), liveness: policy() }, AT, 0);
  const withReadiness = startAttempt(schedule, "readiness", AT, 0.5);
  assert.deepEqual(nextAttempt(withReadiness), { purpose: "liveness", dueAt: AT });
  const both = startAttempt(withReadiness, "liveness", AT, 0);
  assert.equal(nextAttempt(both), undefined);
  const ended = endAttempt(both, "readiness", SUCCESS, after(AT, 400), 0).schedule;
  assert.deepEqual(nextAttempt(ended), { purpose: "readiness", dueAt: after(AT, 95) });
});

test("starting or ending an attempt of a nonexistent probe changes nothing", () => {
  const { schedule } = beginProbes(NO_PROBES, AT, 0);
  assert.equal(startAttempt(schedule, "liveness", AT, 0), schedule);
  assert.deepEqual(endAttempt(schedule, "liveness", FAILURE, AT, 0), { schedule, news: [] });
});

test("property: a hung worker is detected within period × failure threshold + timeout", () => {
  for (let seed = 1; seed <= 300; seed++) {
    const random = new SeededRandom(seed);
    const liveness = policy({ periodMs: 1000, timeoutMs: 1000, failureThreshold: random.between(1, 5) });
    let { schedule } = beginProbes({ ...NO_PROBES, liveness }, AT, random.next());
    const hungAt = 1000 + random.next() * 20_000;
    for (let foundAt: number | undefined; foundAt === undefined; ) {
      const next = nextAttempt(schedule);
      assert.ok(next !== undefined);
      const hangs = next.dueAt >= hungAt;
      const endsAt = after(next.dueAt, hangs ? liveness.timeoutMs : 1);
      const step = endAttempt(
        startAttempt(schedule, "liveness", next.dueAt, random.next()),
        "liveness",
        hangs ? FAILURE : SUCCESS,
        endsAt,
        random.next(),
      );
      schedule = step.schedule;
      if (!step.news.some(({ kind }) => kind === "livenessFailed")) continue;
      foundAt = endsAt;
      assert.ok(foundAt - hungAt <= liveness.periodMs * liveness.failureThreshold + 1000, `seed ${seed}`);
    }
  }
});
