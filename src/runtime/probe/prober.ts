/**
 * Schedules the probes of all workers and notifies the listener of changes. core/policy/probe.ts makes the decisions
 * and probeMethods.ts performs the attempts. This file keeps one timer for the next due attempt and limits concurrent
 * attempts.
 *
 * Invariants: the listener is never notified of an incarnation after `forget`, even if attempts are in progress; each
 * probe has at most one attempt in progress; a timeout starts when the attempt starts, not when it is queued.
 */
import type { Logger } from "../../base/log.ts";
import { after, type Instant } from "../../base/time.ts";
import { type PoolIndex, slotKey, type WorkerRef } from "../../core/identity.ts";
import {
  type AttemptOutcome,
  acceptNotice,
  beginProbes,
  endAttempt,
  nextAttempt,
  type ProbeNews,
  type ProbePolicy,
  type ProbePurpose,
  type ProbeSchedule,
  type ProbeStep,
  startAttempt,
} from "../../core/policy/probe.ts";
import type { NotifySocket } from "../channel/notifySocket.ts";
import type { ReadinessChannel } from "../channel/workerChannels.ts";
import type { Clock } from "../clock.ts";
import type { ExpectedOwner } from "../socket/socketOwners.ts";
import type { ProbeAddress } from "./attempt.ts";
import { DueQueue } from "./dueQueue.ts";
import type { NetworkProbe } from "./networkMethods.ts";

/** How a worker is probed. */
export type ProbeMethod =
  | NetworkProbe
  /** `file` is absolute, `argv` begins with the program's name. */
  | { readonly kind: "exec"; readonly file: string; readonly argv: readonly string[] }
  /** Sends no request: checks whether the worker has sent a keep-alive within the period. */
  | { readonly kind: "watchdog"; readonly periodMs: number }
  /** Sends no request: checks whether a process of the worker waits on one of these shared sockets. */
  | { readonly kind: "serving"; readonly sockets: readonly { readonly name: string; readonly address: string }[] };

/** A probe's method, policy and checks. */
export interface Probe {
  readonly method: ProbeMethod;
  readonly policy: ProbePolicy;
  /** Addresses at which only the worker may listen for an attempt to succeed; evaluated at each success. */
  readonly verify?: () => readonly ProbeAddress[];
}

/** One incarnation to watch, from its spawn on. */
export interface ProbeTarget extends WorkerRef {
  /** The revision that the worker was launched with. */
  readonly revision: number;
  readonly pid: number;
  /** Identifies the worker when looking up socket owners. */
  readonly owner: ExpectedOwner;
  /** Where the worker listens; undefined if it has no port or socket of its own. */
  readonly address: ProbeAddress | undefined;
  readonly startup: Probe | undefined;
  /** `notify`: the worker reports readiness through `readinessChannel`. */
  readonly readiness: Probe | "notify" | undefined;
  readonly liveness: Probe | undefined;
  /** undefined unless the worker reports its own readiness. */
  readonly readinessChannel: ReadinessChannel | undefined;
  /** Where the worker sends its keep-alives; undefined unless it reports through sd_notify. */
  readonly notifySocket?: NotifySocket | undefined;
}

/** Notified only of changes, except for `attempted`. `reason` is a clause that is ready to print. */
export interface ProbeListener {
  /** The worker can serve. Called immediately if there is nothing to wait for. */
  becameReady(worker: WorkerRef): void;
  becameUnready(worker: WorkerRef, reason: string): void;
  /** The worker did not start up in time; no more attempts are made. */
  startupFailed(worker: WorkerRef, reason: string): void;
  /** Attempts continue: a worker that cannot be replaced yet may become alive again. */
  livenessFailed(worker: WorkerRef, reason: string): void;
  /** Liveness succeeded for the first time, or again after it had failed. */
  becameAlive(worker: WorkerRef): void;
  /** Called for each attempt: feeds counters and shows what a worker is waiting for. */
  attempted(target: ProbeTarget, purpose: ProbePurpose, outcome: AttemptOutcome): void;
}

/**
 * Starts one attempt. `settle` is called at most once, and never after disposal. `release` is called when nothing of
 * the attempt runs any more, even after disposal.
 */
export type AttemptStarter = (
  probe: Probe,
  target: ProbeTarget,
  settle: (outcome: AttemptOutcome) => void,
  release: () => void,
) => Disposable;

/** Maximum concurrent attempts, across all workers. */
const MAX_ATTEMPTS = 64;

