import assert from "node:assert/strict";
import { type TestContext, test } from "node:test";
import type { ExitStatus } from "../../core/exit.ts";
import { ExitHold } from "./exitHold.ts";

const TERM: ExitStatus = { kind: "signal", signal: "SIGTERM" };
const CRASH: ExitStatus = { kind: "signal", signal: "SIGSEGV" };

function rig(context: TestContext) {
  context.mock.timers.enable({ apis: ["setTimeout"] });
  const passed: string[] = [];
  const scene = { passed, isDoubtful: true };
  const hold = new ExitHold({
    listener: {
      exited: ({ slot }) => passed.push(`exited ${slot}`),
      vacated: ({ slot }) => passed.push(`vacated ${slot}`),
    },
    isDoubtful: () => scene.isDoubtful,
    stopSignalOf: () => "SIGTERM",
  });
  return Object.assign(scene, { hold });
}

test("an exit by the stop signal, and everything after it, is held until the controller knows of the shutdown", (context) => {
  const { hold, passed } = rig(context);
  hold.exited({ pool: 0, slot: 0, incarnation: 1 }, CRASH, false);
  hold.vacated({ pool: 0, slot: 0, incarnation: 1 });
  assert.deepEqual(passed.splice(0), ["exited 0", "vacated 0"]);
  hold.exited({ pool: 0, slot: 1, incarnation: 1 }, TERM, false);
  hold.exited({ pool: 0, slot: 2, incarnation: 1 }, CRASH, false);
  hold.vacated({ pool: 0, slot: 1, incarnation: 1 });
  assert.deepEqual(passed, []);
  hold.release();
  assert.deepEqual(passed, ["exited 1", "exited 2", "vacated 1"]);
});

test("a held exit is passed on after a second without a shutdown", (context) => {
  const { hold, passed } = rig(context);
  hold.exited({ pool: 0, slot: 1, incarnation: 1 }, TERM, false);
  context.mock.timers.tick(999);
  assert.deepEqual(passed, []);
  context.mock.timers.tick(1);
  assert.deepEqual(passed, ["exited 1"]);
});

test("without a signal to the whole service no exit is held", (context) => {
  const scene = rig(context);
  scene.isDoubtful = false;
  scene.hold.exited({ pool: 0, slot: 1, incarnation: 1 }, TERM, false);
  assert.deepEqual(scene.passed, ["exited 1"]);
});
