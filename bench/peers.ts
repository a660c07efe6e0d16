/**
 * The compared programs: how each is installed, configured, started and stopped. All run the same workload with their own
 * defaults. Comments explain settings that differ from the default.
 */

import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { freePort } from "../test/support/ports.ts";
import { descendantsOf, nameOf, pollUntil } from "./measure.ts";

const ROOT = join(import.meta.dirname, "..");
const PEERS_DIR = join(import.meta.dirname, "peers");
const PYTHON_BIN = join(PEERS_DIR, "python", "bin");
const PM2 = join(PEERS_DIR, "pm2", "node_modules", ".bin", "pm2");
const PM2_RUNTIME = `${PM2}-runtime`;

/** The measured executable. The environment may override it, so that the traffic benchmark can compare two builds. */
const MONOCEROS = process.env["MONOCEROS"] ?? join(ROOT, "dist", "monoceros");

/** A number of identical processes to run. */
export interface Group {
  readonly name: string;
  readonly count: number;
  readonly command: readonly [string, ...string[]];
}

/** The workload of one measurement. */
export interface Workload {
  /** An empty directory for files of the controller. */
  readonly dir: string;
  readonly groups: readonly Group[];
  /** File for the output of workers, or /dev/null. */
  readonly output: string;
  /** Restart workers at once without limit; by default the peer's own policy applies. */
  readonly eagerRestart?: boolean;
}

/** A command line that runs a workload in the foreground. */
interface Launch {
  readonly command: readonly [string, ...string[]];
  readonly env?: Readonly<Record<string, string>>;
  /** Whether the workers' lines go to the controller's stdout. */
  readonly printsWorkers?: boolean;
  readonly metricsPort?: number;
  /** Command that prints the state of all workers; undefined if the peer has none for this workload. */
  readonly status?: readonly [string, ...string[]];
}

/** One of the compared programs. */
export interface Peer {
  readonly name: string;
  /** The installed version; undefined if missing. */
  readonly version: () => string | undefined;
  readonly prepare: (workload: Workload) => Promise<Launch>;
}

/** A running controller. `stop` ends it and all processes that it started, by pid. */
export interface Controller {
  readonly pid: number;
  readonly metricsUrl: string | undefined;
  /** Duration of its status command in milliseconds; undefined if it has none or it fails. */
  readonly timeStatus: () => number | undefined;
  readonly startedAtMs: number;
  /** Sends SIGTERM. Returns the milliseconds until the controller has exited, or undefined if it had to be killed. */
  readonly stop: () => number | undefined;
}

const STOP_DEADLINE_MS = 20_000;

/** Starts `peer` on `workload`. Returns as soon as the process exists. */
export async function start(peer: Peer, workload: Workload): Promise<Controller> {
  mkdirSync(workload.dir, { recursive: true });
  const launch = await peer.prepare(workload);
  const stdout = openSync(launch.printsWorkers === true ? workload.output : join(workload.dir, "stdout"), "a");
  const stderr = openSync(join(workload.dir, "stderr"), "a");
  const [program, ...args] = launch.command;
  const startedAtMs = performance.now();
  const child = spawn(program, args, {
    cwd: workload.dir,
    stdio: ["ignore", stdout, stderr],
    env: { ...process.env, ...launch.env },
    detached: true,
  });
  const pid = child.pid;
  if (pid === undefined) throw new Error(`cannot start ${peer.name}: ${program}`);
  return {
    pid,
    metricsUrl: launch.metricsPort === undefined ? undefined : `http://127.0.0.1:${launch.metricsPort}/metrics`,
    timeStatus: () => timeStatus(launch),
    startedAtMs,
    stop: () => stop(child, pid),
  };
}

function timeStatus({ status, env }: Launch): number | undefined {
  if (status === undefined) return undefined;
  const [program, ...args] = status;
  const startedAtMs = performance.now();
  const { status: code } = spawnSync(program, args, {
    stdio: ["ignore", "pipe", "ignore"],
    env: { ...process.env, ...env },
  });
  return code === 0 ? performance.now() - startedAtMs : undefined;
}