/** Maximum concurrent commands; each is a process. A pool with none may exceed it by one, so no pool blocks another. */
const MAX_COMMANDS = 8;

/** Minimum interval between log records of the controller's own faults, per pool and probe. */
const FAULT_LOG_MS = 60_000;

interface Watch {
  readonly target: ProbeTarget;
  schedule: ProbeSchedule;
  /** The due time of its queue entry; an entry with a different instant is stale. */
  queuedAt: Instant | undefined;
  readonly underWay: Map<ProbePurpose, Disposable>;
  isOver: boolean;
}

/** A queued attempt. */
interface Waiting {
  readonly watch: Watch;
  readonly purpose: ProbePurpose;
  readonly probe: Probe;
}

export class Prober {
  readonly #clock: Clock;
  readonly #random: () => number;
  readonly #listener: ProbeListener;
  readonly #log: Logger;
  readonly #start: AttemptStarter;
  readonly #watches = new Map<string, Watch>();
  readonly #due = new DueQueue<Watch>();
  readonly #waiting: { readonly connections: Waiting[]; readonly commands: Waiting[] } = {
    connections: [],
    commands: [],
  };
  readonly #faultLoggedAt = new Map<string, Instant>();
  #timer: { readonly at: Instant; readonly timer: Disposable } | undefined;
  #attempts = 0;
  #commands = 0;
  /** Running commands by pool index. */
  readonly #commandsOf = new Map<PoolIndex, number>();
  #isStarting = false;

  /** `start` comes from probeStarter of probeMethods.ts. */
  constructor(options: {
    clock: Clock;
    random: () => number;
    listener: ProbeListener;
    log: Logger;
    start: AttemptStarter;
  }) {
    this.#clock = options.clock;
    this.#random = options.random;
    this.#listener = options.listener;
    this.#log = options.log;
    this.#start = options.start;
  }

  /** Number of attempts in progress. */
  get attemptsUnderWay(): number {
    return this.#attempts;
  }

  /**
   * Watches a new incarnation and forgets an earlier one of the slot. If the worker has nothing to wait for, the
   * listener is notified that it is ready before this returns.
   */
  watch(target: ProbeTarget): void {
    const key = slotKey(target);
    const previous = this.#watches.get(key);
    if (previous !== undefined) this.#end(previous);
    const { startup, readiness, liveness, readinessChannel } = target;
    const step = beginProbes(
      {
        startup: startup?.policy,
        readiness: readiness === "notify" ? "notify" : readiness?.policy,
        liveness: liveness?.policy,
      },
      this.#clock.now(),
      this.#random(),
    );
    const watch: Watch = { target, schedule: step.schedule, queuedAt: undefined, underWay: new Map(), isOver: false };
    this.#watches.set(key, watch);
    if (readiness === "notify") readinessChannel?.listen(() => this.#accept(watch, acceptNotice(watch.schedule)));
    this.#accept(watch, step);
    this.#arm();
  }

  /** Stops probing an incarnation that has exited or is stopping; the listener is not notified of it again. */
  forget(worker: WorkerRef): void {
    const key = slotKey(worker);
    const watch = this.#watches.get(key);
    if (watch?.target.incarnation !== worker.incarnation) return;
    this.#watches.delete(key);
    this.#end(watch);
    this.#startWaiting();
  }

  /** Forgets all incarnations. */
  close(): void {
    for (const { target } of [...this.#watches.values()]) this.forget(target);
    this.#timer?.timer[Symbol.dispose]();
    this.#timer = undefined;
  }

  #end(watch: Watch): void {
    watch.isOver = true;
    watch.target.readinessChannel?.[Symbol.dispose]();
    for (const attempt of [...watch.underWay.values()]) attempt[Symbol.dispose]();
    watch.underWay.clear();
  }

  /** Applies a decision: notifies the listener of changes and queues the next attempt. */
  #accept(watch: Watch, step: ProbeStep): void {
    if (watch.isOver) return;
    watch.schedule = step.schedule;
    this.#queue(watch);
    // The listener may forget the worker during any notification.
    for (const news of step.news) if (!watch.isOver) this.#notify(watch.target, news);
  }

  #notify(worker: WorkerRef, news: ProbeNews): void {
    switch (news.kind) {
      case "becameReady":
      case "becameAlive":
        this.#listener[news.kind](worker);
        return;
      case "becameUnready":
      case "startupFailed":
      case "livenessFailed":
        this.#listener[news.kind](worker, news.reason);
        return;
    }
  }

  #queue(watch: Watch): void {
    const dueAt = nextAttempt(watch.schedule)?.dueAt;
    if (dueAt === watch.queuedAt) return;
    watch.queuedAt = dueAt;
    if (dueAt !== undefined) this.#due.add(dueAt, watch);
  }

  /** Sets the one timer to the first due instant. */
  #arm(): void {
    const at = this.#due.firstAt;
    if (at === this.#timer?.at) return;
    this.#timer?.timer[Symbol.dispose]();
    this.#timer = at === undefined ? undefined : { at, timer: this.#clock.wakeAt(at, () => this.#wake()) };
  }

  #wake(): void {
    this.#timer = undefined;
    const now = this.#clock.now();
    for (let entry = this.#due.takeDue(now); entry !== undefined; entry = this.#due.takeDue(now)) {
      const watch = entry.item;
      if (watch.isOver || watch.queuedAt !== entry.at) continue;
      watch.queuedAt = undefined;
      for (let next = nextAttempt(watch.schedule); next !== undefined; next = nextAttempt(watch.schedule)) {
        if (next.dueAt > now) break;
        this.#becomeDue(watch, next.purpose, now);
      }
      this.#queue(watch);
    }
    this.#startWaiting();
    this.#arm();
  }

  #becomeDue(watch: Watch, purpose: ProbePurpose, now: Instant): void {
    watch.schedule = startAttempt(watch.schedule, purpose, now, this.#random());
    const probe = watch.target[purpose];
    if (probe === undefined || probe === "notify") return;
    const line = probe.method.kind === "exec" ? this.#waiting.commands : this.#waiting.connections;
    line.push({ watch, purpose, probe });
  }

  /** Starts queued attempts up to the limits. */
  #startWaiting(): void {
    // An attempt can end while it is being started, which calls this method again.
    if (this.#isStarting) return;
    this.#isStarting = true;
    try {
      for (let next = this.#nextWaiting(); next !== undefined; next = this.#nextWaiting()) this.#startOne(next);
    } finally {
      this.#isStarting = false;
    }
  }

  #nextWaiting(): Waiting | undefined {
    if (this.#attempts >= MAX_ATTEMPTS) return undefined;
    return this.#nextCommand() ?? this.#waiting.connections.shift();
  }

  #nextCommand(): Waiting | undefined {
    const { commands } = this.#waiting;
    if (this.#commands < MAX_COMMANDS) return commands.shift();
    const index = commands.findIndex(({ watch }) => (this.#commandsOf.get(watch.target.pool) ?? 0) === 0);
    return index === -1 ? undefined : commands.splice(index, 1)[0];
  }

  #countCommand(pool: PoolIndex, change: 1 | -1): void {
    this.#commands += change;
    this.#commandsOf.set(pool, (this.#commandsOf.get(pool) ?? 0) + change);
  }

  #startOne({ watch, purpose, probe }: Waiting): void {
    if (watch.isOver) return;
    const isCommand = probe.method.kind === "exec";
    this.#attempts++;
    const { pool } = watch.target;
    if (isCommand) this.#countCommand(pool, 1);
    let isReleased = false;
    let isSettled = false;
    const release = () => {
      if (isReleased) return;
      isReleased = true;
      this.#attempts--;
      if (isCommand) this.#countCommand(pool, -1);
      this.#startWaiting();
    };
    const settle = (outcome: AttemptOutcome) => {
      isSettled = true;
      watch.underWay.delete(purpose);
      this.#settled(watch, purpose, outcome);
    };
    const attempt = this.#start(probe, watch.target, settle, release);
    if (!isSettled) watch.underWay.set(purpose, attempt);
  }

  #settled(watch: Watch, purpose: ProbePurpose, outcome: AttemptOutcome): void {
    if (watch.isOver) return;
    const { pool } = watch.target;
    this.#listener.attempted(watch.target, purpose, outcome);
    if (outcome.kind === "error") this.#logFault(pool, purpose, outcome.reason);
    this.#accept(watch, endAttempt(watch.schedule, purpose, outcome, this.#clock.now(), this.#random()));
    this.#arm();
  }

  #logFault(pool: PoolIndex, purpose: ProbePurpose, reason: string): void {
    const key = `${pool}/${purpose}`;
    const now = this.#clock.now();
    const loggedAt = this.#faultLoggedAt.get(key);
    if (loggedAt !== undefined && now < after(loggedAt, FAULT_LOG_MS)) return;
    this.#faultLoggedAt.set(key, now);
    this.#log.warn(`a ${purpose} probe could not be attempted; it does not count against the worker`, { pool, reason });
  }
}
