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

/** A worker's probes with time and chance held by the test. */
class Worker {
  schedule: ProbeSchedule;
  readonly news: ProbeNews[];
  at: Instant = AT;

  constructor(probes: Partial<ProbeSet>) {
    const begun = beginProbes({ ...NO_PROBES, ...probes }, AT, 0);
    this.schedule = begun.schedule;
    this.news = [...begun.news];
  }

  /** Waits for the next attempt, which has to be one of `purpose`, and lets it end at once with each outcome in turn. */
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

  /** What was told since the last time. */
  told(): ProbeNews[] {
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

test("before any attempt a worker is not ready, alive, and of unknown startup", () => {
  assert.equal(newFold("readiness").verdict, "bad");
  assert.equal(newFold("liveness").verdict, "good");
  assert.equal(newFold("startup").verdict, "unknown");
});

test("below its threshold an attempt changes no verdict", () => {
  assert.equal(folded("liveness", {}, FAILURE, FAILURE).verdict, "good");
  assert.equal(folded("startup", {}, FAILURE, FAILURE).verdict, "unknown");
  assert.equal(folded("readiness", { successThreshold: 2 }, SUCCESS).verdict, "bad");
});

test("as many equal attempts in a row as the threshold make the verdict", () => {
  assert.deepEqual(folded("liveness", {}, FAILURE, FAILURE, FAILURE), {
    verdict: "bad",
    last: "failure",
    run: 3,
    reason: "HTTP 500",
  });
  assert.equal(folded("readiness", { successThreshold: 2 }, SUCCESS, SUCCESS).verdict, "good");
  assert.equal(folded("startup", {}, SUCCESS).verdict, "good");
});

test("a flapping worker never reaches a threshold", () => {
  const flaps = Array.from({ length: 30 }, (_, index) => (index % 3 === 2 ? SUCCESS : FAILURE));
  assert.equal(folded("liveness", {}, ...flaps).verdict, "good");
  assert.equal(folded("readiness", { successThreshold: 2 }, ...flaps).verdict, "bad");
});

test("a fault of the prober counts for nothing, it does not even end a row", () => {
  assert.equal(folded("liveness", {}, FAILURE, ERROR, ERROR, ERROR, FAILURE).verdict, "good");
  assert.equal(folded("liveness", {}, FAILURE, ERROR, FAILURE, ERROR, FAILURE).verdict, "bad");
});

test("without an end to the failures allowed, none makes a verdict", () => {
  const failures = Array.from({ length: 1000 }, () => FAILURE);
  assert.equal(folded("startup", { failureThreshold: Number.POSITIVE_INFINITY }, ...failures).verdict, "unknown");
});

test("intervals are jittered to the side that keeps the promise", () => {
  assert.equal(decideIntervalMs("startup", policy(), 1, 0), 100);
  assert.equal(Math.round(decideIntervalMs("startup", policy(), 1, 1)), 110);
  for (const purpose of ["readiness", "liveness"] as const) {
    assert.equal(decideIntervalMs(purpose, policy(), 7, 0), 100);
    assert.equal(decideIntervalMs(purpose, policy(), 7, 1), 90);
  }
});

test("a growing interval begins short and ends at the period, however many attempts there were", () => {
  const growing = policy({ firstPeriodMs: 20, periodMs: 250 });
  const intervals = [1, 2, 3, 4, 5, 6, 7, 8, 100_000].map((attempt) =>
    decideIntervalMs("startup", growing, attempt, 0),
  );
  assert.deepEqual(intervals, [20, 30, 45, 67.5, 101.25, 151.875, 227.8125, 250, 250]);
  assert.equal(decideIntervalMs("startup", policy({ firstPeriodMs: 0 }), 100_000, 0), 0);
});

test("the first attempt comes soon where it is waited for, and anywhere in the period where it is not", () => {
  const first = (purpose: ProbePurpose, changes: Partial<ProbePolicy>, random: number) =>
    decideFirstAttempt(purpose, policy(changes), AT, AT, random) - AT;
  assert.equal(first("startup", {}, 0), 0);
  assert.equal(first("startup", {}, 1), 10);
  assert.equal(first("readiness", { periodMs: 10_000 }, 1), 100);
  assert.equal(first("startup", { firstPeriodMs: 20, periodMs: 250 }, 1), 2);
  assert.equal(first("liveness", { periodMs: 10_000 }, 0.5), 5000);
});

test("the initial delay is counted from the spawn, not from the end of startup", () => {
  const slow = policy({ initialDelayMs: 300 });
  assert.equal(decideFirstAttempt("readiness", slow, AT, AT, 0), 1300);
  assert.equal(decideFirstAttempt("readiness", slow, AT, instant(1200), 0), 1300);
  assert.equal(decideFirstAttempt("readiness", slow, AT, instant(1500), 0), 1500);
});

test("the starts of a thousand workers born together are spread over the whole period of liveness", () => {
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

test("a worker without probes is ready at once and nothing is ever due", () => {
  const worker = new Worker({});
  assert.deepEqual(worker.told(), [{ kind: "becameReady" }]);
  assert.equal(nextAttempt(worker.schedule), undefined);
});

test("a worker with a liveness probe only is ready at once", () => {
  const worker = new Worker({ liveness: policy() });
  assert.deepEqual(worker.told(), [{ kind: "becameReady" }]);
  assert.equal(nextAttempt(worker.schedule)?.purpose, "liveness");
});

test("without a readiness probe a worker is ready when startup has succeeded", () => {
  const worker = new Worker({ startup: policy() }).attempts("startup", FAILURE, FAILURE);
  assert.deepEqual(worker.told(), []);
  assert.deepEqual(worker.attempts("startup", SUCCESS).told(), [{ kind: "becameReady" }]);
  assert.equal(nextAttempt(worker.schedule), undefined);
});

test("startup holds back the other probes until it has succeeded", () => {
  const worker = new Worker({ startup: policy(), readiness: policy(), liveness: policy() });
  worker.attempts("startup", FAILURE, FAILURE, SUCCESS);
  assert.deepEqual(worker.told(), []);
  assert.deepEqual(worker.attempts("readiness", SUCCESS).told(), [{ kind: "becameReady" }]);
  assert.deepEqual(worker.attempts("liveness", SUCCESS).told(), [{ kind: "becameAlive" }]);
});

test("a startup that fails is told once, and then nothing is attempted any more", () => {
  const worker = new Worker({ startup: policy(), readiness: policy(), liveness: policy() });
  worker.attempts("startup", FAILURE, ERROR, FAILURE, FAILURE);
  assert.deepEqual(worker.told(), [{ kind: "startupFailed", reason: "startup failed 3 times in a row: HTTP 500" }]);
  assert.equal(nextAttempt(worker.schedule), undefined);
});

test("a worker gets at least its whole startup budget", () => {
  const worker = new Worker({ startup: policy({ periodMs: 1000, failureThreshold: 30 }) });
  worker.attempts("startup", ...Array.from({ length: 29 }, () => FAILURE));
  assert.deepEqual(worker.told(), []);
  worker.attempts("startup", FAILURE);
  assert.equal(worker.told().length, 1);
  assert.ok(worker.at - AT >= 29_000);
});

test("readiness is told when it changes and only then", () => {
  const worker = new Worker({ readiness: policy({ successThreshold: 2 }) });
  assert.deepEqual(worker.attempts("readiness", FAILURE, FAILURE, FAILURE, FAILURE).told(), []);
  assert.deepEqual(worker.attempts("readiness", SUCCESS, SUCCESS, SUCCESS).told(), [{ kind: "becameReady" }]);
  assert.deepEqual(worker.attempts("readiness", FAILURE, FAILURE, ERROR).told(), []);
  assert.deepEqual(worker.attempts("readiness", FAILURE, FAILURE).told(), [
    { kind: "becameUnready", reason: "readiness failed 3 times in a row: HTTP 500" },
  ]);
  assert.deepEqual(worker.attempts("readiness", SUCCESS, SUCCESS).told(), [{ kind: "becameReady" }]);
});

test("liveness is told when it fails, when it comes back, and when it is proved for the first time", () => {
  const worker = new Worker({ liveness: policy() });
  worker.told();
  assert.deepEqual(worker.attempts("liveness", SUCCESS, SUCCESS).told(), [{ kind: "becameAlive" }]);
  assert.deepEqual(worker.attempts("liveness", FAILURE, FAILURE, FAILURE, FAILURE).told(), [
    { kind: "livenessFailed", reason: "liveness failed 3 times in a row: HTTP 500" },
  ]);
  assert.deepEqual(worker.attempts("liveness", SUCCESS, SUCCESS).told(), [{ kind: "becameAlive" }]);
});

test("liveness that only errs proves nothing and fails never", () => {
  const worker = new Worker({ liveness: policy({ failureThreshold: 1 }) });
  worker.told();
  assert.deepEqual(worker.attempts("liveness", ERROR, ERROR).told(), []);
  assert.deepEqual(worker.attempts("liveness", FAILURE).told(), [
    { kind: "livenessFailed", reason: "liveness failed: HTTP 500" },
  ]);
});

test("a worker that has to notify is ready when it does, the second time changes nothing", () => {
  const worker = new Worker({ readiness: "notify" });
  assert.deepEqual(worker.told(), []);
  assert.equal(nextAttempt(worker.schedule), undefined);
  assert.deepEqual(worker.notifies().told(), [{ kind: "becameReady" }]);
  assert.deepEqual(worker.notifies().told(), []);
});

test("a notice before startup has succeeded is kept in mind", () => {
  const worker = new Worker({ startup: policy(), readiness: "notify" }).notifies();
  assert.deepEqual(worker.told(), []);
  assert.deepEqual(worker.attempts("startup", SUCCESS).told(), [{ kind: "becameReady" }]);
  const late = new Worker({ startup: policy(), readiness: "notify" }).attempts("startup", SUCCESS);
  assert.deepEqual(late.told(), []);
  assert.deepEqual(late.notifies().told(), [{ kind: "becameReady" }]);
});

test("a notice of a worker that need not notify changes nothing", () => {
  const worker = new Worker({ readiness: policy() }).notifies();
  assert.deepEqual(worker.told(), []);
});

test("an attempt under way is not started again; the next one is due an interval after its start", () => {
  const { schedule } = beginProbes({ ...NO_PROBES, readiness: policy(), liveness: policy() }, AT, 0);
  const under = startAttempt(schedule, "readiness", AT, 0.5);
  assert.deepEqual(nextAttempt(under), { purpose: "liveness", dueAt: AT });
  const both = startAttempt(under, "liveness", AT, 0);
  assert.equal(nextAttempt(both), undefined);
  const ended = endAttempt(both, "readiness", SUCCESS, after(AT, 400), 0).schedule;
  assert.deepEqual(nextAttempt(ended), { purpose: "readiness", dueAt: after(AT, 95) });
});

test("attempts of a probe that does not exist change nothing", () => {
  const { schedule } = beginProbes(NO_PROBES, AT, 0);
  assert.equal(startAttempt(schedule, "liveness", AT, 0), schedule);
  assert.deepEqual(endAttempt(schedule, "liveness", FAILURE, AT, 0), { schedule, news: [] });
});

test("a hung worker is found within period times threshold, timeout and nothing more, whatever chance does", () => {
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
