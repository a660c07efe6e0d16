/** Human-readable balance of pools: the load of each worker, the spread and a recommendation. Pure. */
import type { PoolBalance, PoolStatus, WorkerStatus } from "../../admin/api.ts";
import { printable } from "../../base/printable.ts";
import { type Cell, type Colour, formatAge, paint, type RenderOptions } from "./render.ts";
import { columns, percent, plain, tableLines } from "./table.ts";

const COLUMNS = columns(["WORKER"], ["CPU", "SHARE", "REQUESTS/S", "SHARE", "IN FLIGHT"]);

const MODES: Readonly<Record<PoolBalance["mode"], string>> = {
  supervisor: "balanced by the kernel (supervisor mode)",
  socket: "balanced through a shared socket",
  proxy: "balanced by the proxy",
};

const COLOURS: Readonly<Record<PoolBalance["verdict"], Colour>> = {
  unknown: "dim",
  even: "green",
  uneven: "yellow",
  full: "red",
};

/** Each pool that has a balance, with its ready workers. */
export function renderBalance(pools: readonly PoolStatus[], options: RenderOptions): string {
  return pools
    .flatMap((pool) => (pool.balance === undefined ? [] : [renderPool(pool, pool.balance, options)]))
    .join("\n");
}

function renderPool(pool: PoolStatus, balance: PoolBalance, options: RenderOptions): string {
  const workers = pool.workers.filter(({ phase }) => phase === "ready");
  const cpu = shares(workers.map(({ detail }) => detail?.cpu_ratio ?? null));
  const requests = shares(workers.map(({ detail }) => detail?.requests_per_second ?? null));
  const rows = workers.map((worker, index) => rowOf(worker, cpu[index] ?? null, requests[index] ?? null));
  const by = balance.algorithm === null ? "" : ` (${balance.algorithm})`;
  const over = balance.window_s > 0 ? `, last ${formatAge(balance.window_s)}` : "";
  const lines = [
    `${printable(pool.name)}: ${MODES[balance.mode]}${by}${over}`,
    ...tableLines(COLUMNS, rows, options),
    `  spread (maximum / mean): CPU ${ratio(balance.cpu_spread)}, requests ${ratio(balance.requests_spread)}`,
    `  ${paint(printable(balance.advice), COLOURS[balance.verdict] ?? "none", options)}`,
  ];
  return `${lines.join("\n")}\n`;
}

function rowOf({ id, detail }: WorkerStatus, cpuShare: number | null, requestsShare: number | null): readonly Cell[] {
  return [
    plain(id),
    plain(percent(detail?.cpu_ratio ?? null)),
    plain(percent(cpuShare)),
    plain(detail?.requests_per_second == null ? "-" : detail.requests_per_second.toFixed(1)),
    plain(percent(requestsShare)),
    plain(detail?.requests_in_flight == null ? "-" : String(detail.requests_in_flight)),
  ];
}

function shares(values: readonly (number | null)[]): readonly (number | null)[] {
  const sum = values.reduce<number>((total, value) => total + (value ?? 0), 0);
  return values.map((value) => (value === null || sum === 0 ? null : value / sum));
}

function ratio(value: number | null): string {
  return value === null ? "-" : value.toFixed(2);
}
