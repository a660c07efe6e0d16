/**
 * Runs a stage of tests: `unit` (in memory: beside their files, simulation, architecture, docs), `process` (single files
 * with real processes), `system` (conformance, integration, fault and e2e with the real executable), `container` (the
 * executable as PID 1 of real containers), `cgroup2` (in a virtual machine with control groups of version 2) or `dist` (each
 * package of dist/release, installed). Prints the output of the test runner and exits with its code.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { globSync, readFileSync } from "node:fs";

/** Files that start processes or wait for sockets, so they are not unit tests. */
const WITH_PROCESSES = [
  "src/runtime/**/*.test.ts",
  "src/logs/logs.test.ts",
  "src/*.test.ts",
  "src/admin/http/server.test.ts",
  "src/controller/report/workerScraper.test.ts",
  "src/cli/cli.test.ts",
  "cmd/**/*.test.ts",
  "scripts/**/*.test.ts",
  "test/support/*.test.ts",
  "test/fuzz/*.test.ts",
];

/** Simulation tests that take too long for every commit. */
const LONG = ["test/simulation/long.test.ts"];

/**
 * Time limit of a test file, after which it is killed. The test runner's own limit needs the file's event loop, which a
 * synchronous call may block. The longest file takes less than two minutes.
 */
const FILE_LIMIT_MS = 600_000;

interface Group {
  readonly files: readonly string[];
  readonly flags: readonly string[];
}

const GROUPS: Readonly<Record<string, () => Group[]>> = {
  // One process for all small files, because a process per file costs more than the tests. The simulation runs beside it.
  unit: () => [
    {
      files: find(
        ["src/**/*.test.ts", "dashboard/*.test.ts", "bench/*.test.ts", "test/*.test.ts", "test/chaos/*.test.ts"],
        WITH_PROCESSES,
      ),
      flags: ["--test-isolation=none"],
    },
    { files: find(["test/simulation/*.test.ts"], LONG), flags: ["--test-isolation=none"] },
  ],
  process: () => [{ files: find([...LONG, ...WITH_PROCESSES]), flags: ["--test-concurrency=2", "--test-force-exit"] }],
  system: () => [
    {
      files: find(["conformance", "integration", "fault", "e2e"].map((folder) => `test/${folder}/*.test.ts`)),
      flags: ["--test-concurrency=2", "--test-force-exit"],
    },
  ],
  container: () => [
    {
      files: find(["test/container/*.test.ts"]),
      // No forced exit, because it would skip the removal of images and containers.
      flags: ["--test-concurrency=2", "--test-global-setup=test/container/image.ts"],
    },
  ],
  dist: () => [{ files: find(["test/dist/*.test.ts"]), flags: ["--test-concurrency=2"] }],
  cgroup2: () => [{ files: ["test/cgroup2/cgroup2.test.ts"], flags: ["--test-timeout=700000"] }],
};

function find(patterns: readonly string[], except: readonly string[] = []): string[] {
  const found = new Set(patterns.flatMap((pattern) => globSync(pattern)));
  for (const file of except.flatMap((pattern) => globSync(pattern))) found.delete(file);
  return [...found].sort();
}

/** Arguments of a process, and the children of its main thread; empty if it has exited. */
function inspect(pid: number): { args: string[]; children: number[] } {
  try {
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ");
    const args = readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0");
    return { args, children: children.filter((text) => text !== "").map(Number) };
  } catch {
    return { args: [], children: [] };
  }
}

/**
 * Kills each test file that exceeds FILE_LIMIT_MS, so that the runner reports it as failed and continues. If the runner runs
 * the files in its own process, it is killed itself.
 */
function watchFiles(runner: number, isOneProcess: boolean): NodeJS.Timeout {
  const seenAtMs = new Map<number, number>();
  return setInterval(() => {
    for (const pid of isOneProcess ? [runner] : inspect(runner).children) {
      const ageMs = Date.now() - (seenAtMs.get(pid) ?? Date.now());
      if (!seenAtMs.has(pid)) seenAtMs.set(pid, Date.now());
      if (ageMs < FILE_LIMIT_MS) continue;
      const file = inspect(pid).args.find((arg) => arg.endsWith(".test.ts")) ?? `process ${pid}`;
      process.stderr.write(`${file} did not finish within ${FILE_LIMIT_MS / 1000}s; killing it\n`);
      seenAtMs.delete(pid);
      try {
        process.kill(pid, "SIGKILL");
      } catch {
        // It has just exited.
      }
    }
  }, 5000);
}

/** Runs a group and resolves with its exit code. If groups run concurrently, its output is printed at the end. */
async function runGroup({ files, flags }: Group, isAlone: boolean): Promise<number> {
  const args = ["--no-warnings", "--test", "--test-timeout=120000", "--test-reporter=spec", ...flags, ...files];
  const child = spawn(process.execPath, args, { stdio: ["ignore", isAlone ? "inherit" : "pipe", "inherit"] });
  const chunks: Buffer[] = [];
  child.stdout?.on("data", (chunk: Buffer) => chunks.push(chunk));
  const watch = watchFiles(child.pid ?? 0, flags.includes("--test-isolation=none"));
  const [code] = (await once(child, "close")) as [number | null];
  clearInterval(watch);
  process.stdout.write(Buffer.concat(chunks));
  return code ?? 1;
}

const groups = GROUPS[process.argv[2] ?? ""]?.();
if (groups === undefined) {
  process.stderr.write(`usage: scripts/test.ts ${Object.keys(GROUPS).join("|")}\n`);
  process.exitCode = 2;
} else {
  const codes = await Promise.all(groups.map((group) => runGroup(group, groups.length === 1)));
  process.exitCode = Math.max(...codes);
}
