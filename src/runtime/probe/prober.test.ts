import assert from "node:assert/strict";
import { closeSync, writeSync } from "node:fs";
import { test } from "node:test";
import { FakeClock } from "../../../test/support/fakeClock.ts";
import { SeededRandom } from "../../../test/support/random.ts";
import type { Logger } from "../../base/log.ts";
import type { WorkerRef } from "../../core/identity.ts";
import { type AttemptOutcome, type ProbePolicy, type ProbePurpose, resultOf } from "../../core/policy/probe.ts";
import { NotifyChannel } from "../channel/notifyChannel.ts";
import { readinessChannelOf } from "../channel/workerChannels.ts";
import { openPipe } from "../os/linux.ts";
import { type AttemptStarter, type Probe, type ProbeListener, Prober, type ProbeTarget } from "./prober.ts";

const SUCCESS: AttemptOutcome = { kind: "success" };
const FAILURE: AttemptOutcome = { kind: "failure", reason: "HTTP 500" };

/** An attempt that the test ends. */
interface FakeAttempt {
  readonly slot: number;
  readonly incarnation: number;
  readonly purpose: ProbePurpose;
  readonly settle: (outcome: AttemptOutcome) => void;
  readonly release: () => void;
  isDisposed: boolean;
}

/** A prober whose attempts exist on paper. */
class Scene implements ProbeListener {
  readonly clock = new FakeClock();
  readonly told: string[] = [];
  readonly counted: string[] = [];
  readonly warnings: string[] = [];
  readonly attempts: FakeAttempt[] = [];
  /** Ends each attempt at its start, where it is set. */
  answer: ((attempt: FakeAttempt) => void) | undefined;
  onTold: (what: string) => void = () => {};
  readonly prober: Prober;

  constructor(random: () => number = () => 0) {
    const ignore = () => {};
    const log: Logger = { debug: ignore, info: ignore, warn: (message) => this.warnings.push(message), error: ignore };
    const start: AttemptStarter = (probe, target, settle, release) => {
      const { slot, incarnation } = target;
      const purpose = purposeOf(target, probe);
      const attempt = { slot, incarnation, purpose, settle, release, isDisposed: false };
      this.attempts.push(attempt);
      this.answer?.(attempt);
      return {
        [Symbol.dispose]: () => {
          attempt.isDisposed = true;
          release();
        },
      };
    };
    this.prober = new Prober({ clock: this.clock, random, listener: this, log, start });
  }

  becameReady({ slot, incarnation }: WorkerRef): void {
    this.tell(`ready ${slot}/${incarnation}`);
  }
  becameUnready({ slot, incarnation }: WorkerRef, reason: string): void {
    this.tell(`unready ${slot}/${incarnation} ${reason}`);
  }
  startupFailed({ slot, incarnation }: WorkerRef, reason: string): void {
    this.tell(`startup failed ${slot}/${incarnation} ${reason}`);
  }
  livenessFailed({ slot, incarnation }: WorkerRef, reason: string): void {
    this.tell(`liveness failed ${slot}/${incarnation} ${reason}`);
  }
  becameAlive({ slot, incarnation }: WorkerRef): void {
    this.tell(`alive ${slot}/${incarnation}`);
  }
  attempted(_target: ProbeTarget, purpose: ProbePurpose, outcome: AttemptOutcome): void {
    this.counted.push(`${purpose} ${resultOf(outcome)}`);
  }

  take(): string[] {
    return this.told.splice(0);
  }

  /** Ends the oldest attempt that is under way. */
  end(outcome: AttemptOutcome): void {
    const attempt = this.attempts.shift();
    assert.ok(attempt !== undefined);
    attempt.settle(outcome);
    attempt.release();
  }

  private tell(what: string): void {
    this.told.push(what);
    this.onTold(what);
  }
}

function purposeOf(target: ProbeTarget, probe: Probe): ProbePurpose {
  if (target.startup === probe) return "startup";
  return target.liveness === probe ? "liveness" : "readiness";
}

