/**
 * The figures and their goals. A measurement starts its own controller, returns its readings by row key (absent if the
 * deadline passed) and leaves no process behind.
 */

import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, createWriteStream, fstatSync, openSync, readSync, writeFileSync, writeSync } from "node:fs";
import { get } from "node:http";
import { join } from "node:path";
import {
  cpuMs,
  descendantsOf,
  fdCount,
  median,
  nameOf,
  pause,
  pollUntil,
  privateDirtyMb,
  WorkerWatch,
} from "./measure.ts";
import { checkJsonOutput, checkTextOutput } from "./output.ts";
import { type Controller, type Group, type Peer, start } from "./peers.ts";

/** One line of the result table. */
export interface Row {
  readonly key: string;
  readonly title: string;
  readonly unit: "ms" | "MB/s" | "MB" | "ms/s" | "";
  readonly better: "higher" | "lower";
  /** The value that Monoceros should reach; undefined if the row is only informative. */
  readonly goal?: number;
  /** Key of the row whose value is the goal. */
  readonly sameAs?: string;
}

/** Readings of one measurement by row key. */
export type Readings = Readonly<Record<string, number | undefined>>;

/** Directory and thoroughness of a measurement. */
export interface Setting {
  /** A fresh private directory. */
  readonly dir: string;
  readonly quick: boolean;
  /** Counts from 0. */
  readonly round: number;
}

/** A measurement and its rows. */
export interface Figure {
  readonly name: string;
  readonly rows: readonly Row[];
  readonly rounds: number;
  /** Set if peers have no counterpart. */
  readonly onlyMonoceros?: boolean;
  readonly measure: (peer: Peer, setting: Setting) => Promise<Readings>;
}

const START_DEADLINE_MS = 60_000;
const RESTART_DEADLINE_MS = 15_000;
const KILL_BUDGET_MS = 15_000;
const LOG_DEADLINE_MS = 90_000;
/** Time after a start or many restarts in which a program may release resources before it counts as idle. */
const REST_MS = 12_000;

/** Minimum uptime before a kill; some peers delay restarts of workers with a shorter uptime. */
const SETTLE_MS = 1500;

const sleepers = (count: number, name = "sleeper"): Group => ({ name, count, command: ["sleep", "1000"] });

/** Runs `body` with a controller and always stops the controller. */
async function withController<T>(
  peer: Peer,
  setting: Setting,
  workload: { groups: readonly Group[]; output?: string; eagerRestart?: boolean },
  body: (controller: Controller) => Promise<T> | T,
): Promise<T> {
  const controller = await start(peer, { dir: join(setting.dir, "controller"), output: "/dev/null", ...workload });
  try {
    return await body(controller);
  } finally {
    controller.stop();
  }
}

/** Waits until `count` workers run. Returns the milliseconds since the start of the controller. */
function awaitWorkers(watch: WorkerWatch, controller: Controller, count: number): number | undefined {
  const seen = pollUntil(() => watch.workers().size >= count, START_DEADLINE_MS, count > 100 ? 4 : 0.5);
  return seen === undefined ? undefined : performance.now() - controller.startedAtMs;
}

/** Kills one worker. Returns the milliseconds until its successor runs. */
function killOne(watch: WorkerWatch, victim: number): number | undefined {
  const before = new Set(watch.workers());
  process.kill(victim, "SIGKILL");
  return pollUntil(() => [...watch.workers()].some((pid) => !before.has(pid)), RESTART_DEADLINE_MS, 0.05);
}

/** Kills up to `count` workers, each once, within 15 s. Returns the median time until the successor runs. */
function killSome(watch: WorkerWatch, count: number, pauseMs: number): number | undefined {
  const startedAt = performance.now();
  const durations: number[] = [];
  for (const victim of [...watch.workers()].slice(0, count)) {
    if (performance.now() - startedAt > KILL_BUDGET_MS) break;
    const ms = killOne(watch, victim);
    if (ms !== undefined) durations.push(ms);
    pause(pauseMs);
  }
  return median(durations);
}

