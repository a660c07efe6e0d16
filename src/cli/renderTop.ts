/** What each worker uses at this moment, from two status documents a little apart. Pure. */
import type { PoolStatus, Status, WorkerDetail, WorkerStatus } from "../admin/api.ts";
import { formatSize } from "../base/units.ts";
import { type Cell, formatAge, paint, phaseCell, type RenderOptions } from "./render.ts";
import { type Column, plain, tableLines } from "./table.ts";

/** One worker; null is not known. */
export interface TopRow {
  readonly worker: WorkerStatus;
  /** Share of one CPU between the two documents. */
  readonly cpu_ratio: number | null;
  readonly requests_per_second: number | null;
}

const COLUMNS: readonly Column[] = [
  { heading: "WORKER", side: "left" },
  { heading: "PHASE", side: "left" },
  { heading: "PID", side: "right" },
  { heading: "CPU", side: "right" },
  { heading: "MEMORY", side: "right" },
  { heading: "FDS", side: "right" },
  { heading: "REQ/S", side: "right" },
  { heading: "IN FLIGHT", side: "right" },
  { heading: "UPTIME", side: "right" },
  { heading: "RESTARTS", side: "right" },
];

/** Lines that are not rows: the summary, the headings and what is left out. */
const FRAME_LINES = 3;

/** Every worker that has a process or is about to, of these pools; `before` is the earlier document. */
export function topRows(before: Status, now: Status, pools: readonly PoolStatus[]): readonly TopRow[] {
  const earlier = new Map(before.pools.flatMap(({ workers }) => workers.map((worker) => [worker.id, worker])));
  const seconds = now.uptime_s - before.uptime_s;
  return pools.flatMap(({ workers }) =>
    workers
      .filter(({ phase }) => phase !== "down")
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
        };
      }),
  );
}

/** A summary and a table; where there are more rows than `maxLines` have room for, the busiest. */
export function renderTop(
  status: Status,
  rows: readonly TopRow[],
  options: RenderOptions & { readonly maxLines: number },
): readonly string[] {
  const room = Math.max(1, options.maxLines - FRAME_LINES);
  const shown = rows.length <= room ? rows : busiest(rows).slice(0, room);
  const left = rows.length - shown.length;
  return [
    summaryOf(status, rows, options),
    ...tableLines(COLUMNS, shown.map(cellsOf), options),
    ...(left > 0 ? [paint(`  ${left} less busy ones are not shown`, "dim", options)] : []),
  ];
}

function busiest(rows: readonly TopRow[]): readonly TopRow[] {
  return rows.toSorted((a, b) => (b.cpu_ratio ?? -1) - (a.cpu_ratio ?? -1));
}

function summaryOf(status: Status, rows: readonly TopRow[], options: RenderOptions): string {
  const sum = (value: (row: TopRow) => number | null | undefined) =>
    rows.reduce((total, row) => total + (value(row) ?? 0), 0);
  const ready = rows.filter(({ worker }) => worker.phase === "ready").length;
  const health = status.healthy ? paint("healthy", "green", options) : paint("not healthy", "red", options);
  const cpus = sum(({ cpu_ratio }) => cpu_ratio).toFixed(2);
  const memory = size(sum(({ worker }) => worker.detail?.rss_bytes));
  return `monoceros ${status.phase}, ${health}, ${ready} of ${rows.length} ready, ${cpus} CPUs, ${memory} resident`;
}

function cellsOf({ worker, cpu_ratio, requests_per_second }: TopRow): readonly Cell[] {
  const { id, pid, detail, uptime_s, restarts } = worker;
  return [
    plain(id),
    phaseCell(worker),
    plain(known(pid)),
    plain(cpu_ratio === null ? "-" : `${(cpu_ratio * 100).toFixed(1)} %`),
    plain(detail?.rss_bytes == null ? "-" : size(detail.rss_bytes)),
    plain(known(detail?.open_fds)),
    plain(requests_per_second === null ? "-" : requests_per_second.toFixed(1)),
    plain(known(detail?.requests_in_flight)),
    plain(uptime_s === null ? "-" : formatAge(uptime_s)),
    { text: String(restarts), colour: restarts > 0 ? "yellow" : "none" },
  ];
}

function known(value: number | null | undefined): string {
  return value == null ? "-" : String(value);
}

/** To a tenth of a MiB: what changes from look to look, and no more. */
function size(bytes: number): string {
  return bytes < 1 << 20 ? formatSize(bytes) : `${(bytes / (1 << 20)).toFixed(1)}MiB`;
}