function probe(changes: Partial<ProbePolicy> = {}, kind: "http" | "exec" = "http"): Probe {
  const policy: ProbePolicy = {
    initialDelayMs: 0,
    periodMs: 100,
    firstPeriodMs: undefined,
    timeoutMs: 50,
    failureThreshold: 2,
    successThreshold: 1,
    ...changes,
  };
  const method: Probe["method"] =
    kind === "http" ? { kind, path: "/", port: undefined } : { kind, file: "/bin/true", argv: ["true"] };
  return { method, policy };
}

function target(changes: Partial<ProbeTarget> = {}): ProbeTarget {
  return {
    pool: 0,
    slot: 0,
    incarnation: 1,
    revision: 1,
    pid: 100,
    owner: { leader: 100 },
    address: { port: 1 },
    startup: undefined,
    readiness: undefined,
    liveness: undefined,
    readinessChannel: undefined,
    ...changes,
  };
}

test("a worker without probes is ready before watch returns, and no timer is armed for it", () => {
  const scene = new Scene();
  scene.prober.watch(target());
  assert.deepEqual(scene.take(), ["ready 0/1"]);
  assert.deepEqual(scene.clock.armed, []);
});

test("startup, readiness and liveness probes follow each other as in Kubernetes", () => {
  const scene = new Scene();
  scene.prober.watch(target({ startup: probe(), readiness: probe(), liveness: probe() }));
  scene.clock.pass(0);
  scene.end(FAILURE);
  scene.clock.pass(99);
  assert.equal(scene.attempts.length, 0);
  scene.clock.pass(1);
  scene.end(SUCCESS);
  assert.deepEqual(scene.take(), []);
  scene.clock.pass(0);
  assert.deepEqual(
    scene.attempts.map(({ purpose }) => purpose),
    ["readiness", "liveness"],
  );
  scene.end(SUCCESS);
  scene.end(SUCCESS);
  assert.deepEqual(scene.take(), ["ready 0/1", "alive 0/1"]);
  for (let turn = 0; turn < 2; turn++) {
    scene.clock.pass(100);
    scene.end(FAILURE);
    scene.end(FAILURE);
  }
  assert.deepEqual(scene.take(), [
    "unready 0/1 readiness failed 2 times in a row: HTTP 500",
    "liveness failed 0/1 liveness failed 2 times in a row: HTTP 500",
  ]);
  assert.deepEqual(scene.counted, [
    "startup failure",
    "startup success",
    "readiness success",
    "liveness success",
    "readiness failure",
    "liveness failure",
    "readiness failure",
    "liveness failure",
  ]);
});

test("a worker that cannot be replaced yet is still probed and can become alive again", () => {
  const scene = new Scene();
  scene.prober.watch(target({ liveness: probe({ failureThreshold: 1 }) }));
  scene.take();
  scene.clock.pass(0);
  scene.end(FAILURE);
  scene.clock.pass(100);
  scene.end(SUCCESS);
  assert.deepEqual(scene.take(), ["liveness failed 0/1 liveness failed: HTTP 500", "alive 0/1"]);
});

test("a failed startup ends all attempts", () => {
  const scene = new Scene();
  scene.prober.watch(target({ startup: probe({ failureThreshold: 1 }), readiness: probe() }));
  scene.clock.pass(0);
  scene.end(FAILURE);
  assert.deepEqual(scene.take(), ["startup failed 0/1 startup failed: HTTP 500"]);
  scene.clock.pass(100_000);
  assert.equal(scene.attempts.length, 0);
});

test("growing startup intervals find a worker that listens after 30 ms before 55 ms", () => {
  const scene = new Scene();
  const gate = probe({ firstPeriodMs: 20, periodMs: 250, failureThreshold: Number.POSITIVE_INFINITY });
  const bornAt = scene.clock.now();
  scene.answer = ({ settle, release }) => {
    settle(scene.clock.now() - bornAt < 30 ? FAILURE : SUCCESS);
    release();
  };
  scene.prober.watch(target({ startup: gate }));
  scene.clock.pass(55);
  assert.deepEqual(scene.take(), ["ready 0/1"]);
});

