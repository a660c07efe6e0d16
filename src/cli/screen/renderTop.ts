/** What each worker currently uses, computed from two successive status documents. Pure. */
import type { PoolStatus, Status, WorkerDetail, WorkerProcess, WorkerStatus } from "../../admin/api.ts";
import { printable } from "../../base/printable.ts";
import { formatSize } from "../../base/units.ts";
import { type Cell, formatAge, health, paint, phaseCell, type RenderOptions } from "./render.ts";
import { type Column, columns, percent, plain, tableLines } from "./table.ts";

/** One worker; null means unknown. */
export interface TopRow {
  readonly worker: WorkerStatus;
  /** Share of one CPU between the two documents. */
  readonly cpu_ratio: number | null;
  readonly requests_per_second: number | null;
  /** Busiest first; only if the later document has processes. */
  readonly processes?: readonly TopProcess[];
}

/** One process of a worker. */
export interface TopProcess extends WorkerProcess {
  /** Share of one CPU between the two documents; null if the process is not in the earlier one. */
  readonly cpu_ratio: number | null;
}

const COLUMNS = columns(
  ["WORKER", "PHASE"],
  ["PID", "CPU", "MEMORY", "FDS", "REQ/S", "IN FLIGHT", "UPTIME", "RESTARTS"],
);

/** The last column if processes are shown. */
const COMMAND: Column = { heading: "COMMAND", side: "left" };

/** Lines that are not rows: the summary, the headings and the note about hidden rows. */
const FRAME_LINES = 3;

/** All workers of these pools that are not down; `before` is the earlier document. */
export function topRows(before: Status, now: Status, pools: readonly PoolStatus[]): readonly TopRow[] {
  const earlier = new Map(before.pools.flatMap(({ workers }) => workers.map((worker) => [worker.id, worker])));
  const seconds = now.uptime_s - before.uptime_s;
  return pools.flatMap(({ workers }) =>
    workers
      .filter(({ phase }) => phase !== "down" && phase !== "completed")
      .map((worker): TopRow => {
        const last = earlier.get(worker.id);
        const isSame = last?.incarnation === worker.incarnation && seconds > 0;
        const rate = (value: (detail: WorkerDetail) => number | null): number | null => {
          const [from, to] = [last?.detail, worker.detail].map((detail) =>
            detail === undefined ? null : value(detail),
          );
          return isSame && from != null && to != null ? Math.max(0, to - from) / seconds : null;
        };
        return {
          worker,
          cpu_ratio: rate(({ cpu_seconds }) => cpu_seconds),
          requests_per_second: rate(({ requests_total }) => requests_total),
          ...processesOf(isSame ? last?.detail : undefined, worker.detail, seconds),
        };
      }),
  );
}

function processesOf(
  before: WorkerDetail | undefined,
  now: WorkerDetail | undefined,
  seconds: number,
): Pick<TopRow, "processes"> {
  if (now?.processes === undefined) return {};
  const earlier = new Map(before?.processes?.map((each) => [each.pid, each]));
  const processes = now.processes.map((process): TopProcess => {
    const last = earlier.get(process.pid);
    // A lower CPU time than before means that the kernel reused the pid.
    const isSame = last !== undefined && last.cpu_seconds <= process.cpu_seconds;
    return { ...process, cpu_ratio: isSame ? (process.cpu_seconds - last.cpu_seconds) / seconds : null };
  });
  return { processes: processes.toSorted((a, b) => (b.cpu_ratio ?? 0) - (a.cpu_ratio ?? 0)) };
}

/**
 * A summary and a table; each worker is followed by its processes if known. If the lines exceed `maxLines`, only the
 * busiest workers are shown.
 */
