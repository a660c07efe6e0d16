/**
 * Pools that receive traffic, and the load on them: processbin behind Envoy or on a shared socket, the real command line,
 * and checks of what happens while workers are replaced.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readlinkSync } from "node:fs";
import { basename } from "node:path";
import { type ControllerUnderTest, listDescendants, MONOCEROS, PROCESSBIN, poolOf } from "./controller.ts";
import { type LoadTarget, type RequestKind, startLoad } from "./load.ts";
import { describeLoad, type LoadReport } from "./loadReport.ts";
import { freePorts } from "./ports.ts";
import { eventsOf } from "./watch.ts";

type Keys = Readonly<Record<string, unknown>>;

/** A pool named `web` and the address of its clients. */
export interface TrafficPool {
  /** The list item for `supervisor.workers`. */
  readonly workers: string;
  readonly target: LoadTarget;
}

export interface ProxyPoolOptions {
  readonly replicas: number;
  /** Arguments of processbin. */
  readonly args?: readonly string[];
  /** More keys of `server:` and of the pool. */
  readonly server?: Keys;
  readonly more?: Keys;
  /** Whether workers listen on Unix sockets instead of ports. */
  readonly onUnixSockets?: boolean;
}

/** processbin behind Envoy with LEAST_REQUEST. */
export async function proxyPool(options: ProxyPoolOptions): Promise<TrafficPool> {
  // Includes ports for successors and for scaling up.
  const ports = await freePorts(1 + options.replicas * 2 + 8);
  const address =
    options.onUnixSockets === true
      ? { socket_arg: { name: "--socket", value_template: "{{.Socket}}" } }
      : { port_arg: { name: "--port", value_template: "{{.Port}}", start_port: ports + 1 } };
  const workers = poolOf({
    name: "web",
    replicas: options.replicas,
    exec: PROCESSBIN,
    args: [...(options.onUnixSockets === true ? [] : ["--host", "127.0.0.1"]), ...(options.args ?? [])],
    startup_wait_time: "0s",
    server: {
      ...address,
      listener_address: "127.0.0.1",
      listener_port: ports,
      health_check_path: "/healthz",
      load_balancer_algorithm: "LEAST_REQUEST",
      ...options.server,
    },
    ...options.more,
  });
  return { workers, target: { port: ports } };
}

/** processbin on a socket that the controller binds: a Unix socket at `path` if given, otherwise a port. */
export async function sharedPool(options: {
  readonly replicas: number;
  readonly args?: readonly string[];
  readonly more?: Keys;
  readonly path?: string;
}): Promise<TrafficPool> {
  const port = options.path === undefined ? await freePorts(1) : 0;
  const workers = poolOf({
    name: "web",
    replicas: options.replicas,
    exec: PROCESSBIN,
    args: options.args ?? [],
    startup_wait_time: "0s",
    sockets: [{ name: "http", listen: options.path ?? `127.0.0.1:${port}` }],
    ...options.more,
  });
  return { workers, target: options.path === undefined ? { port } : { socketPath: options.path } };
}

export interface CommandOutcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. */
export async function runToEnd(file: string, args: readonly string[]): Promise<CommandOutcome> {
  const child = spawn(file, args, { stdio: ["ignore", "pipe", "pipe"] });
  const text = { stdout: "", stderr: "" };
  for (const name of ["stdout", "stderr"] as const) {
    child[name].setEncoding("utf8").on("data", (chunk: string) => {
      text[name] += chunk;
    });
  }
  const [code] = (await once(child, "close")) as [number | null];
  return { code, ...text };
}

/** Runs the command line against this controller to its end. */
export function command(controller: ControllerUnderTest, ...args: readonly string[]): Promise<CommandOutcome> {
  return runToEnd(MONOCEROS, [...args, "--socket", controller.socket]);
}

/** Runs the command line against this controller and asserts exit code 0. */
export async function commandOk(controller: ControllerUnderTest, ...args: readonly string[]): Promise<CommandOutcome> {
  const outcome = await command(controller, ...args);
  assert.equal(outcome.code, 0, `monoceros ${args.join(" ")}: ${outcome.stdout}${outcome.stderr}`);
  return outcome;
}

