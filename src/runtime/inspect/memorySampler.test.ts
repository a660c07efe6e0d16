import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock } from "../../../test/support/fakeClock.ts";
import { poolSpec } from "../../../test/support/poolSpec.ts";
import type { Logger } from "../../base/log.ts";
import { refKey } from "../../core/identity.ts";
import type { LimitsPolicy } from "../../core/spec.ts";
import { MemorySampler, type MemoryTarget } from "./memorySampler.ts";

const MIB = 2 ** 20;

interface FakeProcess {
  rssMiB: number;
  /** undefined where it is hidden. */
  pssMiB?: number | undefined;
}

/** Workers whose memory is what a test says. */
class Scene {
  readonly clock = new FakeClock();
  readonly told: string[] = [];
  readonly warnings: string[] = [];
  readonly processes = new Map<number, FakeProcess>();
  readonly members = new Map<number, number[]>();
  /** Instants of all reads by process. */
  readonly reads: { readonly at: number; readonly pid: number }[] = [];
  listings = 0;
  pssReads = 0;
  limits: LimitsPolicy;
  readonly sampler: MemorySampler;

  constructor(limits: Partial<LimitsPolicy>) {
    this.limits = { ...poolSpec().limits, ...limits };
    const ignore = () => {};
    const log: Logger = { debug: ignore, info: ignore, warn: (text) => this.warnings.push(text), error: ignore };
    this.sampler = new MemorySampler({
      clock: this.clock,
      trees: { refresh: () => this.listings++, membersOf: (leader) => this.members.get(leader) ?? [leader] },
      memory: {
        rssBytes: (pid) => {
          this.reads.push({ at: this.clock.now(), pid });
          const process = this.processes.get(pid);
          return process === undefined ? undefined : process.rssMiB * MIB;
        },
        pssBytes: (pid) => {
          this.pssReads++;
          const pssMiB = this.processes.get(pid)?.pssMiB;
          return pssMiB === undefined ? undefined : pssMiB * MIB;
        },
      },
      limitsOf: () => this.limits,
      listener: {
        limitReached: (worker, limit, reason) => this.told.push(`${refKey(worker)} ${limit}: ${reason}`),
      },
      log,
    });
  }

  /** A worker that serves, of one process. */
  worker(slot: number, process: FakeProcess, changes: Partial<MemoryTarget> = {}): void {
    const target = { pool: 0, slot, incarnation: 1, pid: 100 + slot, ...changes };
    this.processes.set(target.pid, process);
    this.sampler.watch(target);
    this.sampler.serves({ pool: 0, slot, incarnation: target.incarnation });
  }
}

test("workers without a limit cost no timer and no read", () => {
  const scene = new Scene({});
  scene.worker(0, { rssMiB: 5000 });
  assert.deepEqual(scene.clock.armed, []);
  scene.clock.pass(60_000);
  assert.deepEqual([scene.reads.length, scene.listings, scene.told.length], [0, 0, 0]);
});

test("the timer stops with the last worker", () => {
  const scene = new Scene({ memoryBytes: 100 * MIB });
  scene.worker(0, { rssMiB: 50 });
  assert.equal(scene.clock.armed.length, 1);
  scene.sampler.forget({ pool: 0, slot: 0, incarnation: 1 });
  assert.deepEqual(scene.clock.armed, []);
  scene.worker(0, { rssMiB: 50 });
  scene.sampler.close();
  assert.deepEqual(scene.clock.armed, []);
});

test("the soft limit is reported after two samples a second apart, once, and again a minute later", () => {
  const scene = new Scene({ memoryBytes: 100 * MIB });
  const process = { rssMiB: 50 };
  scene.worker(0, process);
  scene.clock.pass(10_000);
  process.rssMiB = 100.3;
  scene.clock.pass(5000);
  const first = scene.reads.length;
  scene.clock.pass(1250);
  assert.ok(scene.reads.length > first);
  assert.deepEqual(scene.told, ["0/0/1 memory: 100.3 MiB rss; the limit is 100 MiB"]);
  scene.clock.pass(55_000);
  assert.equal(scene.told.length, 1);
  scene.clock.pass(10_000);
  assert.equal(scene.told.length, 2, "a replacement that was given up is tried again");
});

test("memory that is freed before the second sample has no effect", () => {
  const scene = new Scene({ memoryBytes: 100 * MIB });
  const process = { rssMiB: 50 };
  scene.worker(0, process);
  for (let spike = 0; spike < 20; spike++) {
    scene.clock.pass(3000);
    process.rssMiB = 150;
    scene.clock.pass(900);
    process.rssMiB = 50;
  }
  assert.deepEqual(scene.told, []);
  assert.ok(scene.reads.length > 10);
});

test("early samples for the hard limit do not confirm the soft limit", () => {
  const scene = new Scene({ memoryBytes: 100 * MIB, memoryHardBytes: 400 * MIB });
  const process = { rssMiB: 10 };
  scene.worker(0, process);
  const nextLook = () => {
    for (const looks = scene.reads.length; scene.reads.length === looks; ) scene.clock.pass(10);
  };
  nextLook();
  process.rssMiB = 300;
  nextLook();
  const looks = scene.reads.length;
  scene.clock.pass(900);
  assert.ok(scene.reads.length > looks);
  assert.deepEqual(scene.told, []);
  process.rssMiB = 10;
  scene.clock.pass(5000);
  assert.deepEqual(scene.told, []);
  process.rssMiB = 300;
  nextLook();
  scene.clock.pass(1250);
  assert.equal(scene.told.length, 1);
});

