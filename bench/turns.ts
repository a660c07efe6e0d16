/**
 * Measures the longest turn of the controller's event loop while a large pool starts, is restarted and stops, in
 * milliseconds of thread CPU: `node bench/turns.ts [WORKERS]`. It bundles the sources and runs them on the pinned runtime,
 * because a probe cannot be loaded into the executable.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as wait } from "node:timers/promises";
import { buildSync } from "esbuild";
import { BUNDLE_OPTIONS, HEAP_FLAGS } from "../scripts/buildOptions.mjs";
import { childrenOf } from "./measure.ts";

const ROOT = join(import.meta.dirname, "..");
const DEADLINE_MS = 120_000;

/** Longest turns in milliseconds of thread CPU. */
export interface LongestTurns {
  readonly start: number;
  readonly roll: number;
  readonly stop: number;
}

/** Runs a controller with `workers` sleeping workers in `dir`. @throws Error if it does not become ready or stop */
export async function measureTurns(dir: string, workers: number): Promise<LongestTurns> {
  const program = bundle(dir);
  const [config, socket, turns] = ["monoceros.yaml", "control.sock", "turns"].map((name) => join(dir, name));
  if (config === undefined || socket === undefined || turns === undefined) throw new Error("unreachable");
  const rolling = { max_surge: "10%", min_ready: "100ms" };
  const pool = { name: "sleeper", replicas: workers, exec: "sleep", args: ["100000"], rolling };
  writeFileSync(
    config,
    JSON.stringify({ admin: { port: 0, address: "127.0.0.1", socket }, supervisor: { workers: [pool] } }),
  );
  writeFileSync(turns, "");
  const child = spawn(
    process.execPath,
    ["--no-warnings", ...HEAP_FLAGS, "--import", join(import.meta.dirname, "turnProbe.mjs"), program, "-c", config],
    { cwd: dir, stdio: "ignore", env: { ...process.env, TURNS_FILE: turns } },
  );
  try {
    // The turn in which the program is loaded does not count, so wait for the first workers.
    await until(child, () => childrenOf(child.pid ?? 0).length > 10, "spawns workers");
    const startedAt = Date.now();
    await until(child, () => childrenOf(child.pid ?? 0).length >= workers, "runs all workers");
    await until(child, () => existsSync(socket), "listens");
    await wait(8000);
    const rollAt = Date.now();
    const roll = spawn(process.execPath, ["--no-warnings", program, "restart", "sleeper", "--socket", socket], {
      stdio: "ignore",
    });
    const [code] = await once(roll, "exit");
    if (code !== 0) throw new Error(`restart exited with ${code}`);
    await wait(2000);
    const stopAt = Date.now();
    child.kill("SIGTERM");
    await once(child, "exit");
    const longest = (from: number, to: number) => {
      // A turn that began before `from` belongs to the previous phase.
      const found = readTurns(turns).filter(({ at, ms }) => at - ms >= from && at < to);
      return Math.max(0, ...found.map(({ ms }) => ms));
    };
    return {
      start: longest(startedAt, rollAt),
      roll: longest(rollAt, stopAt),
      stop: longest(stopAt, Number.POSITIVE_INFINITY),
    };
  } finally {
    child.kill("SIGKILL");
  }
}

function bundle(dir: string): string {
  const outfile = join(dir, "monoceros.cjs");
  buildSync({
    entryPoints: [join(ROOT, "src", "main.ts")],
    outfile,
    ...BUNDLE_OPTIONS,
    define: {
      MONOCEROS_VERSION: '"0.0.0"',
      MONOCEROS_COMMIT: '"turns"',
      "import.meta.dirname": JSON.stringify(join(ROOT, "src", "runtime", "process")),
    },
    logLevel: "error",
  });
  return outfile;
}

function readTurns(file: string): { at: number; ms: number }[] {
  return readFileSync(file, "utf8")
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const [at = 0, ms = 0] = line.split(" ").map(Number);
      return { at, ms };
    });
}

async function until(child: ChildProcess, isTrue: () => boolean, action: string): Promise<void> {
  for (const deadline = Date.now() + DEADLINE_MS; !isTrue(); await wait(20)) {
    if (child.exitCode !== null) throw new Error(`the controller exited with ${child.exitCode} before it ${action}`);
    if (Date.now() > deadline)
      throw new Error(`timed out after ${DEADLINE_MS / 1000} s waiting until the controller ${action}`);
  }
}

if (process.argv[1] === import.meta.filename) {
  spawnSync("sync");
  const dir = mkdtempSync(join(tmpdir(), "monoceros-turns-"));
  try {
    const { start, roll, stop } = await measureTurns(dir, Number(process.argv[2] ?? 1500));
    const [first, second, third] = [start, roll, stop].map((ms) => ms.toFixed(1));
    console.log(`longest turn, ms of thread CPU: start ${first}, roll ${second}, stop ${third}`);
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