test("a late result for a forgotten incarnation changes nothing, also not for its successor", () => {
  const scene = new Scene();
  scene.prober.watch(target({ readiness: probe() }));
  scene.clock.pass(0);
  const [late] = scene.attempts.splice(0);
  scene.prober.forget({ pool: 0, slot: 0, incarnation: 1 });
  assert.equal(late?.isDisposed, true);
  scene.prober.watch(target({ incarnation: 2, readiness: probe() }));
  late?.settle(SUCCESS);
  assert.deepEqual(scene.take(), []);
  assert.deepEqual(scene.counted, []);
  scene.clock.pass(0);
  assert.equal(scene.attempts[0]?.incarnation, 2);
  scene.end(SUCCESS);
  assert.deepEqual(scene.take(), ["ready 0/2"]);
});

test("a new incarnation replaces the older one, and forgetting the older one does not affect it", () => {
  const scene = new Scene();
  scene.prober.watch(target({ readiness: probe() }));
  scene.clock.pass(0);
  scene.prober.watch(target({ incarnation: 2, readiness: probe() }));
  assert.equal(scene.attempts.shift()?.isDisposed, true);
  scene.prober.forget({ pool: 0, slot: 0, incarnation: 1 });
  scene.prober.forget({ pool: 0, slot: 7, incarnation: 1 });
  scene.clock.pass(0);
  scene.end(SUCCESS);
  assert.deepEqual(scene.take(), ["ready 0/2"]);
});

test("a listener that forgets a worker during a notification gets no further notification about it", () => {
  const scene = new Scene();
  scene.onTold = () => scene.prober.forget({ pool: 0, slot: 0, incarnation: 1 });
  scene.prober.watch(target({ liveness: probe() }));
  assert.deepEqual(scene.take(), ["ready 0/1"]);
  scene.clock.pass(1000);
  assert.equal(scene.attempts.length, 0);
});

test("at most 64 attempts run at once, and each worker gets its turn", () => {
  const scene = new Scene();
  for (let slot = 0; slot < 200; slot++) scene.prober.watch(target({ slot, readiness: probe() }));
  scene.clock.pass(0);
  const owner = new Set<number>();
  let most = 0;
  for (let ended = 0; ended < 200; ended++) {
    most = Math.max(most, scene.attempts.length);
    assert.equal(scene.attempts.length, scene.prober.attemptsUnderWay);
    owner.add(scene.attempts[0]?.slot ?? -1);
    scene.end(SUCCESS);
  }
  assert.equal(most, 64);
  assert.equal(owner.size, 200);
  assert.equal(scene.take().length, 200);
  assert.equal(scene.prober.attemptsUnderWay, 0);
});

test("at most 8 commands run at once, and they do not delay other probes", () => {
  const scene = new Scene();
  for (let slot = 0; slot < 20; slot++) {
    scene.prober.watch(target({ slot, readiness: probe({}, "exec"), liveness: probe() }));
  }
  scene.clock.pass(0);
  assert.equal(scene.attempts.filter(({ purpose }) => purpose === "readiness").length, 8);
  assert.equal(scene.attempts.filter(({ purpose }) => purpose === "liveness").length, 20);
});

test("each pool can run one command, however many commands of other pools hang", () => {
  const scene = new Scene();
  for (let slot = 0; slot < 20; slot++) scene.prober.watch(target({ slot, readiness: probe({}, "exec") }));
  scene.clock.pass(0);
  for (let slot = 100; slot < 102; slot++) scene.prober.watch(target({ pool: 1, slot, startup: probe({}, "exec") }));
  scene.clock.pass(0);
  const others = () => scene.attempts.filter(({ slot }) => slot >= 100);
  assert.equal(others().length, 1);
  const [only] = others();
  only?.settle(SUCCESS);
  only?.release();
  assert.equal(others().length, 2, "the next one of its pool follows");
  assert.equal(scene.attempts.length, 10, "and no other one");
});

test("a command that timed out counts as running until it is reaped", () => {
  const scene = new Scene();
  for (let slot = 0; slot < 9; slot++) scene.prober.watch(target({ slot, readiness: probe({}, "exec") }));
  scene.clock.pass(0);
  assert.equal(scene.attempts.length, 8);
  scene.attempts[0]?.settle(FAILURE);
  assert.equal(scene.attempts.length, 8);
  scene.attempts[0]?.release();
  assert.equal(scene.attempts.length, 9);
});

