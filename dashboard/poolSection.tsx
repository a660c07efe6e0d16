/** One pool: its health, operations, load, balance, workers and proxy. */
import type { JSX } from "preact";
import type { Operation, PoolStatus } from "../src/admin/api.ts";
import { type Activity, type Sample, sum } from "./activity.ts";
import { Bars, Sparkline } from "./charts.tsx";
import { bytes, count, number, percent } from "./format.ts";
import { type Order, poolOrder, scaleOrder } from "./orders.ts";
import { phaseCounts } from "./workerOrder.ts";
import { WorkerTable } from "./workerTable.tsx";

/** From this number of workers on, a chart shows their load, because the table is too long to compare. */
const FEW = 12;

interface Props {
  readonly pool: PoolStatus;
  readonly proxy: PoolStatus | undefined;
  readonly activities: ReadonlyMap<string, Activity>;
  readonly samples: readonly Sample[];
  readonly isOrderable: boolean;
  readonly onOrder: (order: Order) => void;
}

export function PoolSection({ pool, proxy, activities, samples, isOrderable, onOrder }: Props): JSX.Element {
  const now = samples.at(-1);
  const hasRequests = proxy !== undefined;
  const heading = `pool-${pool.name}`;
  const order = (text: string, next: Order) => (
    <button
      type="button"
      disabled={!isOrderable}
      onClick={() => onOrder(next)}
      aria-label={`${text} pool ${pool.name}`}
    >
      {text}…
    </button>
  );
  return (
    <section class="card" aria-labelledby={heading}>
      <div class="title">
        <h2 id={heading}>{pool.name}</h2>
        <span class={`mark ${pool.healthy ? "good" : "bad"}`}>{pool.healthy ? "healthy" : "degraded"}</span>
        <span class="counts">
          {pool.ready} of {pool.replicas} ready
          {phaseCounts(pool.workers)
            .filter(([phase]) => phase !== "ready")
            .map(([phase, workers]) => ` · ${workers} ${phase}`)
            .join("")}
        </span>
        <span class="buttons">
          {order("Restart", poolOrder("restart", pool.name))}
          {order("Scale", scaleOrder(pool.name, pool.replicas))}
          {order("Stop", poolOrder("stop", pool.name))}
          {order("Start", poolOrder("start", pool.name))}
        </span>
      </div>
      {[...pool.operations, ...(proxy?.operations ?? [])].map((operation) => (
        <Progress key={operation.id} operation={operation} />
      ))}
      <div class="sparks">
        <Sparkline name="CPU" now={percent(now?.cpu ?? null)} values={samples.map(({ cpu }) => cpu)} />
        <Sparkline name="Memory" now={bytes(now?.rssBytes ?? null)} values={samples.map(({ rssBytes }) => rssBytes)} />
        {hasRequests && (
          <>
            <Sparkline
              name="Requests/s"
              now={number(now?.requestsPerSecond ?? null)}
              values={samples.map(({ requestsPerSecond }) => requestsPerSecond)}
            />
            <Sparkline
              name="In flight"
              now={count(now?.inFlight ?? null)}
              values={samples.map(({ inFlight }) => inFlight)}
            />
          </>
        )}
      </div>
      <Balance pool={pool} activities={activities} hasRequests={hasRequests} />
      <WorkerTable
        pool={pool}
        proxy={proxy}
        activities={activities}
        hasRequests={hasRequests}
        isOrderable={isOrderable}
        onOrder={onOrder}
      />
    </section>
  );
}

function Progress({ operation }: { operation: Operation }): JSX.Element {
  const { id, what, pool, state, done, total, reason } = operation;
  const label = `${what} of ${pool} (${id}), ${state}: ${reason}`;
  return (
    <div class="operation">
      <span>{label}</span>
      {total > 0 ? <progress max={total} value={done} aria-label={label} /> : <progress aria-label={label} />}
      <span>{total > 0 ? `${done} of ${total}` : state}</span>
    </div>
  );
}

function Balance(props: Pick<Props, "pool" | "activities"> & { readonly hasRequests: boolean }): JSX.Element | null {
  const { pool, activities, hasRequests } = props;
  const { balance } = pool;
  if (balance === undefined) return null;
  const rates = pool.workers.map(({ id }) => activities.get(id)?.requestsPerSecond ?? null);
  const isByRequests = hasRequests && (sum(rates) ?? 0) > 0;
  const values = isByRequests ? rates : pool.workers.map(({ id }) => activities.get(id)?.cpu ?? null);
  const spread = (name: string, value: number | null) => (value === null ? [] : [`${name} ${value.toFixed(2)}`]);
  const spreads = [...spread("CPU", balance.cpu_spread), ...spread("requests", balance.requests_spread)];
  return (
    <div class="balance">
      {pool.workers.length >= FEW && (sum(values) ?? 0) > 0 && (
        <Bars label={isByRequests ? "Requests per worker" : "CPU per worker"} values={values} />
      )}
      <p>
        <span class={`mark ${balance.verdict === "uneven" ? "warn" : "plain"}`}>{balance.verdict}</span>{" "}
        {balance.advice}
        {spreads.length > 0 && ` (spread, maximum / mean: ${spreads.join(", ")})`}
      </p>
    </div>
  );
}
