/** The compared systems: Monoceros in each of its traffic modes, and peers, with equivalent workers. */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, openSync, readlinkSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { basename, join } from "node:path";
import type { LoadTarget } from "../../test/support/load.ts";
import { freePorts } from "../../test/support/ports.ts";
import { descendantsOf, nameOf, pause, pollUntil, privateDirtyMb } from "../measure.ts";

const ROOT = join(import.meta.dirname, "..", "..");
const MONOCEROS = process.env["MONOCEROS"] ?? join(ROOT, "dist", "monoceros");
const PROCESSBIN = join(ROOT, "dist", "processbin");
const PM2_DIR = join(ROOT, "bench", "peers", "pm2", "node_modules");
const PYTHON_BIN = join(ROOT, "node_modules", ".tools", "venv", "bin");
const GUNICORN = join(PYTHON_BIN, "gunicorn");
const UVICORN = join(PYTHON_BIN, "uvicorn");
const READY_DEADLINE_MS = 30_000;
const STOP_DEADLINE_MS = 20_000;

/** The workers of one measurement. */
export interface Workload {
  /** An empty directory. */
  readonly dir: string;
  readonly replicas: number;
  /** Arguments of processbin. */
  readonly args?: readonly string[];
  /** More keys of the pool; only for Monoceros. */
  readonly more?: Readonly<Record<string, unknown>>;
}

/** A system that serves requests. */
export interface Running {
  readonly target: LoadTarget;
  /** Path of a request that takes `ms` milliseconds without blocking the worker. */
  readonly sleepPath: (ms: number) => string;
  /** Replaces all workers. Resolves when that is done, and rejects if it failed. */
  readonly replaceAll: () => Promise<void>;
  /** Process ids of the workers. */
  readonly workerPids: () => readonly number[];
  /** Private dirty memory of Envoy in MB; undefined if there is none. */
  readonly proxyMemoryMb: () => number | undefined;
  readonly stop: () => void;
}

export interface System {
  readonly name: string;
  readonly title: string;
  /** Why the system cannot be measured; undefined if it can. */
  readonly missing: () => string | undefined;
  readonly start: (workload: Workload) => Promise<Running>;
}

type PoolKeys = Readonly<Record<string, unknown>>;

function monoceros(name: string, title: string, pool: (port: number, args: readonly string[]) => PoolKeys): System {
  return {
    name,
    title,
    missing: () => (existsSync(MONOCEROS) && existsSync(PROCESSBIN) ? undefined : "not built"),
    start: async ({ dir, replicas, args = [], more = {} }) => {
      const port = await freePorts(2 * replicas + 10);
      const socket = join(dir, "control.sock");
      const config = join(dir, "monoceros.yaml");
      const keys = { name: "web", replicas, exec: PROCESSBIN, startup_wait_time: "0s", ...pool(port, args), ...more };
      writeFileSync(
        config,
        // JSON is YAML.
        JSON.stringify({
          admin: { port: 0, address: "127.0.0.1", socket },
          supervisor: { runtime_dir: join(dir, "run"), workers: [keys] },
        }),
      );
      const child = launch(MONOCEROS, ["-c", config], dir);
      const pid = pidOf(child);
      const running = (program: string) => descendantsOf(pid).filter((each) => programOf(each) === program);
      try {
        await untilAnswered(child, { port }, "/readyz", dir);
        pause(500);
      } catch (error) {
        end(child);
        throw error;
      }
      return {
        target: { port },
        sleepPath: (ms) => `/sleep?ms=${ms}`,
        replaceAll: () => run(MONOCEROS, ["restart", "web", "--socket", socket]),
        workerPids: () => running("processbin"),
        proxyMemoryMb: () => {
          const envoys = running("envoy");
          return envoys.length === 0 ? undefined : privateDirtyMb(envoys);
        },
        stop: () => end(child),
      };
    },
  };
}

