/** Human-readable output of API responses: the status table and event lines. Pure; returns strings. */
import type { EventRecord, Operation, PoolStatus, Status, WorkerStatus } from "../../admin/api.ts";
import { formatReadableRecord } from "../../base/log.ts";
import { printable } from "../../base/printable.ts";
import { formatDuration } from "../../base/units.ts";

export interface RenderOptions {
  readonly hasColours: boolean;
}

/** The colour of a cell, if colours are enabled. */
export type Colour = "green" | "yellow" | "red" | "dim" | "none";

const SGR: Readonly<Record<Exclude<Colour, "none">, number>> = { green: 32, yellow: 33, red: 31, dim: 2 };

/** The colour of each phase. */
const PHASE_COLOURS: Readonly<Record<WorkerStatus["phase"], Colour>> = {
  ready: "green",
  running: "green",
  completed: "dim",
  starting: "yellow",
  unready: "red",
  backoff: "red",
  draining: "yellow",
  stopping: "yellow",
  down: "dim",
};

/** What happens at a worker's deadline, by phase; a worker that is down has none. */
const NEXT_BY_PHASE: Readonly<Record<WorkerStatus["phase"], string>> = {
  down: "",
  starting: "start",
  ready: "replace",
  running: "",
  completed: "",
  unready: "replace",
  draining: "stop",
  stopping: "kill",
  backoff: "restart",
};

const HEADINGS = ["WORKER", "PHASE", "PID", "UPTIME", "RESTARTS", "LAST EXIT", "NEXT", "REASON"] as const;
const PHASE_COLUMN = HEADINGS.indexOf("PHASE");

/** A worker as a table row: one text per heading. */
interface Row {
  readonly texts: readonly string[];
  /** Only the phase is coloured. */
  readonly phaseColour: Colour;
}

/** One cell of a table. */
export interface Cell {
  readonly text: string;
  readonly colour: Colour;
}

/** The status as one table per pool, including its proxy, below a line for the controller. */
export function renderStatus(status: Status, options: RenderOptions): string {
  const up = formatAge(status.uptime_s);
  const header = `monoceros ${printable(status.version)} (pid ${status.pid}) ${printable(status.phase)}, ${health(status, options)}, up ${up}\n`;
  const tables = status.pools
    .filter((pool) => frontedBy(pool, status) === undefined)
    .map((pool) => {
      const proxies = status.pools.filter((each) => frontedBy(each, status) === pool);
      return { pool, proxies, rows: [pool, ...proxies].flatMap(shownWorkers).map(rowOf) };
    });
  // Use the same widths for all pools, so that columns line up.
  const widths = HEADINGS.map((heading) => heading.length);
  for (const { rows } of tables)
    for (const { texts } of rows)
      for (let column = 0; column < texts.length; column++)
        widths[column] = Math.max(widths[column] ?? 0, texts[column]?.length ?? 0);
  let text = header;
  for (const { pool, proxies, rows } of tables) {
    text += `\n${poolLine(pool, proxies, options)}\n`;
    if (rows.length > 0)
      text += `${paint(formatRow({ texts: HEADINGS, phaseColour: "none" }, widths, options), "dim", options)}\n`;
    for (const row of rows) text += `${formatRow(row, widths, options)}\n`;
  }
  return text;
}

/** The health of a controller or a pool, as one word. */
export function health({ healthy }: { readonly healthy: boolean }, options: RenderOptions): string {
  return healthy ? paint("healthy", "green", options) : paint("degraded", "red", options);
}

/** The pool that a proxy fronts; undefined for other pools. */
function frontedBy({ fronts }: PoolStatus, { pools }: Status): PoolStatus | undefined {
  return fronts === null ? undefined : pools.find(({ name, role }) => role === "workers" && name === fronts);
}

/** How many workers of a pool do what they are for, and what it waits for. */
function progressOf({ type, ready, replicas, workers, waits_for: waitsFor }: PoolStatus): string {
  const completed = workers.filter(({ phase }) => phase === "completed").length;
  const progress = type === "oneshot" ? `${completed}/${replicas} completed` : `${ready}/${replicas} ready`;
  return waitsFor === null ? progress : `${progress}, ${printable(waitsFor)}`;
}