/** Mostly requests that take 20 ms, and a few long ones that are in flight when their worker drains. */
export const USUAL_REQUESTS: readonly RequestKind[] = [
  { path: "/sleep?ms=20", weight: 49 },
  { path: "/sleep?ms=500", weight: 1 },
];

export interface TrafficOptions {
  readonly requests?: readonly RequestKind[];
  /** Number of kept-alive connections, and of connections with one request each. */
  readonly keptAlive?: number;
  readonly fresh?: number;
  readonly workerHeader?: string;
}

/** Reports of both kinds of connections. */
export interface TrafficReports {
  readonly keptAlive: LoadReport;
  readonly fresh: LoadReport;
}

const SETTLED_REQUESTS = 50;

/** Sends requests while `act` runs, and at least SETTLED_REQUESTS on each kind of connection before and after it. */
export async function underTraffic(
  target: LoadTarget,
  act: () => Promise<void>,
  options: TrafficOptions = {},
): Promise<TrafficReports> {
  const { requests = USUAL_REQUESTS, keptAlive = 12, fresh = 4 } = options;
  const common = {
    target,
    requests,
    ...(options.workerHeader === undefined ? {} : { workerHeader: options.workerHeader }),
  };
  const loads = [
    startLoad({ ...common, connections: keptAlive }),
    startLoad({ ...common, connections: fresh, isConnectionPerRequest: true, seed: 2 }),
  ] as const;
  try {
    await Promise.all(loads.map((load) => load.reached(SETTLED_REQUESTS)));
    await act();
    await Promise.all(loads.map((load) => load.reached(load.report.requests + SETTLED_REQUESTS)));
  } finally {
    await Promise.all(loads.map((load) => load.stop()));
  }
  return { keptAlive: loads[0].report, fresh: loads[1].report };
}

/** Asserts that every request received a response. */
export function assertNoneFailed(reports: TrafficReports): void {
  for (const [name, report] of Object.entries(reports))
    assert.equal(report.failed, 0, `${name}: ${describeLoad(report)}`);
}

/** The pid of a descendant of this controller that is Envoy; undefined if there is none. */
export function envoyPid(controller: ControllerUnderTest): number | undefined {
  return listDescendants(controller.pid).find((pid) => {
    try {
      return basename(readlinkSync(`/proc/${pid}/exe`)) === "envoy";
    } catch {
      return false;
    }
  });
}

/**
 * Minimum and maximum number of ready workers of pool `web`, counted after each event from the moment the controller was
 * ready to the start of its shutdown. A draining worker is not ready.
 */
export function readyRange(controller: ControllerUnderTest): { readonly least: number; readonly most: number } {
  const ready = new Set<number>();
  const counts: number[] = [];
  let isBooted = false;
  for (const event of controller.events) {
    if (event.kind === "controller_ready") isBooted = true;
    if (event.kind === "controller_stopping") break;
    if ("slot" in event && event.pool === "web") {
      if (event.kind === "ready") ready.add(event.slot);
      if (["unready", "draining", "stopping", "exited"].includes(event.kind)) ready.delete(event.slot);
    }
    if (isBooted) counts.push(ready.size);
  }
  return { least: Math.min(...counts), most: Math.max(...counts) };
}

/** Waits until `count` workers of pool `web` have been stopped. */
export async function replaced(controller: ControllerUnderTest, count: number): Promise<void> {
  await controller.until(
    () => eventsOf(controller, "stopped").filter(({ pool }) => pool === "web").length >= count,
    `${count} workers of web have stopped`,
  );
}

/** Workers of pool `web` that are ready, by id. */
export async function readyWorkers(controller: ControllerUnderTest): Promise<string[]> {
  const pool = (await controller.status()).pools.find(({ name }) => name === "web");
  return (pool?.workers ?? []).filter(({ phase }) => phase === "ready").map(({ id }) => id);
}
