/** The whole page: the state of the controller, its pools, events and logs, and the results of operations. */
import type { ComponentChildren, JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { EventRecord, OperationAccepted, ReloadAccepted } from "../src/admin/api.ts";
import { post, ROUTES } from "./client.ts";
import { EventList } from "./eventList.tsx";
import { duration } from "./format.ts";
import { LogTail } from "./logTail.tsx";
import { OrderDialog } from "./orderDialog.tsx";
import type { Order } from "./orders.ts";
import { PoolSection } from "./poolSection.tsx";
import { type Link, Session, type Snapshot } from "./session.ts";
import { TokenForm } from "./tokenForm.tsx";

/** A message about an operation that this page requested. */
interface Notice {
  readonly id: number;
  readonly kind: "info" | "good" | "bad";
  readonly text: string;
}

const MAX_NOTICES = 4;
/** Maximum number of ended operations that are kept. */
const MAX_ENDS = 200;

/** The dashboard. */
export function App(): JSX.Element | null {
  const [snapshot, setSnapshot] = useState<Snapshot>();
  const [order, setOrder] = useState<Order>();
  const [notices, setNotices] = useState<readonly Notice[]>([]);
  const session = useRef<Session | undefined>(undefined);
  const ours = useRef(new Set<string>());
  /** Ended operations. An event may arrive before the response that identifies its operation as ours. */
  const ends = useRef(new Map<string, EventRecord>());
  const serial = useRef(0);

  const say = (kind: Notice["kind"], text: string) => {
    const notice = { id: serial.current++, kind, text };
    setNotices((all) => [...all, notice].slice(-MAX_NOTICES));
  };
  const tellEnd = (operation: string) => {
    const end = ends.current.get(operation);
    if (end !== undefined && ours.current.delete(operation))
      say(end.kind === "operation_finished" ? "good" : "bad", end.message);
  };
  const takeNews = (news: readonly EventRecord[]) => {
    for (const event of news) {
      // A new controller restarts the numbering of operations.
      if (event.kind === "controller_started") ends.current.clear();
      if (event.kind !== "operation_finished" && event.kind !== "operation_failed") continue;
      ends.current.set(event.operation, event);
      if (ends.current.size > MAX_ENDS) ends.current.delete([...ends.current.keys()][0] ?? "");
      tellEnd(event.operation);
    }
  };
  const claim = (operation: string) => {
    ours.current.add(operation);
    tellEnd(operation);
  };

  useEffect(() => {
    const running = new Session((next, news) => {
      setSnapshot(next);
      takeNews(news);
    });
    session.current = running;
    void running.run();
    return () => running.close();
  }, []);

  const give = async (given: Order, replicas: number) => {
    const body = given.what === "scale" ? { replicas } : undefined;
    if (given.what === "reload") {
      const { changes, failed, operations } = await post<ReloadAccepted>(ROUTES.reload, {});
      say("info", `Reload: ${changes.length === 0 ? "nothing has changed" : changes.join("; ")}`);
      for (const { path, reason } of failed) say("bad", `Reload: ${path} was not changed: ${reason}`);
      for (const { id } of operations) claim(id);
    } else {
      const path =
        given.target.kind === "pool"
          ? ROUTES.pool(given.target.name, given.what)
          : ROUTES.worker(given.target.id, given.what === "scale" ? "restart" : given.what);
      const { operation } = await post<OperationAccepted>(path, body);
      say("info", `Requested: ${given.title} (${operation})`);
      claim(operation);
    }
    session.current?.refresh();
  };

  if (snapshot === undefined) return null;
  const { link, status, events } = snapshot;
  const proxies = new Map(status?.pools.flatMap((pool) => (pool.fronts === null ? [] : [[pool.fronts, pool]])) ?? []);
  return (
    <>
      <Header snapshot={snapshot} onOrder={setOrder} />
      {link.kind === "refused" ? (
        <TokenForm link={link} onToken={(token) => session.current?.useToken(token)} />
      ) : (
        <main aria-busy={link.kind === "connecting"}>
          {status?.pools
            .filter((pool) => pool.fronts === null)
            .map((pool) => (
              <PoolSection
                key={pool.name}
                pool={pool}
                proxy={proxies.get(pool.name)}
                activities={snapshot.activities}
                samples={snapshot.series.get(pool.name) ?? []}
                isOrderable={link.kind === "up"}
                onOrder={setOrder}
              />
            ))}
          {status !== undefined && (
            <div class="columns">
              <EventList events={events} problem={snapshot.eventsProblem} />
              <LogTail />
            </div>
          )}
        </main>
      )}
      <div class="notices" role="log" aria-live="polite" aria-label="Results">
        {notices.map(({ id, kind, text }) => (
          <div key={id} class={`notice ${kind}`}>
            <span>{text}</span>
            <button
              type="button"
              aria-label="Dismiss"
              onClick={() => setNotices((all) => all.filter((notice) => notice.id !== id))}
            >
              ×
            </button>
          </div>
        ))}
      </div>
      {order !== undefined && (
        <OrderDialog
          key={order.title}
          order={order}
          onConfirm={(replicas) => give(order, replicas)}
          onClose={() => setOrder(undefined)}
        />
      )}
    </>
  );
}

function Header({ snapshot, onOrder }: { snapshot: Snapshot; onOrder: (order: Order) => void }): JSX.Element {
  const { link, status } = snapshot;
  return (
    <header>
      <h1>Monoceros</h1>
      {status !== undefined && link.kind !== "refused" && (
        <dl class="facts">
          <Fact name="Controller">
            <Mark kind={link.kind === "up" ? (status.ready ? "good" : "warn") : "bad"}>
              {link.kind === "up" ? status.phase : "unreachable"}
            </Mark>
          </Fact>
          <Fact name="Health">
            <Mark kind={status.healthy ? "good" : "bad"}>{status.healthy ? "healthy" : "degraded"}</Mark>
          </Fact>
          <Fact name="Uptime">{duration(status.uptime_s)}</Fact>
          <Fact name="Version">{status.version}</Fact>
          <Fact name="PID">{status.pid}</Fact>
        </dl>
      )}
      <nav>
        <a href="/metrics">Metrics</a>
        <button
          type="button"
          disabled={link.kind !== "up"}
          onClick={() => onOrder({ what: "reload", target: undefined, title: "Reload the configuration" })}
        >
          Reload…
        </button>
      </nav>
      <LinkState link={link} />
    </header>
  );
}

function LinkState({ link }: { link: Link }): JSX.Element {
  return (
    <p class={`link ${link.kind}`} role="status">
      {link.kind === "connecting" && "Connecting…"}
      {link.kind === "gone" &&
        `The controller has not responded since ${new Date(link.since).toLocaleTimeString()} (${link.message}). This page shows the last known state. Retrying in ${duration(link.retryMs / 1000)}.`}
    </p>
  );
}

function Fact({ name, children }: { name: string; children: ComponentChildren }): JSX.Element {
  return (
    <div>
      <dt>{name}</dt>
      <dd>{children}</dd>
    </div>
  );
}

function Mark({ kind, children }: { kind: string; children: ComponentChildren }): JSX.Element {
  return <span class={`mark ${kind}`}>{children}</span>;
}