async function timeGet(url: string): Promise<number> {
  const startedAt = performance.now();
  const request = get(url, { agent: false });
  const [response] = await once(request, "response");
  response.resume();
  await once(response, "end");
  if (response.statusCode !== 200) throw new Error(`${url}: status ${response.statusCode}`);
  return performance.now() - startedAt;
}

async function medianGet(controller: Controller, times: number): Promise<number | undefined> {
  if (controller.metricsUrl === undefined) return undefined;
  const durations: number[] = [];
  for (let index = 0; index < times; index++) {
    try {
      durations.push(await timeGet(controller.metricsUrl));
    } catch {
      return undefined;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  return median(durations);
}

function ownProcesses(controller: Controller): number[] {
  return [controller.pid, ...descendantsOf(controller.pid).filter((pid) => nameOf(pid) !== "sleep")];
}

/** Descriptors and MB of the controller's own processes; undefined if it has exited. */
function usage(controller: Controller): { fds: number; memory: number } | undefined {
  if (nameOf(controller.pid) === undefined) return undefined;
  const own = ownProcesses(controller);
  return { fds: fdCount(own), memory: privateDirtyMb(own) };
}

/** Writes `count` lines to a file and returns its size in bytes. */
async function writeLines(path: string, count: number, makeLine: (index: number) => string): Promise<number> {
  const stream = createWriteStream(path);
  for (let from = 0; from < count; from += 10_000) {
    let chunk = "";
    for (let index = from; index < Math.min(count, from + 10_000); index++) chunk += `${makeLine(index)}\n`;
    if (!stream.write(chunk)) await once(stream, "drain");
  }
  stream.end();
  await once(stream, "finish");
  return stream.bytesWritten;
}

/** A JSON log line of a web server, 158 bytes. */
export function jsonLine(index: number): string {
  const n = String(index).padStart(7, "0");
  return `{"level":"info","ts":1700000000.1234,"msg":"request handled","path":"/v1/things/${n}","status":200,"duration_ms":12.75,"trace":"4bf92f3577b34","n":${index + 1_000_000}}`;
}

/** A plain log line of 93 bytes. */
export function textLine(index: number): string {
  const n = String(index).padStart(7, "0");
  return `2026-01-01 12:00:00,000 INFO server.access 10.0.0.17 "GET /v1/things HTTP/1.1" 200 id=${n}`;
}

/** One worker runs `cat` on a prepared file. Returns the rate at which its lines arrive in the output. */
async function measureLogs(peer: Peer, setting: Setting, kind: "json" | "text"): Promise<number | undefined> {
  const lines = setting.quick ? 200_000 : 1_000_000;
  const input = join(setting.dir, "input");
  const gate = join(setting.dir, "gate");
  const script = join(setting.dir, "worker.sh");
  const output = join(setting.dir, "output");
  const makeLine = kind === "json" ? jsonLine : textLine;
  const bytes = await writeLines(input, lines, makeLine);
  spawnSync("mkfifo", [gate]);
  writeFileSync(script, `read go < ${gate}\ncat ${input}\nexec sleep 1000\n`);
  writeFileSync(output, "");
  const lastLine = kind === "json" ? `"n":${lines - 1 + 1_000_000}` : `id=${String(lines - 1).padStart(7, "0")}`;
  // Opened for reading and writing, so that opening does not block and the line waits for the worker.
  const gateFd = openSync(gate, "r+");
  const outputFd = openSync(output, "r");
  const tail = Buffer.alloc(1000);
  const isComplete = (): boolean => {
    const { size } = fstatSync(outputFd);
    const length = readSync(outputFd, tail, 0, tail.length, Math.max(0, size - tail.length));
    return tail.toString("latin1", 0, length).includes(lastLine);
  };
  try {
    const group: Group = { name: "talker", count: 1, command: ["sh", script] };
    const ms = await withController(peer, setting, { groups: [group], output }, (controller) => {
      const watch = new WorkerWatch(controller.pid, "sh");
      if (awaitWorkers(watch, controller, 1) === undefined) return undefined;
      pause(300);
      writeSync(gateFd, "go\n");
      return pollUntil(isComplete, LOG_DEADLINE_MS, 1);
    });
    if (peer.name === "monoceros" && setting.round === 0 && ms !== undefined) {
      if (kind === "json") await checkJsonOutput(output, lines, makeLine);
      else await checkTextOutput(output, lines, makeLine);
    }
    return ms === undefined ? undefined : bytes / 1e6 / (ms / 1000);
  } finally {
    closeSync(gateFd);
    closeSync(outputFd);
  }
}

/** Kills `total` workers in batches. Returns the number of restarts before the deadline. */
function churn(watch: WorkerWatch, total: number, batch: number, deadlineMs: number): number {
  const startedAt = performance.now();
  let restarted = 0;
  while (restarted < total && performance.now() - startedAt < deadlineMs) {
    const size = Math.min(batch, total - restarted);
    const before = new Set(watch.workers());
    for (const pid of [...before].slice(0, size)) process.kill(pid, "SIGKILL");
    const left = deadlineMs - (performance.now() - startedAt);
    const fresh = (): number => [...watch.workers()].filter((pid) => !before.has(pid)).length;
    if (pollUntil(() => fresh() >= size, left, 0.5) === undefined) return restarted + fresh();
    restarted += size;
  }
  return restarted;
}

/** All figures, in the order of the table. */
export const FIGURES: readonly Figure[] = [
  {
    name: "logs-json",
    rounds: 3,
    rows: [
      {
        key: "logs-json",
        title: "JSON lines from one worker (159 MB, 1,000,000 lines)",
        unit: "MB/s",
        better: "higher",
        goal: 140,
      },
    ],
    measure: async (peer, setting) => ({ "logs-json": await measureLogs(peer, setting, "json") }),
  },
  {
    name: "logs-text",
    rounds: 3,
    rows: [
      {
        key: "logs-text",
        title: "Text lines from one worker (94 MB, 1,000,000 lines)",
        unit: "MB/s",
        better: "higher",
        goal: 200,
      },
    ],
    measure: async (peer, setting) => ({ "logs-text": await measureLogs(peer, setting, "text") }),
  },
  {
    name: "flood",
    rounds: 3,
    rows: [
      {
        key: "flood-restart",
        title: "4 workers log without pause: SIGKILL of another → successor runs",
        unit: "ms",
        better: "lower",
        goal: 10,
      },
      {
        key: "flood-metrics",
        title: "4 workers log without pause: GET /metrics",
        unit: "ms",
        better: "lower",
        goal: 50,
      },
    ],
    measure: (peer, setting) => {
      const quiet = sleepers(8, "quiet");
      const script = join(setting.dir, "flood.sh");
      writeFileSync(script, `exec yes '${jsonLine(0)}'\n`);
      const groups: Group[] = [{ name: "flooder", count: 4, command: ["sh", script] }, quiet];
      return withController(peer, setting, { groups }, async (controller) => {
        const watch = new WorkerWatch(controller.pid, "sleep");
        if (awaitWorkers(watch, controller, quiet.count) === undefined) return {};
        pause(SETTLE_MS);
        const restartMs = killSome(watch, setting.quick ? 3 : quiet.count, 100);
        return { "flood-restart": restartMs, "flood-metrics": await medianGet(controller, 10) };
      });
    },
  },
  {
    name: "restart",
    rounds: 3,
    rows: [{ key: "restart", title: "SIGKILL of a worker → successor runs", unit: "ms", better: "lower", goal: 2 }],
    measure: (peer, setting) =>
      withController(peer, setting, { groups: [sleepers(16)] }, (controller) => {
        const watch = new WorkerWatch(controller.pid, "sleep");
        if (awaitWorkers(watch, controller, 16) === undefined) return {};
        pause(SETTLE_MS);
        return { restart: killSome(watch, setting.quick ? 4 : 12, 50) };
      }),
  },
  {
    name: "start-32",
    rounds: 5,
    rows: [
      { key: "start-32", title: "Start of the controller → 32 workers run", unit: "ms", better: "lower", goal: 120 },
      { key: "stop-32", title: "Stop of 32 workers that exit at SIGTERM", unit: "ms", better: "lower", goal: 40 },
    ],
    measure: async (peer, setting) => {
      const controller = await start(peer, {
        dir: join(setting.dir, "controller"),
        groups: [sleepers(32)],
        output: "/dev/null",
      });
      let startMs: number | undefined;
      let stopMs: number | undefined;
      try {
        startMs = awaitWorkers(new WorkerWatch(controller.pid, "sleep"), controller, 32);
        pause(SETTLE_MS);
      } finally {
        stopMs = controller.stop();
      }
      return { "start-32": startMs, "stop-32": stopMs };
    },
  },
  {
    name: "start-500",
    rounds: 3,
    rows: [
      { key: "start-500", title: "Start of the controller → 500 workers run", unit: "ms", better: "lower", goal: 400 },
      { key: "metrics-500", title: "GET /metrics with 500 workers", unit: "ms", better: "lower", goal: 20 },
      {
        key: "status-500",
        title: "Status command with 500 workers, total time",
        unit: "ms",
        better: "lower",
        goal: 50,
      },
    ],
    measure: (peer, setting) =>
      withController(peer, setting, { groups: [sleepers(500)] }, async (controller) => {
        const startMs = awaitWorkers(new WorkerWatch(controller.pid, "sleep"), controller, 500);
        if (controller.metricsUrl !== undefined) pause(1000);
        const metricsMs = await medianGet(controller, 20);
        const statuses = Array.from({ length: setting.quick ? 3 : 10 }, controller.timeStatus);
        const statusMs = median(statuses.filter((each) => each !== undefined));
        return { "start-500": startMs, "metrics-500": metricsMs, "status-500": statusMs };
      }),
  },
  {
    name: "idle",
    rounds: 2,
    rows: [
      { key: "idle-cpu", title: "CPU when idle, 32 workers", unit: "ms/s", better: "lower", goal: 0.5 },
      {
        key: "idle-memory",
        title: "Private dirty memory of the controller's own processes, 32 workers",
        unit: "MB",
        better: "lower",
        goal: 20,
      },
    ],
    measure: (peer, setting) => {
      // Before the start, because it may take seconds, and the measurement must end before the check at 30 s (listeners.ts).
      spawnSync("sync");
      return withController(peer, setting, { groups: [sleepers(32)] }, (controller) => {
        if (awaitWorkers(new WorkerWatch(controller.pid, "sleep"), controller, 32) === undefined) return {};
        pause(setting.quick ? 1000 : REST_MS);
        const seconds = setting.quick ? 3 : 10;
        const own = ownProcesses(controller);
        const before = cpuMs(own);
        pause(seconds * 1000);
        const idle = (cpuMs(own) - before) / seconds;
        return { "idle-cpu": idle, "idle-memory": privateDirtyMb(ownProcesses(controller)) };
      });
    },
  },
  {
    name: "churn",
    rounds: 1,
    rows: [
      { key: "churn-fds-20", title: "Open descriptors after 20 restarts", unit: "", better: "lower" },
      {
        key: "churn-fds",
        title: "… after 2,000 restarts",
        unit: "",
        better: "lower",
        sameAs: "churn-fds-20",
      },
      { key: "churn-memory-20", title: "Private dirty memory after 20 restarts, idle", unit: "MB", better: "lower" },
      {
        key: "churn-memory",
        title: "… after 2,000 restarts",
        unit: "MB",
        better: "lower",
        sameAs: "churn-memory-20",
      },
      { key: "churn-restarts", title: "… restarts within 60 s", unit: "", better: "higher" },
    ],
    measure: (peer, setting) =>
      withController(peer, setting, { groups: [sleepers(20)], eagerRestart: true }, (controller) => {
        const watch = new WorkerWatch(controller.pid, "sleep");
        if (awaitWorkers(watch, controller, 20) === undefined) return {};
        pause(SETTLE_MS);
        const total = setting.quick ? 200 : 2000;
        let restarts = churn(watch, 20, 20, 20_000);
        spawnSync("sync");
        pause(REST_MS);
        const first = usage(controller);
        restarts += churn(watch, total - restarts, 20, 60_000);
        pause(REST_MS);
        const last = usage(controller);
        return {
          "churn-fds-20": first?.fds,
          "churn-fds": last?.fds,
          "churn-memory-20": first?.memory,
          "churn-memory": last?.memory,
          "churn-restarts": restarts,
        };
      }),
  },
];