/** Monoceros with uvicorn workers (examples/servers/asgi.py). `listen` configures their socket. */
function uvicorn(
  name: string,
  title: string,
  listen: (port: number) => { readonly args: readonly unknown[]; readonly sockets?: readonly unknown[] },
): System {
  const system = monoceros(name, title, (port) => {
    const { args, ...pool } = listen(port);
    const app = ["--no-access-log", "--app-dir", join(ROOT, "examples", "servers"), "asgi:app"];
    return { exec: UVICORN, args: [...args, ...app], ...pool };
  });
  return {
    ...system,
    missing: () => (existsSync(UVICORN) ? system.missing() : "uvicorn is not installed (scripts/exampleServers.sh)"),
    start: async (workload) => ({ ...(await system.start(workload)), sleepPath: (ms) => `/?ms=${ms}` }),
  };
}

function proxy(algorithm: string) {
  return (port: number, args: readonly string[]): PoolKeys => ({
    args: ["--host", "127.0.0.1", ...args],
    rolling: NO_MIN_READY,
    server: {
      port_arg: { name: "--port", value_template: "{{.Port}}", start_port: port + 1 },
      listener_address: "127.0.0.1",
      listener_port: port,
      load_balancer_algorithm: algorithm,
    },
  });
}

/** PM2 in cluster mode and gunicorn, which run the servers in examples/servers/. */
function peer(
  name: string,
  title: string,
  missing: () => string | undefined,
  start: (
    workload: Workload,
    port: number,
  ) => { readonly child: ChildProcess; readonly replaceAll: () => Promise<void> },
): System {
  return {
    name,
    title,
    missing,
    start: async (workload) => {
      const port = await freePorts(1);
      const { child, replaceAll } = start(workload, port);
      try {
        await untilAnswered(child, { port }, "/healthz", workload.dir);
        pause(1000);
      } catch (error) {
        end(child);
        throw error;
      }
      return {
        target: { port },
        sleepPath: (ms) => `/?ms=${ms}`,
        replaceAll,
        workerPids: () => [],
        proxyMemoryMb: () => undefined,
        stop: () => end(child),
      };
    },
  };
}

/** Without probes a successor must serve for 5 s by default, so a rolling restart would take minutes. */
const QUICK_ROLL = { min_ready: "1s" };

/** Behind a proxy probes decide about readiness. By default a rollout waits 5 s once, for its first new worker. */
const NO_MIN_READY = { min_ready: "0s" };

/** All systems, Monoceros first. */
export const SYSTEMS: readonly System[] = [
  monoceros("reuseport", "Monoceros, SO_REUSEPORT", (port, args) => ({
    args: ["--host", "127.0.0.1", "--port", port, "--reuseport", ...args],
    rolling: QUICK_ROLL,
  })),
  monoceros("shared", "Monoceros, shared socket", (port, args) => ({
    args,
    rolling: QUICK_ROLL,
    sockets: [{ name: "http", listen: `127.0.0.1:${port}` }],
  })),
  monoceros("proxy-rr", "Monoceros, Envoy ROUND_ROBIN", proxy("ROUND_ROBIN")),
  monoceros("proxy-lr", "Monoceros, Envoy LEAST_REQUEST", proxy("LEAST_REQUEST")),
  uvicorn("uvicorn-shared", "Monoceros, shared socket, uvicorn --fd", (port) => ({
    args: ["--fd", "{{.Fd}}"],
    sockets: [{ name: "http", listen: `127.0.0.1:${port}` }],
  })),
  uvicorn("uvicorn-port", "Monoceros, uvicorn --port", (port) => ({
    args: ["--host", "127.0.0.1", "--port", port],
  })),
  peer(
    "pm2",
    "PM2 7 cluster, reload",
    () => (existsSync(join(PM2_DIR, "pm2")) ? undefined : "PM2 is not installed (make bench installs it)"),
    ({ dir, replicas }, port) => {
      const config = join(dir, "ecosystem.json");
      const script = join(import.meta.dirname, "pm2Server.mjs");
      const app = {
        name: "web",
        script,
        env: { SERVER_PORT: String(port) },
        exec_mode: "cluster",
        instances: replicas,
      };
      writeFileSync(config, JSON.stringify({ apps: [app] }));
      const env = { PM2_HOME: join(dir, "pm2"), PM2_DISCRETE_MODE: "true" };
      const child = launch(
        process.execPath,
        [join(PM2_DIR, ".bin", "pm2-runtime"), "start", config, "--raw"],
        dir,
        env,
      );
      const args = [join(PM2_DIR, ".bin", "pm2"), "reload", "web"];
      return { child, replaceAll: () => run(process.execPath, args, env) };
    },
  ),
  peer(
    "gunicorn",
    "gunicorn 27, HUP",
    () => (existsSync(GUNICORN) ? undefined : "gunicorn is not installed (scripts/exampleServers.sh)"),
    ({ dir, replicas }, port) => {
      const app = ["--chdir", join(ROOT, "examples", "servers"), "--no-control-socket", "wsgi:app"];
      const args = ["--bind", `127.0.0.1:${port}`, "--workers", String(replicas), "--threads", "8", ...app];
      const child = launch(GUNICORN, args, dir);
      const pid = pidOf(child);
      return {
        child,
        replaceAll: async () => {
          const before = descendantsOf(pid);
          child.kill("SIGHUP");
          const isReplaced = (): boolean => {
            const now = descendantsOf(pid);
            return now.length >= replicas && !now.some((each) => before.includes(each));
          };
          // Not pollUntil, which would block the thread that reads the loads' output.
          for (const until = performance.now() + READY_DEADLINE_MS; !isReplaced(); ) {
            if (performance.now() > until) throw new Error("gunicorn did not replace its workers");
            await sleep(20);
          }
        },
      };
    },
  ),
];

