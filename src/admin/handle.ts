/** What the HTTP fronts need from the controller. Declared here, by its user; the composition root implements it. */
import type { Instant } from "../base/time.ts";
import type { Slot } from "../core/identity.ts";
import type { ControllerView, WorkerView } from "../core/view.ts";
import type { LogFilesReopened, LogLine, ProfileAnswer, ProfileSubject, ReloadPlan, WorkerDump } from "./api.ts";
import type { EventLog } from "./events.ts";
import type { OperationLog } from "./operations.ts";
import type { StatusDetails } from "./status.ts";

/**
 * Pools are identified by their index in the view. Each method that requests an operation returns its id, which is
 * `operations` and the events use from then on. `slots` undefined means the whole pool.
 * @throws ControllerError REQUEST_REFUSED if the operation is not possible
 */
export interface ControllerHandle {
  readonly version: string;
  readonly events: EventLog;
  readonly operations: OperationLog;
  view(): ControllerView;
  now(): Instant;
  /** What a worker of the pool waits for before it is ready; undefined if nothing. */
  waitOf(pool: number, worker: WorkerView): string | undefined;
  /** What the worker last reported about its state; undefined if nothing. */
  reportOf(pool: number, worker: WorkerView): string | undefined;
  /** Resource usage and activity of the workers, read on demand. */
  details(): StatusDetails;
  /** The same with the processes of each worker; limited in time. */
  detailsWithProcesses(): Promise<StatusDetails>;
  /** The exposition and its content type. */
  metrics(accept: string): { readonly text: string; readonly contentType: string };
  /** The workers' own metrics, merged, and their content type; limited in time. */
  workerMetrics(accept: string): Promise<{ readonly text: string; readonly contentType: string }>;
  /** Records the caller and its request. */
  audit(who: string, what: string): void;
  shutdown(reason: string): void;
  restart(pool: number, slots: readonly Slot[] | undefined, reason: string): string;
  stop(pool: number, slots: readonly Slot[] | undefined, reason: string): string;
  start(pool: number, slots: readonly Slot[] | undefined, reason: string): string;
  /** `replicas` is a whole number, at least 1. */
  scale(pool: number, replicas: number, reason: string): string;
  /** Applies changes of the configuration file, or only reports them. @throws ControllerError */
  reload(isDryRun: boolean): Promise<ReloadPlan>;
  /**
   * What a worker's processes are doing, or only process `pid`. A worker without a process is a valid result.
   * @throws ControllerError REQUEST_REFUSED, PROCESS_UNKNOWN, as a rejection
   */
  dump(pool: number, slot: Slot, pid: number | undefined): Promise<WorkerDump>;
  /**
   * Profiles process `pid` of a worker, or its busiest one, until the time is up, it exits, or `signal` aborts.
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
  /** Profiles this process; stops early if `signal` aborts. @throws ControllerError REQUEST_REFUSED, as a rejection */
  profileSelf(subject: ProfileSubject, seconds: number, signal: AbortSignal): Promise<ProfileAnswer>;
  /** Opens all log files again. @throws ControllerError LOG_FILE_FAILED, as a rejection */
  reopenLogFiles(): Promise<LogFilesReopened["files"]>;
  /** Passes on complete chunks of lines as they are written to stdout and stderr. */
  tapLogs(listener: (stream: LogLine["stream"], chunk: Buffer) => void): Disposable;
}
