import assert from "node:assert/strict";
import { test } from "node:test";
import { poolSpec } from "../../../test/support/poolSpec.ts";
import { after, type Instant, instant } from "../../base/time.ts";
import type { ExitStatus } from "../exit.ts";
import type { RestartPolicy } from "../spec.ts";
import {
  type CrashHistory,
  decideExpectedRestart,
  decideRestart,
  judgeExit,
  NO_CRASHES,
  type RestartDecision,
} from "./restart.ts";

const START = instant(50_000);

function policy(changes: Partial<RestartPolicy> & { jitter?: number } = {}): RestartPolicy {
  const { jitter = 0, ...rest } = changes;
  const base = poolSpec().restart;
  return { ...base, backoff: { ...base.backoff, jitter }, ...rest };
}

/** Crashes `count` times, `everyMs` apart, each after an uptime of 1 ms. */
function crashes(count: number, everyMs: number, rules: RestartPolicy, random = 0.5): RestartDecision[] {
  let history: CrashHistory = NO_CRASHES;
  const decisions: RestartDecision[] = [];
  for (let crash = 0; crash < count; crash++) {
    const decision = decideRestart(history, after(START, crash * everyMs), 1, random, rules);
    decisions.push(decision);
    history = decision.history;
  }
  return decisions;
}

function delays(decisions: readonly RestartDecision[]): (number | "give-up")[] {
  return decisions.map((decision) => (decision.kind === "restart" ? decision.delayMs : "give-up"));
}

test("the first crash restarts at once, and each further one doubles the backoff up to the maximum", () => {
  const rules = policy();
  assert.deepEqual(
    delays(crashes(12, 1, rules)),
    [0, 100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000],
  );
});

test("the reason names the number of crashes in a row and the wait", () => {
  const [first, second] = crashes(2, 1, policy());
  assert.equal(first?.reason, "first crash");
  assert.equal(second?.reason, "crash 2 in a row");
});

test("a crash after an uptime of at least reset_after counts as the first one", () => {
  const history: CrashHistory = { recent: [START], streak: 5, lastUptimeMs: 1 };
  const long = decideRestart(history, after(START, 60_000), 60_000, 0.5, policy());
  assert.deepEqual([long.kind === "restart" && long.delayMs, long.history.streak], [0, 1]);
  const short = decideRestart(history, after(START, 59_999), 59_999, 0.5, policy());
  assert.deepEqual([short.kind === "restart" && short.delayMs, short.history.streak], [1600, 6]);
});

test("jitter changes the backoff linearly in both directions, and never below zero", () => {
  const rules = policy({ jitter: 0.2 });
  assert.deepEqual(delays(crashes(3, 1, rules, 0)), [0, 80, 160]);
  assert.deepEqual(delays(crashes(3, 1, rules, 0.5)), [0, 100, 200]);
  assert.deepEqual(delays(crashes(3, 1, rules, 1)), [0, 120, 240]);
  assert.deepEqual(delays(crashes(2, 1, policy({ jitter: 3 }), 0)), [0, 0]);
});

test("a worker gives up at the crash after max_restarts crashes in the window", () => {
  const decisions = crashes(4, 1000, policy({ maxRestarts: 3, windowMs: 600_000 }));
  assert.deepEqual(
    decisions.map(({ kind }) => kind),
    ["restart", "restart", "restart", "give-up"],
  );
  assert.equal(decisions[3]?.reason, "4 crashes or failed starts within 10m; the limit is 3");
});

test("with max_restarts 0 a worker gives up at its first crash", () => {
  const [decision] = crashes(1, 1, policy({ maxRestarts: 0, windowMs: 1000 }));
  assert.deepEqual(
    [decision?.kind, decision?.reason],
    ["give-up", "1 crash or failed start within 1s; the limit is 0"],
  );
});

test("a crash counts against the restart limit for exactly restart_window", () => {
  const rules = policy({ maxRestarts: 1, windowMs: 1000 });
  const second = (at: Instant) =>
    decideRestart({ recent: [START], streak: 1, lastUptimeMs: 1 }, at, 1, 0.5, rules).kind;
  assert.equal(second(after(START, 1000)), "give-up");
  assert.equal(second(after(START, 1001)), "restart");
  assert.ok(crashes(1000, 1001, rules).every(({ kind }) => kind === "restart"));
});

test("without max_restarts restarts are unlimited, and the crash history stays bounded", () => {
  const unlimited = crashes(5000, 1, policy());
  assert.ok(unlimited.every(({ kind }) => kind === "restart"));
  assert.equal(unlimited.at(-1)?.history.recent.length, 1);
  const limited = crashes(500, 1, policy({ maxRestarts: 3 }));
  assert.ok(limited.every(({ history }) => history.recent.length <= 4));
});

