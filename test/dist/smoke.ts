/**
 * What every installation must do: print its version, validate a configuration, serve through a proxied pool (or a shared
 * socket if the package has no Envoy), report its status, restart all workers under load without a failed request, and
 * stop without leaving a process. The load is bounded and stays on loopback.
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Status } from "../../src/admin/api.ts";
import { poolOf } from "../support/controller.ts";
import { startLoad } from "../support/load.ts";
import { freePorts } from "../support/ports.ts";
import { type Installation, InstalledController, inside, runIn, VERSION, workerOf } from "./installation.ts";

const LOAD = { connections: 4, durationMs: 60_000, maxRequests: 20_000, pauseMs: [2, 5] } as const;

/** `upgrade` runs while the controller serves. */
export async function smoke(
  installation: Installation,
  upgrade?: (controller: InstalledController) => Promise<void>,
): Promise<void> {
  await using tmp = await mkdtempDisposable(join(tmpdir(), "monoceros-smoke-"));
  const { program, hasEnvoy } = installation;
  const config = `${inside(installation, tmp.path)}/config.yaml`;
  const port = await freePorts(5);
  writeFileSync(join(tmp.path, "config.yaml"), configuration(installation, tmp.path, port));

  const version = runIn(installation, tmp.path, [program, "version"]);
  assert.equal(version.code, 0, version.stderr);
  assert.ok(version.stdout.startsWith(`monoceros ${VERSION}`), version.stdout);
  const validate = runIn(installation, tmp.path, [program, "validate", "-c", config]);
  assert.equal(validate.code, 0, validate.stderr);

  await using controller = new InstalledController(installation, tmp.path);
  await controller.logged("controller is ready");
  const status = async () => JSON.parse(await controller.run([program, "status", "--json", "-c", config])) as Status;
  const before = await status();
  assert.equal(before.pid, installation.root === undefined ? controller.pid : 1);

  const target = { host: "127.0.0.1", port };
  // A connection that waits at a shared socket is kept; one that a stopping worker keeps alive is not.
  using load = startLoad({ ...LOAD, target, isConnectionPerRequest: !hasEnvoy });
  await load.reached(20);
  if (upgrade !== undefined) await upgrade(controller);
  await controller.run([program, "restart", "web", "-c", config]);
  const after = await status();
  const report = await load.stop();
  assert.deepEqual(report.failures, []);
  assert.equal(after.pid, before.pid);
  assert.equal(pidsOf(before).filter((pid) => pidsOf(after).includes(pid)).length, 0, "every worker was replaced");
  assert.equal(await controller.stop(), 0, controller.stderr.join("\n"));
}

/** Processes of the workers, without Envoy. */
function pidsOf({ pools }: Status): number[] {
  return pools.filter(({ name }) => name === "web").flatMap(({ workers }) => workers.flatMap(({ pid }) => pid ?? []));
}

function configuration(installation: Installation, directory: string, port: number): string {
  const web = { name: "web", replicas: 2, exec: workerOf(installation), rolling: { min_ready: "0s" } };
  const pool = installation.hasEnvoy
    ? {
        ...web,
        server: {
          port_arg: { name: "--port", start_port: port + 1 },
          listener_port: port,
          listener_address: "127.0.0.1",
          health_check_path: "/healthz",
        },
      }
    : { ...web, args: ["--fd", "{{.Fd}}"], sockets: [{ name: "http", listen: `127.0.0.1:${port}` }] };
  return `admin: { port: 0, address: 127.0.0.1, socket: ${inside(installation, directory)}/control.sock }
supervisor:
  workers:
${poolOf(pool)}
`;
}
