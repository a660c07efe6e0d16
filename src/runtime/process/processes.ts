/**
 * The processes of all workers: session leaders, their remaining processes, and processes that left the session. Starts
 * them, reaps every child of the controller, and notifies the listener of exits. The session and the marks in its
 * environment identify a process of a worker, so it is found even after it left group and session.
 *
 * The controller never uses node:child_process: libuv would compete for exits. So waitpid(-1) is safe here.
 */

import type { Logger } from "../../base/log.ts";
import { monotonicMs } from "../../base/monotonic.ts";
import { TURN_MS } from "../../base/turns.ts";
import type { ExitStatus } from "../../core/exit.ts";
import type { PoolIndex, Slot, WorkerRef } from "../../core/identity.ts";
import { NotifyChannel } from "../channel/notifyChannel.ts";
import type { WorkerChannels } from "../channel/workerChannels.ts";
import { reapOne, sendSignal } from "../os/linux.ts";
import type { OomKills } from "../os/oomKills.ts";
import { listChildren } from "../os/procfs.ts";
import { marksOf } from "./adoptions.ts";
import type { Guardian } from "./guardian.ts";
import { Helpers } from "./helpers.ts";
import { type LaunchOf, WorkerEnvironments } from "./poolLaunch.ts";
import { Survivors, VacancyWatch } from "./survivors.ts";
import type { OutputReader, WorkerProcess } from "./workerProcess.ts";
import { WorkerSignals } from "./workerSignals.ts";
import { type WorkerPipes, WorkerSpawner } from "./workerSpawner.ts";

/** Notified of process exits. */
export interface ProcessListener {
  exited(worker: WorkerRef, status: ExitStatus, survivors: boolean): void;
  vacated(worker: WorkerRef): void;
}

interface ProcessesOptions {
  readonly launchOf: LaunchOf;
  readonly attach: (worker: { pool: PoolIndex; slot: Slot; stdoutFd: number; stderrFd: number }) => OutputReader;
  readonly listener: ProcessListener;
  readonly guardian: Guardian | undefined;
  readonly log: Logger;
  /** The value of CONTROLLER_MARK in the environment of every process. */
  readonly mark: string;
  /** Soft limit of open files the workers start with. */
  readonly nofileSoft: number | "unlimited";
  readonly oomKills?: OomKills;
}

export class Processes {
  readonly helpers: Helpers;
  readonly #options: ProcessesOptions;
  readonly #spawner: WorkerSpawner;
  readonly #survivors: Survivors;
  readonly #signals: WorkerSignals;
  readonly #vacancies: VacancyWatch;
  readonly #byLeader = new Map<number, WorkerProcess>();
  readonly #onChildSignal = () => this.reap();
  /** Adopted orphans reaped so far. */
  orphansReaped = 0;

  constructor(options: ProcessesOptions) {
    const { launchOf, guardian, log, mark } = options;
    this.#options = options;
    const environments = new WorkerEnvironments(mark);
    const nofile = { soft: options.nofileSoft, hard: undefined };
    this.helpers = new Helpers({ launchOf, environments, guardian, mark, nofile });
    this.#spawner = new WorkerSpawner({ environments, nofile, log });
    this.#survivors = new Survivors(
      mark,
      (pid) => pid === guardian?.pid || this.helpers.has(pid) || this.isLeader(pid),
    );
    this.#signals = new WorkerSignals(this.#survivors.adoptions);
    this.#vacancies = new VacancyWatch(this.#survivors, this.#onChildSignal);
    process.on("SIGCHLD", this.#onChildSignal);
  }

