import assert from "node:assert/strict";
import { test } from "node:test";
import { setImmediate as turn } from "node:timers/promises";
import { FakeClock } from "../../../test/support/fakeClock.ts";
import type { WorkerRef } from "../../core/identity.ts";
import type { Ownership } from "../../runtime/socket/socketOwners.ts";
import { OwnershipWatch } from "./ownershipWatch.ts";

const WORKER: WorkerRef = { pool: 0, slot: 0, incarnation: 1 };
const ADDRESSES = [{ port: 80 }, { port: 81 }];

/** A watch whose judgements resolve as `owners` says, by port. */
function rig() {
  const clock = new FakeClock();
  const verdicts: (string | undefined)[] = [];
  const owners = new Map<number, Ownership | Promise<Ownership>>();
  const watch = new OwnershipWatch({
    clock,
    owners: {
      judge: async (_, address) => (await owners.get("port" in address ? address.port : 0)) ?? { kind: "owned" },
    },
    judged: (_, whyNot) => verdicts.push(whyNot),
  });
  const pass = async (seconds: number) => {
    for (let second = 0; second < seconds; second++) {
      clock.pass(1000);
      await turn();
    }
    return verdicts.splice(0);
  };
  return { watch, owners, pass };
}

test("every five seconds a worker is judged, by the first address that is not its own", async () => {
  const { watch, owners, pass } = rig();
  watch.watch(WORKER, { leader: 100 }, ADDRESSES);
  assert.deepEqual(await pass(10), [undefined, undefined]);
  owners.set(81, { kind: "foreign", holder: "pid 7" });
  assert.deepEqual(await pass(5), ["pid 7 listens on 127.0.0.1:81 and is not a process of this worker"]);
  owners.set(80, { kind: "none" });
  assert.deepEqual(await pass(5), ["nothing listens on 127.0.0.1:80"]);
});

test("an owner that cannot be determined is no objection", async () => {
  const { watch, owners, pass } = rig();
  owners.set(80, { kind: "unknown", reason: "refused" });
  watch.watch(WORKER, { leader: 100 }, ADDRESSES);
  assert.deepEqual(await pass(5), [undefined]);
});

test("a worker that is forgotten during the inspection is not judged", async () => {
  const { watch, owners, pass } = rig();
  const inspection = Promise.withResolvers<Ownership>();
  owners.set(80, inspection.promise);
  watch.watch(WORKER, { leader: 100 }, ADDRESSES);
  assert.deepEqual(await pass(5), []);
  watch.forget(WORKER);
  inspection.resolve({ kind: "none" });
  assert.deepEqual(await pass(20), []);
});