test("the hard limit is reported at the first sample, even before the worker is ready; the soft limit is not", () => {
  const scene = new Scene({ memoryBytes: 100 * MIB, memoryHardBytes: 200 * MIB });
  const process = { rssMiB: 150 };
  scene.processes.set(7, process);
  scene.sampler.watch({ pool: 0, slot: 3, incarnation: 2, pid: 7 });
  scene.clock.pass(20_000);
  assert.deepEqual(scene.told, []);
  process.rssMiB = 201;
  scene.clock.pass(2250);
  assert.deepEqual(scene.told, ["0/3/2 memory_hard: 201 MiB rss; the limit is 200 MiB"]);
});

test("a leak of 20 MB per second is detected within a twentieth of a second after the hard limit", () => {
  const scene = new Scene({ memoryHardBytes: 512 * MIB });
  const processes = [0, 1, 2, 3].map((slot) => {
    const process = { rssMiB: 45 + slot };
    scene.worker(slot, process);
    return process;
  });
  const worst = new Map<number, number>();
  for (let ms = 0; ms < 30_000 && scene.told.length < 4; ms += 10) {
    for (const [slot, process] of processes.entries()) {
      const isTold = scene.told.some((text) => text.startsWith(`0/${slot}/`));
      if (!isTold) process.rssMiB += 0.2 / 1.048576;
      worst.set(slot, process.rssMiB);
    }
    scene.clock.pass(10);
  }
  assert.equal(scene.told.length, 4);
  for (const mib of worst.values()) assert.ok(mib <= 512 + 1.2, `${mib} MiB`);
  assert.ok(scene.reads.length < 4 * 40, `${scene.reads.length} reads`);
});

test("all processes of a worker count together, without exited processes and zombies", () => {
  const scene = new Scene({ memoryHardBytes: 100 * MIB });
  scene.worker(0, { rssMiB: 40 });
  scene.processes.set(500, { rssMiB: 35 });
  scene.processes.set(501, { rssMiB: 45 });
  scene.processes.set(502, { rssMiB: 0 });
  scene.members.set(100, [100, 500, 501, 502, 503]);
  scene.clock.pass(1250);
  assert.deepEqual(scene.told, ["0/0/1 memory_hard: 120 MiB rss in 3 processes; the limit is 100 MiB"]);
});

test("PSS is read only if RSS is above the limit, and reused while RSS does not grow", () => {
  const scene = new Scene({ memoryBytes: 100 * MIB, memoryKind: "pss" });
  const process: FakeProcess = { rssMiB: 90, pssMiB: 80 };
  scene.worker(0, process);
  scene.clock.pass(20_000);
  assert.equal(scene.pssReads, 0);
  process.rssMiB = 150;
  scene.clock.pass(25_000);
  assert.ok(scene.pssReads >= 1 && scene.pssReads <= 2, `${scene.pssReads} reads`);
  assert.deepEqual(scene.told, []);
  process.rssMiB = 180;
  process.pssMiB = 105;
  scene.clock.pass(5000);
  assert.deepEqual(scene.told, ["0/0/1 memory: 105 MiB pss; the limit is 100 MiB"]);
});

test("if PSS is hidden, RSS counts, with one warning", () => {
  const scene = new Scene({ memoryBytes: 100 * MIB, memoryKind: "pss" });
  scene.worker(0, { rssMiB: 150 });
  scene.worker(1, { rssMiB: 150 });
  scene.clock.pass(3000);
  assert.equal(scene.told.length, 2);
  assert.match(scene.told[0] ?? "", /150 MiB rss; /u);
  assert.equal(scene.warnings.length, 1);
});

test("nothing is reported about an exited worker or its successor", () => {
  const scene = new Scene({ memoryHardBytes: 100 * MIB });
  scene.worker(0, { rssMiB: 150 });
  scene.sampler.forget({ pool: 0, slot: 0, incarnation: 1 });
  scene.worker(0, { rssMiB: 50 }, { incarnation: 2, pid: 200 });
  scene.sampler.forget({ pool: 0, slot: 0, incarnation: 1 });
  scene.clock.pass(10_000);
  assert.deepEqual(scene.told, []);
  assert.ok(scene.reads.length > 0 && scene.reads.every(({ pid }) => pid === 200));
});

test("changed limits apply to running workers", () => {
  const scene = new Scene({});
  scene.worker(0, { rssMiB: 150 });
  scene.limits = { ...scene.limits, memoryHardBytes: 100 * MIB };
  scene.sampler.reconsider();
  scene.clock.pass(250);
  assert.equal(scene.told.length, 1);
  scene.limits = { ...scene.limits, memoryHardBytes: undefined };
  scene.clock.pass(5000);
  assert.deepEqual(scene.clock.armed, []);
});

test("a thousand idle workers are sampled every five seconds in few wake-ups, with at most one listing per two seconds", () => {
  const scene = new Scene({ memoryBytes: 512 * MIB });
  for (let slot = 0; slot < 1000; slot++) {
    scene.worker(slot, { rssMiB: 50 });
    scene.clock.pass(10);
  }
  scene.reads.length = 0;
  scene.listings = 0;
  scene.clock.pass(60_000);
  assert.ok(scene.reads.length <= 12_000 && scene.reads.length > 11_000, `${scene.reads.length} reads`);
  assert.ok(scene.listings <= 30, `${scene.listings} listings`);
  const wakes = new Set(scene.reads.map(({ at }) => at)).size;
  assert.ok(wakes <= 240, `${wakes} wakes`);
});
