/** The workers of a pool, one page at a time, followed by its proxy. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { PoolStatus, WorkerStatus } from "../src/admin/api.ts";
import { type Activity, sharesOf } from "./activity.ts";
import { bytes, count, duration, number, percent } from "./format.ts";
import { type Order, workerOrder } from "./orders.ts";
import { arrange, nextName, PAGE_ROWS, phaseName, type SortKey, type Order as TableOrder } from "./workerOrder.ts";

interface Props {
  readonly pool: PoolStatus;
  readonly proxy: PoolStatus | undefined;
  readonly activities: ReadonlyMap<string, Activity>;
  readonly hasRequests: boolean;
  readonly isOrderable: boolean;
  readonly onOrder: (order: Order) => void;
}

interface Column {
  readonly title: string;
  readonly key?: SortKey;
  /** Whether it is sorted in descending order first. */
  readonly isNumber?: true;
}

export function WorkerTable({ pool, proxy, activities, hasRequests, isOrderable, onOrder }: Props): JSX.Element {
  const [filter, setFilter] = useState("");
  const [order, setOrder] = useState<TableOrder>({ key: "slot", isDescending: false });
  const [wanted, setPage] = useState(0);
  const found = arrange(pool.workers, activities, { filter, order });
  const pages = Math.max(1, Math.ceil(found.length / PAGE_ROWS));
  const page = Math.min(wanted, pages - 1);
  const rows = found.slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS);
  const shares = new Map(
    sharesOf(pool.workers.map(({ id }) => valueForShare(activities.get(id), hasRequests))).map((share, index) => [
      pool.workers[index]?.id,
      share,
    ]),
  );
  const mostShare = Math.max(...[...shares.values()].map((share) => share ?? 0), Number.MIN_VALUE);
  const hasShares = [...shares.values()].some((share) => share !== null);
  const columns: readonly Column[] = [
    { title: "Worker", key: "slot" },
    { title: "Phase", key: "phase" },
    { title: "PID" },
    { title: "Uptime", key: "uptime", isNumber: true },
    { title: "CPU", key: "cpu", isNumber: true },
    { title: "Memory", key: "rss", isNumber: true },
    ...(hasRequests
      ? ([
          { title: "Req/s", key: "requests", isNumber: true },
          { title: "In flight", key: "inFlight", isNumber: true },
        ] as const)
      : []),
    ...(hasShares ? [{ title: "Share" }] : []),
    { title: "Restarts", key: "restarts", isNumber: true },
    { title: "Last exit" },
    { title: "Next" },
    { title: "Reason" },
  ];
  const row = (worker: WorkerStatus, isProxy: boolean) => (
    <Row
      key={worker.id}
      worker={worker}
      isProxy={isProxy}
      activity={activities.get(worker.id)}
      share={
        !hasShares
          ? undefined
          : isProxy
            ? { own: null, most: mostShare }
            : { own: shares.get(worker.id) ?? null, most: mostShare }
      }
      hasRequests={hasRequests}
      isOrderable={isOrderable}
      onOrder={onOrder}
    />
  );
  return (
    <>
      {pool.workers.length > 10 && (
        <div class="filter">
          <label>
            Filter workers{" "}
            <input
              type="search"
              placeholder="id, phase, reason, pid"
              value={filter}
              onInput={(event) => setFilter(event.currentTarget.value)}
            />
          </label>
          {pages > 1 && (
            <span class="pager">
              <button type="button" disabled={page === 0} onClick={() => setPage(page - 1)}>
                Previous
              </button>
              <span aria-live="polite">
                {page * PAGE_ROWS + 1}–{page * PAGE_ROWS + rows.length} of {found.length}
              </span>
              <button type="button" disabled={page === pages - 1} onClick={() => setPage(page + 1)}>
                Next
              </button>
            </span>
          )}
        </div>
      )}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a scrollable element must be reachable by keyboard */}
      <section class="scroll" tabIndex={0} aria-label={`Workers of ${pool.name}`}>
        <table>
          <thead>
            <tr>
              {columns.map((column) => (
                <Heading key={column.title} column={column} order={order} onOrder={setOrder} />
              ))}
              <th scope="col">
                <span class="hidden">Actions</span>
              </th>
            </tr>
          </thead>
          <tbody>{rows.map((worker) => row(worker, false))}</tbody>
          {proxy !== undefined && <tbody class="proxy">{proxy.workers.map((worker) => row(worker, true))}</tbody>}
        </table>
      </section>
    </>
  );
}

