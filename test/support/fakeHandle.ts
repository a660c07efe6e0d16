/** A fake controller for tests of the admin servers. It records requests, and a test may change its view. */
import type { LogLine, ProfileAnswer, ProfileSubject, WorkerDump } from "../../src/admin/api.ts";
import { EventLog } from "../../src/admin/events.ts";
import type { ControllerHandle } from "../../src/admin/handle.ts";
import { OperationLog } from "../../src/admin/operations.ts";
import type { StatusDetails } from "../../src/admin/status.ts";
import { instant } from "../../src/base/time.ts";
import { newController } from "../../src/core/controller.ts";
import type { OperationKind } from "../../src/core/event.ts";
import type { ControllerView } from "../../src/core/view.ts";
import { viewOf } from "../../src/core/viewOf.ts";
import { workerDetail, workerDump } from "./fakeController.ts";
import { poolSpec } from "./poolSpec.ts";

type LogListener = Parameters<ControllerHandle["tapLogs"]>[0];

/** Pools `web` and `my jobs` with two replicas each, and the proxy `web-proxy`. Running, but no worker is ready. */
export class FakeHandle implements ControllerHandle {
  readonly version = "1.2.3";
  readonly events = new EventLog(() => new Date(0));
  readonly operations = new OperationLog(() => new Date(0));
  /** Orders so far, such as `stop 0/1: because`. */
  readonly orders: string[] = [];
  /** Audit records, each as requester and request. */
  readonly audits: string[] = [];
  readonly taps = new Set<LogListener>();
  current: ControllerView;
  onOrder: () => void = () => {};

  constructor() {
    const pools = [
      poolSpec(),
      poolSpec({ name: "my jobs" }),
      poolSpec({ name: "web-proxy", role: "proxy", fronts: "web", replicas: 1 }),
    ];
    const spec = { shutdownTimeoutMs: 60_000, preStopDelayMs: 0, startParallelism: undefined, pools };
    this.current = { ...viewOf(newController(spec, instant(1000))), phase: "running" };
  }

  view(): ControllerView {
    return this.current;
  }
  now(): ReturnType<ControllerHandle["now"]> {
    return instant(4500);
  }
  details(): StatusDetails {
    return {
      balances: new Map([
        [
          "web",
          {
            mode: "supervisor",
            algorithm: null,
            window_s: 60,
            cpu_spread: 1.5,
            requests_spread: null,
            verdict: "uneven",
            advice: "do something",
          },
        ],
      ]),
      workers: new Map([["web-0", workerDetail()]]),
    };
  }

  async detailsWithProcesses(): Promise<StatusDetails> {
    const process = { pid: 100, parent_pid: 12, state: "S", cpu_seconds: 1, rss_bytes: 4096, command: "sh -c wait" };
    return { ...this.details(), workers: new Map([["web-0", workerDetail({ processes: [process] })]]) };
  }

  async workerMetrics(accept: string): Promise<{ text: string; contentType: string }> {
    return { text: `of workers, for ${accept}`, contentType: "text/plain" };
  }

  metrics(accept: string): { text: string; contentType: string } {
    return { text: `# größe ${accept}\n`, contentType: "text/plain; version=0.0.4" };
  }
  audit(who: string, what: string): void {
    this.audits.push(`${who}: ${what}`);
    this.events.add({ kind: "audited", who, what });
  }
  reportOf(): string | undefined {
    return undefined;
  }

  waitOf(): string | undefined {
    return undefined;
  }
  shutdown(reason: string): void {
    this.#note(`shutdown: ${reason}`);
  }
  restart(pool: number, slots: readonly number[] | undefined, reason: string): string {
    return this.#order("restart", pool, slots ?? "*", reason);
  }
  stop(pool: number, slots: readonly number[] | undefined, reason: string): string {
    return this.#order("stop", pool, slots ?? "*", reason);
  }
  start(pool: number, slots: readonly number[] | undefined, reason: string): string {
    return this.#order("start", pool, slots ?? "*", reason);
  }
  scale(pool: number, replicas: number, reason: string): string {
    return this.#order("scale", pool, `to ${replicas}`, reason);
  }
  reload(isDryRun: boolean): ReturnType<ControllerHandle["reload"]> {
    this.#note(`reload${isDryRun ? " (dry run)" : ""}`);
    return Promise.resolve({ changes: ['pool "web" changes'], refused: [], failed: [], operations: [] });
  }
  async dump(pool: number, slot: number, pid: number | undefined): Promise<WorkerDump> {
    this.#note(`dump ${pool}/${slot}${pid === undefined ? "" : ` pid ${pid}`}`);
    return workerDump({ id: `web-${slot}` });
  }
  /** Takes a profile. A test may replace it. */
  takeProfile: (signal: AbortSignal) => Promise<ProfileAnswer> = async () => ({
    engine: "proc",
    note: "it is short",
    pid: 4711,
    pprof: Buffer.from([31, 139, 0, 255]),
  });
  profileWorker(
    pool: number,
    slot: number,
    { seconds, hz, pid, signal }: { seconds: number; hz: number; pid: number | undefined; signal: AbortSignal },
  ): Promise<ProfileAnswer> {
    this.#note(`profile ${pool}/${slot}: ${seconds} s, ${hz} Hz${pid === undefined ? "" : `, pid ${pid}`}`);
    return this.takeProfile(signal);
  }
  profileSelf(subject: ProfileSubject, seconds: number, signal: AbortSignal): Promise<ProfileAnswer> {
    this.#note(`profile ${subject}: ${seconds} s`);
    return this.takeProfile(signal);
  }
  async reopenLogFiles(): ReturnType<ControllerHandle["reopenLogFiles"]> {
    this.#note("reopen log files");
    return [{ pool: "web", path: "/var/log/web.log" }];
  }
  tapLogs(listener: LogListener): Disposable {
    this.taps.add(listener);
    return { [Symbol.dispose]: () => this.taps.delete(listener) };
  }
  log(stream: LogLine["stream"], text: string | Buffer): void {
    for (const tap of this.taps) tap(stream, Buffer.from(text));
  }

  #order(what: OperationKind, pool: number, slots: readonly number[] | string, reason: string): string {
    this.#note(`${what} ${pool}/${slots}: ${reason}`);
    const operation = `op-${this.orders.length}`;
    const name = this.current.pools[pool]?.name ?? "";
    const event = { kind: "operation_started", pool: name, operation, what, done: 0, total: 1, reason } as const;
    this.operations.handle(event);
    this.events.add(event);
    return operation;
  }
  #note(order: string): void {
    this.orders.push(order);
    this.onOrder();
  }
}
