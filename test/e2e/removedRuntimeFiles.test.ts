/** After a cleaner of temporary files removed runtime files, the controller restores them without an operator. */
import assert from "node:assert/strict";
import { readdirSync, rmSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ControllerUnderTest } from "../support/controller.ts";
import { startLoad } from "../support/load.ts";
import { describeLoad } from "../support/loadReport.ts";
import { assertNoneFailed, commandOk, type ProxyPoolOptions, proxyPool, underTraffic } from "../support/traffic.ts";
import { happened, logged } from "../support/watch.ts";

/** A controller whose runtime directory is known. */
async function start(options: ProxyPoolOptions) {
  const parent = await mkdtempDisposable(join(tmpdir(), "mc-"));
  const { workers, target } = await proxyPool(options);
  const controller = await ControllerUnderTest.start({ workers, supervisor: `  runtime_dir: ${parent.path}` });
  await controller.ready();
  const [own] = readdirSync(parent.path);
  assert.ok(own !== undefined);
  return {
    controller,
    target,
    runtime: join(parent.path, own),
    async [Symbol.asyncDispose]() {
      await controller[Symbol.asyncDispose]();
      await parent.remove();
    },
  };
}

type Scene = Awaited<ReturnType<typeof start>>;

async function assertHealed({ controller, target }: Scene): Promise<void> {
  const fresh = await startLoad({ target, connections: 8, maxRequests: 200, isConnectionPerRequest: true }).finished;
  assert.equal(fresh.failed, 0, describeLoad(fresh));
  assertNoneFailed(await underTraffic(target, async () => void (await commandOk(controller, "restart", "web"))));
}

test("a removed runtime directory with worker sockets is restored", async () => {
  await using scene = await start({ replicas: 2, onUnixSockets: true });
  const { controller, runtime } = scene;
  rmSync(runtime, { recursive: true });
  await logged(controller, `${runtime}\\" was removed; created it again`, "tmpfiles.d");
  await happened(controller, "ready", ({ pool, incarnation }) => pool === "web-proxy" && incarnation === 2);
  await logged(controller, "the socket of web-0, web-1 was removed", "replacing the workers");
  await happened(controller, "operation_finished", ({ pool }) => pool === "web");
  await assertHealed(scene);
});

test("a removed directory of worker sockets is restored by a rolling replacement", async () => {
  await using scene = await start({ replicas: 2, onUnixSockets: true });
  const { controller, runtime } = scene;
  rmSync(join(runtime, "web", "w"), { recursive: true });
  const { done, total } = await happened(controller, "operation_finished", ({ pool }) => pool === "web");
  assert.deepEqual([done, total], [2, 2]);
  await assertHealed(scene);
});

test("after its endpoints directory is removed, Envoy is replaced and learns of new workers", async () => {
  await using scene = await start({ replicas: 2 });
  const { controller, runtime } = scene;
  rmSync(join(runtime, "web", "envoy", "endpoints"), { recursive: true });
  await logged(controller, "a directory that it watches was removed", "web-proxy");
  await happened(controller, "operation_finished", ({ pool }) => pool === "web-proxy");
  await assertHealed(scene);
});