function stop(child: ChildProcess, pid: number): number | undefined {
  const family = new Map(descendantsOf(pid).map((member) => [member, nameOf(member)]));
  child.kill("SIGTERM");
  const stoppedMs = pollUntil(() => nameOf(pid) === undefined, STOP_DEADLINE_MS);
  if (stoppedMs === undefined) child.kill("SIGKILL");
  for (const [member, name] of family) {
    // The pid may have been reused by another program.
    if (name !== undefined && nameOf(member) === name) process.kill(member, "SIGKILL");
  }
  return stoppedMs;
}

/** Monoceros, used only through its executable, a configuration file, signals and /metrics. */
export const monocerosAt = (executable: string, name = "monoceros"): Peer => ({
  name,
  version: () => versionOf(executable, ["--version"])?.replace(/^monoceros /u, ""),
  prepare: async ({ dir, groups, eagerRestart }) => {
    const port = await freePort();
    const config = join(dir, "monoceros.yaml");
    const restart = { backoff: { initial: "1ms", max: "1ms", factor: 1, jitter: 0 } };
    writeFileSync(
      config,
      // JSON is YAML.
      JSON.stringify({
        admin: { port, address: "127.0.0.1", socket: join(dir, "control.sock") },
        supervisor: {
          workers: groups.map(({ name, count, command: [exec, ...args] }) => ({
            name,
            replicas: count,
            exec,
            args,
            ...(eagerRestart === true ? { restart } : {}),
          })),
        },
      }),
    );
    const status = [executable, "status", "--socket", join(dir, "control.sock")] as const;
    return { command: [executable, "-c", config], printsWorkers: true, metricsPort: port, status };
  },
});

const supervisord: Peer = {
  name: "supervisord",
  version: () => versionOf(join(PYTHON_BIN, "supervisord"), ["--version"]),
  prepare: async ({ dir, groups, output }) => {
    const config = join(dir, "supervisord.conf");
    const text = [
      "[supervisord]",
      "nodaemon=true",
      // The default of 1024 is too low for 500 workers.
      "minfds=4096",
      `logfile=${dir}/supervisord.log`,
      `pidfile=${dir}/supervisord.pid`,
      `childlogdir=${dir}`,
    ];
    for (const { name, count, command } of groups) {
      text.push(
        `[program:${name}]`,
        `command=${command.join(" ")}`,
        `numprocs=${count}`,
        "process_name=%(program_name)s_%(process_num)d",
        "autorestart=true",
        // A worker counts as started at once. With the default of 1 s supervisord delays the restart after an early crash.
        "startsecs=0",
        `stdout_logfile=${output}`,
        // No rotation, because the output is read as one file.
        "stdout_logfile_maxbytes=0",
        "stderr_logfile=/dev/null",
        "stderr_logfile_maxbytes=0",
      );
    }
    writeFileSync(config, `${text.join("\n")}\n`);
    return { command: [join(PYTHON_BIN, "supervisord"), "-c", config] };
  },
};

const circus: Peer = {
  name: "circus",
  version: () => versionOf(join(PYTHON_BIN, "circusd"), ["--version"]),
  prepare: async ({ dir, groups, output }) => {
    const config = join(dir, "circus.ini");
    const text = [
      "[circus]",
      `endpoint = ipc://${dir}/endpoint`,
      `pubsub_endpoint = ipc://${dir}/pubsub`,
      "statsd = False",
    ];
    for (const { name, count, command } of groups) {
      text.push(
        `[watcher:${name}]`,
        `cmd = ${command.join(" ")}`,
        `numprocesses = ${count}`,
        "copy_env = True",
        "stdout_stream.class = FileStream",
        `stdout_stream.filename = ${output}`,
        "stderr_stream.class = FileStream",
        "stderr_stream.filename = /dev/null",
      );
    }
    writeFileSync(config, `${text.join("\n")}\n`);
    const [only, ...others] = groups;
    const ask = [join(PYTHON_BIN, "circusctl"), "--endpoint", `ipc://${dir}/endpoint`, "list"] as const;
    return {
      command: [join(PYTHON_BIN, "circusd"), config],
      // The command lists the processes of only one watcher.
      ...(only !== undefined && others.length === 0 ? { status: [...ask, only.name] as const } : {}),
    };
  },
};

