import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "../../config/load.ts";
import type { Slot } from "../../core/identity.ts";
import type { LaunchPlan } from "../../runtime/process/launch.ts";
import { WorkerPlaces } from "./workerPlaces.ts";

/** Arguments and PORT of the worker of slot 2. */
function placed(pool: string): { args: readonly string[]; port: string | undefined } {
  const parsed = parseConfig(`supervisor: {workers: [{name: web, exec: x, ${pool}}]}`, "c.yaml", {});
  const config = parsed.ok ? parsed.config.supervisor.pools[0] : undefined;
  assert.ok(config !== undefined, JSON.stringify(parsed));
  const places = new WorkerPlaces(config, {} as LaunchPlan, () => assert.fail("ports need no directory"));
  return { args: places.argsOf(2 as Slot), port: places.envOf(2 as Slot)["PORT"] };
}

test("start_port alone adds no argument: an interpreter's script stays first", () => {
  assert.deepEqual(placed("args: [server.js], server: {start_port: 9100}"), { args: ["server.js"], port: "9102" });
  assert.deepEqual(placed('args: [app, "-p{{.Port}}"], server: {start_port: 9100}'), {
    args: ["app", "-p9102"],
    port: "9102",
  });
});

test("port_arg puts its name and value before the arguments, without a name only the value", () => {
  const portArg = (keys: string) => placed(`args: [app], server: {port_arg: {${keys}, start_port: 9100}}`);
  assert.deepEqual(portArg("name: --port").args, ["--port", "9102", "app"]);
  assert.deepEqual(portArg('value_template: "--port={{.Port}}"'), { args: ["--port=9102", "app"], port: "9102" });
});
