import assert from "node:assert/strict";
import { test } from "node:test";
import { parseConfig } from "../../config/load.ts";
import type { Slot } from "../../core/identity.ts";
import type { LaunchPlan } from "../../runtime/process/launch.ts";
import type { RuntimeDirectory } from "./runtimeDirectory.ts";
import { WorkerPlaces } from "./workerPlaces.ts";

/** Arguments and PORT of the worker in slot 2. */
function argsAndPort(pool: string): { args: readonly string[]; port: string | undefined } {
  const parsed = parseConfig(`supervisor: {workers: [{name: web, exec: x, ${pool}}]}`, "c.yaml", {});
  const config = parsed.ok ? parsed.config.supervisor.pools[0] : undefined;
  assert.ok(config !== undefined, JSON.stringify(parsed));
  const places = new WorkerPlaces(config, {} as LaunchPlan, () => assert.fail("ports need no directory"));
  return { args: places.argsOf(2 as Slot), port: places.envOf(2 as Slot)["PORT"] };
}

test("start_port without port_arg sets PORT and adds no argument", () => {
  assert.deepEqual(argsAndPort("args: [server.js], server: {start_port: 9100}"), { args: ["server.js"], port: "9102" });
  assert.deepEqual(argsAndPort('args: [app, "-p{{.Port}}"], server: {start_port: 9100}'), {
    args: ["app", "-p9102"],
    port: "9102",
  });
});

test("port_arg prepends its name and value to the arguments, or only the value if it has no name", () => {
  const portArg = (keys: string) => argsAndPort(`args: [app], server: {port_arg: {${keys}, start_port: 9100}}`);
  assert.deepEqual(portArg("name: --port").args, ["--port", "9102", "app"]);
  assert.deepEqual(portArg('value_template: "--port={{.Port}}"'), { args: ["--port=9102", "app"], port: "9102" });
});

test("socket_env sets a variable and {{.Socket}}, and adds no argument", () => {
  const parsed = parseConfig(
    'supervisor: {workers: [{name: web, exec: x, args: [app, "unix:{{.Socket}}"], server: {socket_env: UDS}}]}',
    "c.yaml",
    {},
  );
  const config = parsed.ok ? parsed.config.supervisor.pools[0] : undefined;
  assert.ok(config !== undefined, JSON.stringify(parsed));
  const runtime = { directory: (parts: readonly string[]) => `/run/m/${parts.join("/")}` } as RuntimeDirectory;
  const places = new WorkerPlaces(config, {} as LaunchPlan, () => runtime);
  assert.deepEqual(places.argsOf(2 as Slot), ["app", "unix:/run/m/web/w/2.sock"]);
  assert.deepEqual(places.envOf(2 as Slot), { UDS: "/run/m/web/w/2.sock" });
});