test("forgotten workers make room for queued attempts", () => {
  const scene = new Scene();
  for (let slot = 0; slot < 65; slot++) scene.prober.watch(target({ slot, readiness: probe() }));
  scene.clock.pass(0);
  assert.equal(scene.attempts.length, 64);
  scene.prober.forget({ pool: 0, slot: 3, incarnation: 1 });
  assert.equal(scene.attempts.length, 65);
});

test("attempts that cannot start because no descriptor is free change no verdict", () => {
  const scene = new Scene();
  scene.answer = ({ settle, release }) => {
    settle({ kind: "error", reason: "EMFILE" });
    release();
  };
  for (let slot = 0; slot < 1000; slot++)
    scene.prober.watch(target({ slot, liveness: probe({ failureThreshold: 1 }) }));
  scene.take();
  scene.clock.pass(500);
  assert.deepEqual(scene.take(), []);
  assert.ok(scene.attempts.length >= 500);
  assert.equal(scene.warnings.length, 1);
  scene.clock.pass(60_000);
  assert.equal(scene.warnings.length, 2);
});

test("a thousand workers spawned together are not probed at the same moment", () => {
  const random = new SeededRandom(3);
  const scene = new Scene(() => random.next());
  const askedAt: number[] = [];
  scene.answer = ({ settle, release }) => {
    askedAt.push(Math.floor(scene.clock.now() / 10));
    settle(SUCCESS);
    release();
  };
  for (let slot = 0; slot < 1000; slot++) {
    scene.prober.watch(target({ slot, readiness: probe({ periodMs: 10_000 }), liveness: probe({ periodMs: 10_000 }) }));
  }
  scene.clock.pass(60_000);
  const perTenMs = new Map<number, number>();
  for (const at of askedAt) perTenMs.set(at, (perTenMs.get(at) ?? 0) + 1);
  assert.ok(askedAt.length > 11_000 && askedAt.length < 14_000, `${askedAt.length}`);
  // Ready soon after the start: those are spread over 100 ms, all later ones over seconds.
  assert.ok(Math.max(...perTenMs.values()) < 150);
  const later = [...perTenMs].filter(([at]) => at > 200).map(([, count]) => count);
  assert.ok(Math.max(...later) < 30, `${Math.max(...later)}`);
});

test("all workers share one timer, and close stops it", () => {
  const scene = new Scene(() => 0.5);
  for (let slot = 0; slot < 10; slot++) scene.prober.watch(target({ slot, liveness: probe() }));
  assert.equal(scene.clock.armed.length, 1);
  scene.clock.pass(60);
  assert.equal(scene.attempts.length, 10);
  scene.prober.close();
  assert.deepEqual(scene.clock.armed, []);
  assert.ok(scene.attempts.every(({ isDisposed }) => isDisposed));
  assert.equal(scene.prober.attemptsUnderWay, 0);
});

test("a timer that fires early starts no attempt before it is due", () => {
  const scene = new Scene();
  scene.prober.watch(target({ readiness: probe({ initialDelayMs: 500 }) }));
  scene.clock.fireEarly();
  assert.equal(scene.attempts.length, 0);
  scene.clock.pass(500);
  assert.equal(scene.attempts.length, 1);
});

test("a worker with a readiness notification is ready when it notifies, after startup", async () => {
  const scene = new Scene();
  const { readFd, writeFd } = openPipe();
  const notifyChannel = new NotifyChannel(readFd);
  const ready = Promise.withResolvers<void>();
  scene.onTold = () => ready.resolve();
  const readinessChannel = readinessChannelOf({ newline: notifyChannel, sockets: undefined }, 4242);
  scene.prober.watch(target({ readiness: "notify", readinessChannel }));
  assert.deepEqual(scene.take(), []);
  writeSync(writeFd, "\n");
  await ready.promise;
  assert.deepEqual(scene.take(), ["ready 0/1"]);
  scene.prober.forget({ pool: 0, slot: 0, incarnation: 1 });
  closeSync(writeFd);
});
