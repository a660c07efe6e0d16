/** What the HTTP fronts may ask of the controller. Declared here, by its user; the composition root makes one. */
import type { Instant } from "../base/time.ts";
import type { Slot } from "../core/identity.ts";
import type { ControllerView, WorkerView } from "../core/view.ts";
import type { LogLine, ProfileAnswer, ProfileSubject, ReloadPlan, StatusDetails, WorkerDump } from "./api.ts";
import type { EventLog } from "./events.ts";
import type { OperationLog } from "./operations.ts";

/**
 * Pools are named by their index in the view. What is asked of a pool is an operation: each method returns its id, which
 * `operations` and the events know from then on. `slots` undefined means the whole pool.
 * @throws ControllerError REQUEST_REFUSED where it is not possible
 */
export interface ControllerHandle {
  readonly version: string;
  readonly events: EventLog;
  readonly operations: OperationLog;
  view(): ControllerView;
  now(): Instant;
  /** What a worker of the pool waits for to be ready; undefined where it waits for nothing. */
  waitOf(pool: number, worker: WorkerView): string | undefined;
  /** What workers use and do; it has to be read first. */
  details(): StatusDetails;
  /** The same with the processes of each worker; bounded in time. */
  detailsWithProcesses(): Promise<StatusDetails>;
  /** The exposition and its content type. */
  metrics(accept: string): { readonly text: string; readonly contentType: string };
  /** The workers' own metrics, merged, and their content type; bounded in time. */
  workerMetrics(accept: string): Promise<{ readonly text: string; readonly contentType: string }>;
  /** Keeps who asked for what. */
  audit(who: string, what: string): void;
  shutdown(reason: string): void;
  restart(pool: number, slots: readonly Slot[] | undefined, reason: string): string;
  stop(pool: number, slots: readonly Slot[] | undefined, reason: string): string;
  start(pool: number, slots: readonly Slot[] | undefined, reason: string): string;
  /** `replicas` is a whole number from 1 on. */
  scale(pool: number, replicas: number, reason: string): string;
  /** Applies what has changed in the configuration file, or only says what that would be. @throws ControllerError */
  reload(isDryRun: boolean): Promise<ReloadPlan>;
  /**
   * What a worker is doing, all its processes or only `pid`; one without a process is an answer too.
   * @throws ControllerError REQUEST_REFUSED, PROCESS_UNKNOWN, as a rejection
   */
  dump(pool: number, slot: Slot, pid: number | undefined): Promise<WorkerDump>;
  /**
   * Profiles the process `pid` of a worker, or its busiest one, until the time is over, it ends, or `signal` comes.
   * @throws ControllerError REQUEST_REFUSED, PROCESS_UNKNOWN, as a rejection
   */
  profileWorker(
    pool: number,
    slot: Slot,
    request: {
      readonly seconds: number;
      readonly hz: number;
      readonly pid: number | undefined;
      readonly signal: AbortSignal;
    },
  ): Promise<ProfileAnswer>;
  /** Of this process, until the time is over or `signal` comes. @throws ControllerError REQUEST_REFUSED, as a rejection */
  profileSelf(subject: ProfileSubject, seconds: number, signal: AbortSignal): Promise<ProfileAnswer>;
  /** Whole chunks of lines as they are written to stdout and stderr. */
  tapLogs(listener: (stream: LogLine["stream"], chunk: Buffer) => void): Disposable;
}
