import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { test } from "node:test";
import { lives, until } from "../../../test/support/processScene.ts";

/** A controller with nothing but a guardian and one helper, whose pids it prints. */
const CONTROLLER = `
  import { Guardian } from "./src/runtime/process/guardian.ts";
  import { Processes } from "./src/runtime/process/processes.ts";
  const mark = process.pid + ".test";
  const guardian = new Guardian(mark);
  if (!guardian.start()) throw new Error("there is no shell");
  const nothing = () => {};
  const plan = { file: "/bin/sh", configured: new Set(), env: { PATH: "/usr/bin:/bin" }, rlimits: new Map() };
  const processes = new Processes({
    launchOf: () => ({ name: "web", plan, argsOf: () => [], envOf: () => ({}), captured: false }),
    attach: nothing,
    listener: { exited: nothing, vacated: nothing },
    guardian,
    log: { debug: nothing, info: nothing, warn: nothing, error: nothing },
    mark,
    nofileSoft: 1024,
  });
  const argv = ["sh", "-c", "trap '' TERM; sleep 1000 & wait"];
  const helper = processes.helpers.spawnHelper(
    { pool: 0, slot: 0, incarnation: 1, revision: 1, workerPid: 1, file: "/bin/sh", argv },
    nothing,
  );
  setImmediate(() => console.log(helper.pid, guardian.pid));
  setInterval(nothing, 1e6);
`;

test("a helper does not outlive a controller that was killed", async (context) => {
  const controller = spawn(process.execPath, ["--no-warnings", "--input-type=module", "-e", CONTROLLER]);
  context.after(() => controller.kill("SIGKILL"));
  const errors: string[] = [];
  controller.stderr.on("data", (chunk) => errors.push(String(chunk)));
  const [line] = await Promise.race([once(controller.stdout, "data"), once(controller, "exit").then(() => [""])]);
  const [helper, guardian] = String(line).trim().split(" ").map(Number);
  assert.ok(helper !== undefined && guardian !== undefined, errors.join(""));
  assert.equal(lives(helper), true);
  controller.kill("SIGKILL");
  await until(() => !lives(helper) && !lives(guardian), "helper and guardian are gone");
});