export function renderTop(
  status: Status,
  rows: readonly TopRow[],
  options: RenderOptions & { readonly maxLines: number },
): readonly string[] {
  const room = Math.max(1, options.maxLines - FRAME_LINES);
  const withProcesses = rows.some(({ processes }) => processes !== undefined);
  const linesOf = ({ processes }: TopRow) => 1 + (processes?.length ?? 0);
  const isRoom = rows.reduce((sum, row) => sum + linesOf(row), 0) <= room;
  const shown: TopRow[] = [];
  let lines = 0;
  for (const row of isRoom ? rows : busiest(rows)) {
    if (lines >= room) break;
    shown.push(row);
    lines += linesOf(row);
  }
  const left = rows.length - shown.length;
  const cells = shown.flatMap((row) => [cellsOf(row, withProcesses), ...(row.processes ?? []).map(processCells)]);
  const hidden = cells.length - room;
  return [
    summaryOf(status, rows, options),
    ...tableLines(withProcesses ? [...COLUMNS, COMMAND] : COLUMNS, cells.slice(0, room), options),
    ...(left > 0 ? [paint(`  ${left} less busy workers not shown`, "dim", options)] : []),
    ...(left <= 0 && hidden > 0 ? [paint(`  ${hidden} less busy processes not shown`, "dim", options)] : []),
  ];
}

function busiest(rows: readonly TopRow[]): readonly TopRow[] {
  return rows.toSorted((a, b) => (b.cpu_ratio ?? -1) - (a.cpu_ratio ?? -1));
}

function summaryOf(status: Status, rows: readonly TopRow[], options: RenderOptions): string {
  const sum = (value: (row: TopRow) => number | null | undefined) =>
    rows.reduce((total, row) => total + (value(row) ?? 0), 0);
  const ready = rows.filter(({ worker }) => worker.phase === "ready").length;

  const cpus = sum(({ cpu_ratio }) => cpu_ratio).toFixed(2);
  const memory = size(sum(({ worker }) => worker.detail?.rss_bytes));
  return `monoceros ${printable(status.phase)}, ${health(status, options)}, ${ready} of ${rows.length} ready, ${cpus} CPUs, ${memory} resident`;
}

/** A process row, indented under its worker; its state is in the PHASE column. */
function processCells({ pid, state, cpu_ratio, rss_bytes, command }: TopProcess): readonly Cell[] {
  const empty = plain("");
  return [
    empty,
    plain(`  ${state}`),
    plain(String(pid)),
    plain(percent(cpu_ratio)),
    plain(size(rss_bytes)),
    ...Array.from({ length: COLUMNS.length - 5 }, () => empty),
    plain(command),
  ];
}

function cellsOf(row: TopRow, withProcesses: boolean): readonly Cell[] {
  const { worker, cpu_ratio, requests_per_second } = row;
  const { id, pid, detail, uptime_s, restarts } = worker;
  return [
    plain(id),
    phaseCell(worker),
    plain(known(pid)),
    plain(percent(cpu_ratio)),
    plain(detail?.rss_bytes == null ? "-" : size(detail.rss_bytes)),
    plain(known(detail?.open_fds)),
    plain(requests_per_second === null ? "-" : requests_per_second.toFixed(1)),
    plain(known(detail?.requests_in_flight)),
    plain(uptime_s === null ? "-" : formatAge(uptime_s)),
    { text: String(restarts), colour: restarts > 0 ? "yellow" : "none" },
    ...(withProcesses ? [plain(countOf(row))] : []),
  ];
}

/** The number of processes of a worker, in the command column of its row. */
function countOf({ worker, processes }: TopRow): string {
  const count = worker.detail?.process_count;
  const listed = processes?.length ?? 0;
  if (count == null) return "";
  const more = count > listed ? `, ${listed} shown` : "";
  return `${count} process${count === 1 ? "" : "es"}${more}`;
}

function known(value: number | null | undefined): string {
  return value == null ? "-" : String(value);
}

/** Rounded to 0.1 MiB, the precision that is useful between two updates. */
function size(bytes: number): string {
  return bytes < 1 << 20 ? formatSize(bytes) : `${(bytes / (1 << 20)).toFixed(1)}MiB`;
}
