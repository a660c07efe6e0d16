/** Observes a controller under test from outside: its events by kind, its workers' output, its admin port, /proc. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { get } from "node:http";
import type { EventRecord } from "../../src/admin/api.ts";
import { type ControllerUnderTest, listDescendants, poolOf } from "./controller.ts";

/** An event of one kind. */
export type EventOf<Kind extends EventRecord["kind"]> = Extract<EventRecord, { readonly kind: Kind }>;

/** One JSON record of a log. */
export type LogRecord = Readonly<Record<string, unknown>>;

/** A pool that runs a shell script; `more` are further keys. */
export function shellPool(name: string, script: string, more: Readonly<Record<string, unknown>> = {}): string {
  return poolOf({ name, exec: "/bin/sh", args: ["-c", script], ...more });
}

/** All events of a kind so far. */
export function eventsOf<Kind extends EventRecord["kind"]>(
  controller: ControllerUnderTest,
  kind: Kind,
): EventOf<Kind>[] {
  return controller.events.filter((event): event is EventOf<Kind> => event.kind === kind);
}

/** Waits for the nth (from 1) event of a kind that matches. */
export async function happened<Kind extends EventRecord["kind"]>(
  controller: ControllerUnderTest,
  kind: Kind,
  matches: (event: EventOf<Kind>) => boolean = () => true,
  nth = 1,
): Promise<EventOf<Kind>> {
  let found: EventOf<Kind> | undefined;
  await controller.until(() => {
    found = eventsOf(controller, kind).filter(matches)[nth - 1];
    return found !== undefined;
  }, `event ${kind} number ${nth}`);
  assert.ok(found !== undefined);
  return found;
}

/** Milliseconds from one event to another. */
export function msBetween(from: EventRecord, to: EventRecord): number {
  return Date.parse(to.time) - Date.parse(from.time);
}

/** The JSON records among these lines. */
export function recordsOf(lines: readonly string[]): LogRecord[] {
  return lines.flatMap((line) => {
    try {
      return [JSON.parse(line) as LogRecord];
    } catch {
      return [];
    }
  });
}

/** Log records of a worker whose message is `text`, written as JSON or as a plain line. */
export function saidBy(controller: ControllerUnderTest, worker: string, text: string): LogRecord[] {
  return recordsOf(controller.stdout).filter(
    (record) => record["worker_id"] === worker && (record["msg"] === text || record["worker_info_msg"] === text),
  );
}

/** Waits for the nth (from 1) log record of a worker whose message is `text`. */
export async function said(controller: ControllerUnderTest, worker: string, text: string, nth = 1): Promise<LogRecord> {
  let found: LogRecord | undefined;
  await controller.until(() => {
    found = saidBy(controller, worker, text)[nth - 1];
    return found !== undefined;
  }, `worker ${worker} logs ${text}`);
  assert.ok(found !== undefined);
  return found;
}

/** Waits for a line of the controller's own log that contains all of these texts. */
export async function logged(controller: ControllerUnderTest, ...texts: readonly string[]): Promise<string> {
  let found: string | undefined;
  await controller.until(
    () => {
      found = controller.stderr.find((line) => texts.every((text) => line.includes(text)));
      return found !== undefined;
    },
    `a log line with ${texts.join(" and ")}`,
  );
  assert.ok(found !== undefined);
  return found;
}

/** The admin port of a controller with `-d`. */
export async function adminPort(controller: ControllerUnderTest): Promise<number> {
  const line = await logged(controller, "admin listens");
  const port = /address=\S+:(\d+)/u.exec(line)?.[1];
  assert.ok(port !== undefined, line);
  return Number(port);
}

/** The status code of a GET on loopback. */
export function statusCode(port: number, path: string): Promise<number> {
  return new Promise((done, fail) => {
    get({ host: "127.0.0.1", port, path, agent: false }, (response) => {
      response.resume();
      response.on("end", () => done(response.statusCode ?? 0));
    }).on("error", fail);
  });
}

/** The process ids in a record of processbin about its grandchildren. */
export async function grandchildrenOf(controller: ControllerUnderTest, worker: string): Promise<number[]> {
  const pids = (await said(controller, worker, "grandchildren"))["pids"];
  assert.ok(Array.isArray(pids));
  return pids.map(Number);
}

/** A text file of a process in /proc; empty if the process has exited. */
export function readProc(pid: number, file: string): string {
  try {
    return readFileSync(`/proc/${pid}/${file}`, "latin1");
  } catch {
    return "";
  }
}

/** The guardian of a controller, if there is one. */
export function guardianOf(controllerPid: number): number | undefined {
  return listDescendants(controllerPid).find((pid) => readProc(pid, "cmdline").includes("controller-guardian"));
}

/** Sends SIGKILL to processes, ignoring those that have exited. */
export function killAll(pids: readonly number[]): void {
  for (const pid of pids) {
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      // It has already exited.
    }
  }
}