test("the backoff stays finite for any number of crashes in a row", () => {
  const decision = decideRestart(
    { recent: [], streak: 100_000, lastUptimeMs: 1 },
    START,
    1,
    1,
    policy({ jitter: 0.2 }),
  );
  assert.equal(decision.kind === "restart" && decision.delayMs, 36_000);
  const base = policy();
  const atOnce = { ...base, backoff: { ...base.backoff, initialMs: 0 } };
  const none = decideRestart({ recent: [], streak: 100_000, lastUptimeMs: 1 }, START, 1, 1, atOnce);
  assert.equal(none.kind === "restart" && none.delayMs, 0);
});

function code(value: number): ExitStatus {
  return { kind: "code", code: value };
}

function killedBy(signal: string): ExitStatus {
  return { kind: "signal", signal };
}

/** "crash", "expected", "completed" or "failed". */
function verdict(status: ExitStatus, rules: Partial<RestartPolicy>, isDuringShutdown = false, stopSignal = "SIGTERM") {
  const judged = judgeExit({ status, isDuringShutdown }, stopSignal, policy(rules));
  return judged.kind === "final" ? (judged.isFailure ? "failed" : "completed") : judged.kind;
}

test("with restart policy always, every exit except an expected code is a crash", () => {
  const rules = { condition: "always", expectedExitCodes: [0, 7] } as const;
  assert.deepEqual(
    [code(0), code(7), code(1), killedBy("SIGTERM")].map((status) => verdict(status, rules)),
    ["expected", "expected", "crash", "crash"],
  );
  assert.equal(verdict(code(0), { condition: "always" }), "crash", "no code is expected by default");
});

test("with restart policy on-failure, code 0 and expected codes complete the worker, and any other exit is a crash", () => {
  const rules = { condition: "on-failure", expectedExitCodes: [7] } as const;
  assert.deepEqual(
    [code(0), code(7), code(1), killedBy("SIGSEGV")].map((status) => verdict(status, rules)),
    ["completed", "completed", "crash", "crash"],
  );
});

test("with restart policy never, an exit completes the worker or marks it as failed", () => {
  const rules = { condition: "never", expectedExitCodes: [7] } as const;
  assert.deepEqual(
    [code(0), code(7), code(1), killedBy("SIGTERM")].map((status) => verdict(status, rules)),
    ["completed", "completed", "failed", "failed"],
  );
});

test("during a shutdown an exit that a stop signal may have caused is not a crash", () => {
  const statuses = [code(0), code(143), code(130), killedBy("SIGTERM"), killedBy("SIGHUP"), killedBy("SIGUSR1")];
  const verdicts = (condition: RestartPolicy["condition"]) =>
    statuses.map((status) => verdict(status, { condition }, true, "SIGUSR1"));
  assert.deepEqual(
    verdicts("always"),
    statuses.map(() => "expected"),
  );
  assert.deepEqual(
    verdicts("on-failure"),
    statuses.map(() => "completed"),
  );
  assert.deepEqual(
    verdicts("never"),
    statuses.map(() => "completed"),
  );
  for (const status of [code(1), code(128), killedBy("SIGSEGV"), killedBy("SIGKILL"), killedBy("SIGUSR2")])
    assert.equal(verdict(status, { condition: "always" }, true, "SIGUSR1"), "crash");
});

/** Restart delays after expected exits in a row, each after this uptime. */
function expectedDelays(count: number, uptimeMs: number, wasReady: boolean): number[] {
  let history = NO_CRASHES;
  return Array.from({ length: count }, () => {
    const decision = decideExpectedRestart(history, uptimeMs, wasReady, 0.5, policy({ maxRestarts: 0 }));
    history = decision.history;
    return decision.delayMs;
  });
}

test("a ready worker is restarted at once after each expected exit", () => {
  assert.deepEqual(expectedDelays(5, 1000, true), [0, 0, 0, 0, 0]);
});

test("a worker whose expected exit comes right after its start, or before it is ready, is restarted with backoff", () => {
  assert.deepEqual(expectedDelays(5, 999, true), [0, 100, 200, 400, 800]);
  assert.deepEqual(expectedDelays(5, 60_000, false), [0, 100, 200, 400, 800]);
});

test("expected exits do not count against the restart limit and do not clear earlier crashes", () => {
  const rules = policy({ maxRestarts: 1, windowMs: 600_000 });
  const first = decideRestart(NO_CRASHES, START, 1, 0.5, rules);
  const expected = decideExpectedRestart(first.history, 5000, true, 0.5, rules);
  assert.deepEqual(expected.history, { recent: [START], streak: 0, lastUptimeMs: 1 });
  assert.equal(decideRestart(expected.history, after(START, 1), 1, 0.5, rules).kind, "give-up");
});