function sleep(ms: number): Promise<void> {
  return new Promise((wake) => setTimeout(wake, ms));
}

function launch(
  program: string,
  args: readonly string[],
  dir: string,
  env: Readonly<Record<string, string>> = {},
): ChildProcess {
  mkdirSync(dir, { recursive: true });
  const stdout = openSync(join(dir, "stdout"), "a");
  const stderr = openSync(join(dir, "stderr"), "a");
  const child = spawn(program, args, {
    cwd: dir,
    stdio: ["ignore", stdout, stderr],
    env: { ...process.env, ...env },
    detached: true,
  });
  // An interrupted run must leave no process behind.
  const onExit = (): void => end(child);
  process.once("exit", onExit);
  child.once("exit", () => process.off("exit", onExit));
  return child;
}

/** The name of the executable, because the kernel's name of a Node.js process is that of its thread. */
function programOf(pid: number): string | undefined {
  try {
    return basename(readlinkSync(`/proc/${pid}/exe`));
  } catch {
    return undefined;
  }
}

function pidOf(child: ChildProcess): number {
  if (child.pid === undefined) throw new Error(`cannot start ${child.spawnfile}`);
  return child.pid;
}

/** Ends a process and its descendants, by pid. */
function end(child: ChildProcess): void {
  const pid = pidOf(child);
  const family = new Map(descendantsOf(pid).map((member) => [member, nameOf(member)]));
  child.kill("SIGTERM");
  if (pollUntil(() => nameOf(pid) === undefined, STOP_DEADLINE_MS, 5) === undefined) child.kill("SIGKILL");
  for (const [member, name] of family) {
    // The pid may have been reused by another program.
    if (name !== undefined && nameOf(member) === name) process.kill(member, "SIGKILL");
  }
}

async function run(
  program: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<void> {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], env: { ...process.env, ...env } });
  let text = "";
  for (const stream of [child.stdout, child.stderr])
    stream.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
  const code = await new Promise<number | null>((done, fail) => {
    child.on("close", done);
    child.on("error", fail);
  });
  if (code !== 0) throw new Error(`${program} ${args.join(" ")} exited with ${code}: ${text.trim()}`);
}

async function untilAnswered(
  child: ChildProcess,
  target: { readonly port: number },
  path: string,
  dir: string,
): Promise<void> {
  for (const until = performance.now() + READY_DEADLINE_MS; ; ) {
    if (child.exitCode !== null || performance.now() > until) {
      const { stdout } = spawnSync("tail", ["-n", "3", join(dir, "stderr")], { encoding: "utf8" });
      throw new Error(`${child.spawnfile} does not serve: ${stdout.trim()}`);
    }
    if ((await statusOf(target.port, path)) === 200) return;
    await sleep(50);
  }
}

function statusOf(port: number, path: string): Promise<number | undefined> {
  return new Promise((done) => {
    get({ host: "127.0.0.1", port, path, agent: false, timeout: 1000 }, (response) => {
      response.resume();
      response.on("end", () => done(response.statusCode));
      response.on("error", () => done(undefined));
    })
      .on("timeout", () => done(undefined))
      .on("error", () => done(undefined));
  });
}
