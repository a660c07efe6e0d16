/** The actions of a chaos run on a controller, its workers and its proxies. Each one excuses what may fail because of it. */
import { readdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { guardianOf } from "../support/watch.ts";
import { changed, MAX_REPLICAS, POOLS, type PoolName, PROXIED } from "./pools.ts";
import { askWorker, type Scene } from "./scene.ts";

export interface Action {
  readonly name: string;
  /** Relative probability. */
  readonly weight: number;
  /** Whether it ends the controller. */
  readonly endsLife?: boolean;
  /** Performs the action, notes it in the history, and waits until affected pools have recovered. */
  readonly run: (scene: Scene) => Promise<void>;
}

const pause = (ms: number) => new Promise<void>((wake) => setTimeout(wake, ms));

function signal(pid: number, name: NodeJS.Signals): boolean {
  try {
    return process.kill(pid, name);
  } catch {
    return false;
  }
}

/** Picks a worker of one of the pools, calls `hit`, and waits for its exit. Requests that wait for it may fail. */
async function hitWorker(
  scene: Scene,
  pools: readonly PoolName[],
  what: string,
  hit: (pid: number) => unknown,
  isDoomed = true,
): Promise<void> {
  const { life } = scene;
  const pool = scene.random.pick(pools);
  const worker = await life.pickWorker(pool);
  if (worker === undefined) return;
  scene.note(`${what} ${worker.key} (pid ${worker.pid})`);
  const release = scene.excuse([pool], `${what} ${worker.key}`);
  life.touch(worker.key, isDoomed);
  await hit(worker.pid);
  await scene.until(() => life.exited.has(worker.key), `${worker.key} exits after ${what}`);
  // The exit may make an operation of the pool fail.
  life.touch(worker.key, isDoomed);
  release();
}

/** Suspends a process for a time in which no request may fail. */
async function freeze(pid: number, ms: number): Promise<void> {
  signal(pid, "SIGSTOP");
  try {
    await pause(ms);
  } finally {
    signal(pid, "SIGCONT");
  }
}

async function proxyOf(scene: Scene, pool: PoolName): Promise<{ pid: number; key: string } | undefined> {
  const { pools } = await scene.life.status();
  const worker = pools.find(({ fronts }) => fronts === pool)?.workers[0];
  if (worker === undefined || worker.pid === null || worker.phase !== "ready") return undefined;
  return { pid: worker.pid, key: `${worker.id}.${worker.incarnation}` };
}

async function endProxy(scene: Scene, what: string, hit: (pid: number) => unknown): Promise<void> {
  const { life } = scene;
  const pool = scene.random.pick(PROXIED);
  const proxy = await proxyOf(scene, pool);
  if (proxy === undefined) return;
  scene.note(`${what} ${proxy.key} (pid ${proxy.pid})`);
  const release = scene.excuse([pool], `${what} ${proxy.key}`, true);
  life.touch(proxy.key, true);
  life.touchPool(pool);
  hit(proxy.pid);
  await scene.until(() => life.exited.has(proxy.key), `${proxy.key} exits after ${what}`);
  await scene.well();
  life.touchPool(pool);
  release();
}

/** In half of the cases, waits for the end of operations; otherwise they overlap with the next action. */
async function perhapsUntilEnded(scene: Scene, ids: readonly (string | undefined)[]): Promise<void> {
  if (scene.random.chance(0.5)) return;
  const { operations } = scene.life;
  await scene.until(() => ids.every((id) => id === undefined || !operations.has(id)), "the operation ends", 120_000);
}

export const ACTIONS: readonly Action[] = [
  {
    name: "SIGKILL of a worker",
    weight: 10,
    run: (scene) => hitWorker(scene, POOLS, "SIGKILL of", (pid) => signal(pid, "SIGKILL")),
  },
  {
    name: "SIGTERM of a worker",
    weight: 4,
    run: (scene) => hitWorker(scene, POOLS, "SIGTERM of", (pid) => signal(pid, "SIGTERM"), false),
  },
  {
    name: "abort of a worker",
    weight: 3,
    run: (scene) => hitWorker(scene, POOLS, "SIGABRT of", (pid) => signal(pid, "SIGABRT")),
  },
  {
    name: "crash of a worker",
    weight: 4,
    run: (scene) => hitWorker(scene, PROXIED, "exit of", (pid) => askWorker(pid, "/exit?code=3")),
  },
  {
    name: "suspension of a worker until its liveness fails",
    weight: 3,
    run: (scene) => hitWorker(scene, PROXIED, "SIGSTOP of", (pid) => signal(pid, "SIGSTOP")),
  },
  {
    name: "a worker that hangs",
    weight: 3,
    run: (scene) =>
      hitWorker(scene, PROXIED, "hang of", (pid) => askWorker(pid, scene.random.pick(["/hang", "/spin"]))),
  },
  {
    name: "a worker whose memory grows",
    weight: 3,
    run: (scene) => hitWorker(scene, PROXIED, "growth of", (pid) => askWorker(pid, "/grow?mb=250"), false),
  },
  {
    name: "short suspension of a worker",
    weight: 4,
    run: async (scene) => {
      const worker = await scene.life.pickWorker(scene.random.pick(POOLS));
      if (worker === undefined) return;
      scene.note(`short SIGSTOP of ${worker.key}`);
      await freeze(worker.pid, scene.random.between(50, 1000));
    },
  },
  {
    name: "SIGKILL of an Envoy",
    weight: 3,
    run: (scene) => endProxy(scene, "SIGKILL of", (pid) => signal(pid, "SIGKILL")),
  },
  {
    name: "suspension of an Envoy until its liveness fails",
    weight: 1,
    run: (scene) => endProxy(scene, "SIGSTOP of", (pid) => signal(pid, "SIGSTOP")),
  },
  {
    name: "short suspension of an Envoy",
    weight: 2,
    run: async (scene) => {
      const proxy = await proxyOf(scene, scene.random.pick(PROXIED));
      if (proxy === undefined) return;
      scene.note(`short SIGSTOP of ${proxy.key}`);
      await freeze(proxy.pid, scene.random.between(50, 800));
    },
  },
  {
    name: "SIGTERM of an Envoy",
    weight: 1,
    run: async (scene) => {
      const proxy = await proxyOf(scene, scene.random.pick(PROXIED));
      if (proxy === undefined) return;
      scene.note(`SIGTERM of ${proxy.key}, which it ignores`);
      signal(proxy.pid, "SIGTERM");
    },
  },
  {
    name: "restart of a pool",
    weight: 5,
    run: async (scene) => {
      const pool = scene.random.pick(POOLS);
      scene.note(`restart of ${pool}`);
      await perhapsUntilEnded(scene, [await scene.life.order(pool, `/v1/pools/${pool}/restart`)]);
    },
  },
  {
    name: "restart of a worker",
    weight: 4,
    run: async (scene) => {
      const pool = scene.random.pick(POOLS);
      const worker = await scene.life.pickWorker(pool);
      if (worker === undefined) return;
      scene.note(`restart of ${worker.key}`);
      await perhapsUntilEnded(scene, [await scene.life.order(pool, `/v1/workers/${worker.id}/restart`)]);
    },
  },
  {
    name: "scaling",
    weight: 6,
    run: async (scene) => {
      const pool = scene.random.pick(POOLS);
      const replicas = scene.random.between(2, MAX_REPLICAS);
      scene.note(`scale of ${pool} to ${replicas}`);
      const id = await scene.life.order(pool, `/v1/pools/${pool}/scale`, JSON.stringify({ replicas }));
      if (id !== undefined) scene.plan(pool, { ...scene.plans[pool], replicas });
      await perhapsUntilEnded(scene, [id]);
    },
  },
  {
    name: "reload of a valid change",
    weight: 8,
    run: async (scene) => {
      const pools = POOLS.filter(() => scene.random.chance(0.4));
      for (const pool of pools) scene.plan(pool, changed(scene.plans[pool], pool, scene.random));
      const keys = pools.map((pool) => `${pool} ${JSON.stringify(scene.plans[pool])}`);
      scene.note(`reload: ${keys.length === 0 ? "nothing changed" : keys.join("; ")}`);
      const { operations } = await scene.life.reload(false);
      await perhapsUntilEnded(
        scene,
        operations.map(({ id }) => id),
      );
    },
  },
  {
    name: "reload of workers that crash",
    weight: 2,
    run: async (scene) => {
      await scene.calm();
      const pool = scene.random.pick(POOLS);
      const good = scene.plans[pool];
      scene.note(`reload of ${pool} to workers that crash`);
      scene.plan(pool, { ...good, keys: { ...good.keys, exec: "/bin/false" } });
      const { life } = scene;
      life.badPool = pool;
      const { operations } = await life.reload(false, true);
      await scene.until(() => operations.every(({ id }) => !life.operations.has(id)), "the bad reload ends", 120_000);
      scene.plan(pool, good);
      await life.reload(false);
      await scene.calm();
      life.badPool = undefined;
    },
  },
  {
    name: "reload of an invalid file",
    weight: 2,
    run: async (scene) => {
      const { controller } = scene.life;
      scene.note("reload of an invalid file");
      controller.configure({
        workers: `    - { name: web, exec: /nowhere, replicas: ${scene.random.between(-5, 0)} }`,
      });
      const { status, body } = await controller.call("POST", "/v1/reload", { "content-length": "2" }, "{}");
      if (status < 400) scene.problem(`an invalid file was accepted: ${body}`);
    },
  },
  {
    name: "stop and start of a worker",
    weight: 3,
    run: async (scene) => {
      const { life } = scene;
      await scene.calm();
      const pool = scene.random.pick(POOLS);
      const worker = await life.pickWorker(pool);
      if (worker === undefined) return;
      scene.note(`stop and start of ${worker.key}`);
      const stopped = await life.order(pool, `/v1/workers/${worker.id}/stop`);
      await scene.until(() => stopped === undefined || !life.operations.has(stopped), "the stop ends");
      await pause(scene.random.between(0, 2000));
      const started = await life.order(pool, `/v1/workers/${worker.id}/start`);
      await scene.until(() => started === undefined || !life.operations.has(started), "the start ends");
    },
  },
  {
    name: "stdout is not read",
    weight: 2,
    run: async (scene) => {
      const { life } = scene;
      const ms = scene.random.between(200, 2000);
      scene.note(`stdout is not read for ${ms} ms`);
      life.controller.child.stdout?.pause();
      await pause(ms);
      life.controller.child.stdout?.resume();
    },
  },
  {
    name: "suspension of the controller",
    weight: 2,
    run: async (scene) => {
      const ms = scene.random.between(100, 3000);
      scene.note(`SIGSTOP of the controller for ${ms} ms`);
      await freeze(scene.life.controller.pid, ms);
    },
  },
  {
    name: "SIGKILL of the guardian",
    weight: 1,
    run: async (scene) => {
      const { controller } = scene.life;
      const guardian = guardianOf(controller.pid);
      if (guardian === undefined) return;
      scene.note("SIGKILL of the guardian");
      signal(guardian, "SIGKILL");
      await scene.until(() => (guardianOf(controller.pid) ?? guardian) !== guardian, "another guardian");
    },
  },
  {
    name: "the runtime directory is removed",
    weight: 1,
    run: async (scene) => {
      await scene.calm();
      const { life } = scene;
      const { pools } = await life.status();
      // Envoy processes lose the files that they watch, and workers on Unix sockets lose their socket.
      const affected = pools
        .filter(({ name, role }) => role === "proxy" || name === "sockets")
        .flatMap(({ workers }) =>
          workers.filter(({ pid }) => pid !== null).map(({ id, incarnation }) => `${id}.${incarnation}`),
        );
      scene.note(`removal of the runtime directory, used by ${affected.join(", ")}`);
      const release = scene.excuse(PROXIED, "removal of the runtime directory", true);
      for (const key of affected) life.touch(key, true);
      for (const pool of PROXIED) life.touchPool(pool);
      // A worker that is about to bind its socket fails and exits.
      life.badPool = "sockets";
      for (const name of readdirSync(life.temporary)) rmSync(join(life.temporary, name), { recursive: true });
      await scene.until(
        () => affected.every((key) => life.exited.has(key)),
        "processes that lost their files are replaced",
      );
      await scene.well();
      life.badPool = undefined;
      release();
    },
  },
  {
    name: "SIGKILL of the controller",
    weight: 3,
    endsLife: true,
    run: (scene) => replaceController(scene, "SIGKILL"),
  },
  {
    name: "SIGTERM of the controller",
    weight: 1,
    endsLife: true,
    run: (scene) => replaceController(scene, "SIGTERM"),
  },
];

/** Ends the controller and starts the next one. */
async function replaceController(scene: Scene, name: "SIGTERM" | "SIGKILL"): Promise<void> {
  scene.note(`${name} of the controller`);
  const release = scene.excuse(POOLS, `${name} of the controller`, true);
  await scene.end(name);
  await scene.start();
  release();
}