const pm2: Peer = {
  name: "PM2",
  version: () => {
    const manifest = join(PEERS_DIR, "pm2", "node_modules", "pm2", "package.json");
    if (!existsSync(manifest)) return undefined;
    return (JSON.parse(readFileSync(manifest, "utf8")) as { version: string }).version;
  },
  prepare: async ({ dir, groups, output, eagerRestart }) => {
    const config = join(dir, "ecosystem.json");
    const apps = groups.map(({ name, count, command: [script, ...args] }) => ({
      name,
      script: resolveProgram(script),
      args,
      interpreter: "none",
      exec_mode: "fork",
      instances: count,
      out_file: output,
      error_file: "/dev/null",
      merge_logs: true,
      // By default PM2 gives up after 16 early exits.
      ...(eagerRestart === true ? { max_restarts: 1_000_000, min_uptime: 0 } : {}),
    }));
    writeFileSync(config, JSON.stringify({ apps }));
    // With --raw the daemon does not print the lines a second time.
    return {
      command: [process.execPath, PM2_RUNTIME, "start", config, "--raw"],
      env: { PM2_HOME: join(dir, "pm2"), PM2_DISCRETE_MODE: "true" },
      status: [process.execPath, PM2, "list"],
    };
  },
};

/** All compared programs, Monoceros first. */
export const PEERS: readonly Peer[] = [monocerosAt(MONOCEROS), supervisord, circus, pm2];

/** Installs missing peers with the versions of peers.json, and reports those that cannot be installed. */
export function installPeers(): void {
  const pins = JSON.parse(readFileSync(join(import.meta.dirname, "peers.json"), "utf8")) as {
    python: Record<string, string>;
    npm: Record<string, string>;
  };
  const install = (what: string, command: string, args: readonly string[]): void => {
    const result = spawnSync(command, args, { stdio: ["ignore", "ignore", "pipe"], encoding: "utf8" });
    if (result.status !== 0) console.error(`cannot install ${what}: ${result.error ?? result.stderr.trim()}`);
  };
  mkdirSync(PEERS_DIR, { recursive: true });
  if (supervisord.version() !== pins.python["supervisor"] || circus.version() !== pins.python["circus"]) {
    install("a Python environment", "python3", ["-m", "venv", join(PEERS_DIR, "python")]);
    const packages = Object.entries(pins.python).map(([name, version]) => `${name}==${version}`);
    install("supervisord and circus", join(PYTHON_BIN, "python"), ["-m", "pip", "install", "--quiet", ...packages]);
  }
  if (pm2.version() !== pins.npm["pm2"]) {
    const packages = Object.entries(pins.npm).map(([name, version]) => `${name}@${version}`);
    install("PM2", "npm", ["install", "--no-audit", "--no-fund", "--prefix", join(PEERS_DIR, "pm2"), ...packages]);
  }
}

function versionOf(program: string, args: readonly string[]): string | undefined {
  if (!existsSync(program)) return undefined;
  const result = spawnSync(program, args, { encoding: "utf8" });
  return result.status === 0 ? result.stdout.trim().split("\n")[0] : undefined;
}

/** The absolute path of a program, because PM2 looks for scripts in its working directory, not on PATH. */
function resolveProgram(program: string): string {
  const dirs = (process.env["PATH"] ?? "").split(":");
  return dirs.map((dir) => join(dir, program)).find((path) => existsSync(path)) ?? program;
}