function valueForShare(activity: Activity | undefined, hasRequests: boolean): number | null {
  return (hasRequests ? activity?.requestsPerSecond : activity?.cpu) ?? null;
}

function Heading(props: { column: Column; order: TableOrder; onOrder: (order: TableOrder) => void }): JSX.Element {
  const { column, order, onOrder } = props;
  const { title, key, isNumber } = column;
  if (key === undefined) return <th scope="col">{title}</th>;
  const isSorted = order.key === key;
  const direction = order.isDescending ? "descending" : "ascending";
  const next = isSorted ? !order.isDescending : isNumber === true;
  return (
    <th scope="col" class={isNumber ? "number" : ""} aria-sort={isSorted ? direction : "none"}>
      <button type="button" onClick={() => onOrder({ key, isDescending: next })}>
        {title}
        <span aria-hidden="true">{isSorted ? (order.isDescending ? " ▾" : " ▴") : ""}</span>
      </button>
    </th>
  );
}

interface RowProps {
  readonly worker: WorkerStatus;
  readonly isProxy: boolean;
  readonly activity: Activity | undefined;
  /** undefined if the table has no such column. */
  readonly share: { readonly own: number | null; readonly most: number } | undefined;
  readonly hasRequests: boolean;
  readonly isOrderable: boolean;
  readonly onOrder: (order: Order) => void;
}

function Row({ worker, isProxy, activity, share, hasRequests, isOrderable, onOrder }: RowProps): JSX.Element {
  const { id, pid, detail } = worker;
  const action = (what: "restart" | "stop" | "start", text: string) => (
    <button
      type="button"
      disabled={!isOrderable}
      aria-label={`${text} ${id}`}
      onClick={() => onOrder(workerOrder(what, id))}
    >
      {text}
    </button>
  );
  return (
    <tr>
      <th scope="row">{id}</th>
      <td>
        <span class={`phase ${phaseName(worker)}`}>{phaseName(worker)}</span>
      </td>
      <td>{count(pid)}</td>
      <td class="number">{duration(worker.uptime_s)}</td>
      <td class="number">{percent(activity?.cpu ?? null)}</td>
      <td class="number">{bytes(detail?.rss_bytes ?? null)}</td>
      {hasRequests && (
        <>
          <td class="number">{number(activity?.requestsPerSecond ?? null)}</td>
          <td class="number">{count(detail?.requests_in_flight ?? worker.in_flight)}</td>
        </>
      )}
      {share !== undefined && <td>{share.own !== null && <Share own={share.own} most={share.most} />}</td>}
      <td class="number">{worker.restarts}</td>
      <td>{worker.last_exit ?? "–"}</td>
      <td>{worker.next_s === null ? "–" : `${nextName(worker)} in ${duration(worker.next_s)}`}</td>
      <td class="reason">{worker.waits_for ?? worker.reports ?? worker.reason}</td>
      <td class="actions">
        {pid === null ? action("start", "Start") : action("restart", "Restart")}
        {!isProxy && pid !== null && action("stop", "Stop")}
      </td>
    </tr>
  );
}

function Share({ own, most }: { own: number; most: number }): JSX.Element {
  return (
    <span class="share">
      <span class="track" aria-hidden="true">
        <span style={{ width: `${(100 * own) / most}%` }} />
      </span>
      {percent(own)}
    </span>
  );
}