/** Hides slots that are down if the pool has all its replicas: those slots are unused. */
function shownWorkers({ workers, replicas }: PoolStatus): readonly WorkerStatus[] {
  const up = workers.filter(({ phase }) => phase !== "down");
  return up.length >= replicas ? up : workers;
}

function poolLine(pool: PoolStatus, proxies: readonly PoolStatus[], options: RenderOptions): string {
  const parts = [`${printable(pool.name)} ${progressOf(pool)}`];
  if (!pool.healthy) parts.push(`${health(pool, options)} (${pool.desired_healthy_percentage} % required)`);
  for (const { healthy } of proxies) parts.push(healthy ? "proxy ready" : paint("proxy not ready", "red", options));
  for (const operation of [pool, ...proxies].flatMap(({ operations }) => operations))
    parts.push(paint(printable(operationText(operation)), "yellow", options));
  return parts.join(", ");
}

function operationText({ id, what, state, done, total }: Operation): string {
  return `${what} ${id} ${state}${state === "running" && total > 0 ? ` (${done} of ${total} done)` : ""}`;
}

function rowOf(worker: WorkerStatus): Row {
  const phase = phaseCell(worker);
  return {
    texts: [
      printable(worker.id),
      phase.text,
      worker.pid === null ? "-" : String(worker.pid),
      worker.uptime_s === null ? "-" : formatAge(worker.uptime_s),
      String(worker.restarts),
      printable(worker.last_exit ?? "-"),
      nextOf(worker),
      printable(worker.waits_for ?? worker.reports ?? worker.reason),
    ],
    phaseColour: phase.colour,
  };
}

/** The phase as a cell; a standby worker is shown as "standby". */
export function phaseCell({ phase, standby }: WorkerStatus): Cell {
  return standby
    ? { text: "standby", colour: "dim" }
    : { text: printable(phase), colour: PHASE_COLOURS[phase] ?? "none" };
}

function nextOf({ phase, pid, proving, next_s: seconds, in_flight: inFlight }: WorkerStatus): string {
  // At the deadline, a worker without a probe becomes ready, and the startup of a probed worker times out.
  const deadline = proving ? "ready" : "time out";
  const what = phase === "starting" && pid !== null ? deadline : (NEXT_BY_PHASE[phase] ?? "");
  const next = seconds === null ? "-" : `${what} in ${formatAge(seconds)}`.trim();
  return inFlight === null ? next : `${next}, ${inFlight} request${inFlight === 1 ? "" : "s"} in flight`;
}

/** One row, without a newline. Kept simple, because just-started, unoptimized code formats tables of 500 workers. */
function formatRow({ texts, phaseColour }: Row, widths: readonly number[], options: RenderOptions): string {
  let line = "";
  for (let column = 0; column < texts.length; column++) {
    const cell = texts[column]?.padEnd(widths[column] ?? 0) ?? "";
    line += `  ${column === PHASE_COLUMN ? paint(cell, phaseColour, options) : cell}`;
  }
  return line.trimEnd();
}

/** `12:34:56.789 INFO  worker "web-0" …`, time in UTC, with a trailing newline. */
export function renderEvent(record: EventRecord, options: RenderOptions): string {
  const line = formatReadableRecord(record.level, Date.parse(record.time), printable(record.message));
  const colour = ({ debug: "dim", info: "none", warn: "yellow", error: "red" } as const)[record.level];
  return `${paint(line.slice(0, -1), colour, options)}\n`;
}

/** A duration in one or two units: tenths below ten seconds, seconds below an hour, then minutes. */
export function formatAge(seconds: number): string {
  const step = seconds < 9.95 ? 0.1 : seconds < 3600 ? 1 : 60;
  return formatDuration(Math.floor(seconds / step + 1e-9) * step * 1000);
}

/** `text` in a colour, if colours are enabled. */
export function paint(text: string, colour: Colour, { hasColours }: RenderOptions): string {
  return hasColours && colour !== "none" ? `\u001b[${SGR[colour]}m${text}\u001b[0m` : text;
}