  /**
   * Starts the process of a slot. Its program is executed while the caller does other work. The caller must then call
   * the returned function, in the same turn, to get the pid. Both throw an Error if the start fails.
   */
  begin({ pool, slot, incarnation }: WorkerRef, revision: number): () => number {
    const { launchOf, guardian, attach } = this.#options;
    const launch = launchOf(pool, revision);
    const { pid, confirm } = this.#spawner.begin(launch, slot, incarnation);
    guardian?.add(pid);
    return () => {
      let pipes: WorkerPipes;
      try {
        pipes = confirm();
      } catch (error) {
        guardian?.remove(pid);
        throw error;
      }
      const { output, notifyFd, sockets } = pipes;
      this.#byLeader.set(pid, {
        pool,
        launch,
        slot,
        incarnation,
        pid,
        marks: marksOf(launch.name, slot, incarnation),
        output: output && attach({ pool, slot, ...output }),
        channels: { newline: notifyFd === undefined ? undefined : new NotifyChannel(notifyFd), sockets },
        leaderExitedAtMs: undefined,
        stopSignal: undefined,
        signaled: new Set(),
      });
      return pid;
    };
  }

  /** How the worker led by `leader` reports about itself; undefined if it has exited. */
  channelsOf(leader: number): WorkerChannels | undefined {
    return this.#byLeader.get(leader)?.channels;
  }

  /** Sends a signal to the worker led by `leader`. */
  signal(leader: number, signal: string, scope: "group" | "leader" | "escaped"): void {
    const worker = this.#byLeader.get(leader);
    // Otherwise it was reaped after the signal was decided, and another process may have its pid.
    if (worker !== undefined) this.#signals.send(worker, signal, scope);
  }

  /** Kills all processes of the worker led by `leader`. */
  kill(leader: number): void {
    const worker = this.#byLeader.get(leader);
    if (worker !== undefined) this.#signals.kill(worker);
  }

  /** Processes of the worker led by `leader` that left its tree and were adopted by the controller. */
  adoptedOf(leader: number): readonly number[] {
    const worker = this.#byLeader.get(leader);
    return worker === undefined ? [] : this.#survivors.adoptedOf(worker);
  }

  /** Whether the process with this id leads a worker. */
  isLeader(pid: number): boolean {
    const worker = this.#byLeader.get(pid);
    return worker !== undefined && worker.leaderExitedAtMs === undefined;
  }

  /** Reaps all exited processes of any kind, in several turns of the event loop if thousands exited at once. */
  reap(): void {
    const leaders: { worker: WorkerProcess; status: ExitStatus }[] = [];
    const reports: (() => void)[] = [];
    const deadline = monotonicMs() + TURN_MS;
    for (let reaped = reapOne(); reaped !== undefined; reaped = reapOne()) {
      const { pid, status } = reaped;
      this.#survivors.adoptions.forget(pid);
      const worker = this.#byLeader.get(pid);
      const helperExited = this.helpers.remove(pid);
      if (worker !== undefined && worker.leaderExitedAtMs === undefined) {
        worker.leaderExitedAtMs = monotonicMs();
        leaders.push({ worker, status: this.#withCause(status, worker) });
      } else if (helperExited !== undefined) {
        reports.push(() => helperExited(status));
      } else if (this.#options.guardian?.handleExit(pid) === true) {
        this.#options.log.warn("the guardian exited and was restarted", { pid });
      } else {
        this.orphansReaped++;
        this.#options.log.debug("an adopted process exited", { pid });
        if (monotonicMs() > deadline) {
          setImmediate(() => this.reap());
          break;
        }
      }
    }
    // After reaping, so that processes that exited with their leader do not count.
    const surviving = this.#survivors.of(leaders.map(({ worker }) => worker));
    for (const { worker, status } of leaders) this.#leaderExited(worker, status, surviving.has(worker));
    this.#vacancies.look(
      (worker) => {
        this.#forget(worker);
        this.#options.listener.vacated(worker);
      },
      // A process that a group member started elsewhere is adopted, and thus known, only when that member exits.
      (worker) => this.#signals.signalEscaped(worker),
    );
    // After the workers, so that a helper's result for a worker that has just exited is recognized as late.
    for (const report of reports) report();
  }

  /** Marks a SIGKILL that came from the kernel's OOM killer. */
  #withCause(status: ExitStatus, { stopSignal }: WorkerProcess): ExitStatus {
    const { oomKills } = this.#options;
    if (status.kind !== "signal" || status.signal !== "SIGKILL" || stopSignal === "SIGKILL") return status;
    if (oomKills?.claim() !== true) return status;
    return { ...status, out_of_memory: { limit_bytes: oomKills.limitBytes ?? null } };
  }

  #leaderExited(worker: WorkerProcess, status: ExitStatus, hasSurvivors: boolean): void {
    if (hasSurvivors) this.#vacancies.add(worker);
    else this.#forget(worker);
    this.#options.listener.exited(worker, status, hasSurvivors);
  }

  #forget(worker: WorkerProcess): void {
    this.#byLeader.delete(worker.pid);
    this.#options.guardian?.remove(worker.pid);
    worker.output?.finish();
    worker.channels.newline?.[Symbol.dispose]();
    worker.channels.sockets?.[Symbol.dispose]();
  }

  /** Kills helpers, and adopted processes of no worker. Not as PID 1, because the container ends with it. */
  killStrays(): void {
    if (process.pid === 1) return;
    this.helpers.killAll();
    for (const pid of listChildren())
      if (pid !== this.#options.guardian?.pid && !this.#byLeader.has(pid)) sendSignal(pid, "SIGKILL");
  }

  /** Stops listening to exits. */
  close(): void {
    process.off("SIGCHLD", this.#onChildSignal);
    this.#vacancies.close();
  }
}
