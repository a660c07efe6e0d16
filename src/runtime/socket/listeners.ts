/**
 * Inspects the TCP sockets that workers opened themselves. Warns once per pool about two causes of lost requests: a
 * worker that stops takes its own accept queue with it, and another process shares the port. Reads /proc a few times in
 * the life of the controller, in small batches between other work. Changes nothing.
 */
import { setImmediate as turn } from "node:timers/promises";
import type { Logger } from "../../base/log.ts";
import type { LifecycleEvent } from "../../core/event.ts";
import { readNumber } from "../os/procFile.ts";
import { listFdTargets, listPids, readCommandLine, readEnvironment, readStat } from "../os/procfs.ts";
import { CONTROLLER_MARK } from "../process/guardian.ts";
import { leftoverOf } from "../process/leftovers.ts";
import { formatListener, isWildcard, type ListeningSocket, readListeners } from "./socketTable.ts";

/** Delays of the inspections after all pools run: a server takes moments to listen, a slow one longer. */
const LOOKS_MS = [3000, 30_000];

/** Processes inspected per turn of the event loop. */
const PROCESSES_PER_TURN = 16;

/** Descriptors of one process inspected per turn: the controller has two for each worker. */
const DESCRIPTORS_PER_TURN = 256;

/** A listening socket that a worker or a process of its session holds. */
export interface HeldSocket extends ListeningSocket {
  readonly pool: string;
  /** Process id of the worker. */
  readonly leader: number;
}

/** A live worker. */
export interface WatchedWorker {
  readonly pool: string;
  readonly leader: number;
}

/** For each pool, the first address on which two of its workers listen with separate sockets. */
export function findSplitAddresses(held: readonly HeldSocket[]): ReadonlyMap<string, string> {
  const firsts = new Map<string, HeldSocket>();
  const split = new Map<string, string>();
  for (const socket of held) {
    const address = formatListener(socket);
    const key = `${socket.pool} ${address}`;
    const first = firsts.get(key);
    if (first === undefined) firsts.set(key, socket);
    else if (first.inode !== socket.inode && first.leader !== socket.leader && !split.has(socket.pool))
      split.set(socket.pool, address);
  }
  return split;
}

/** For each pool, the sockets that take connections from it but are not in `ours`. */
export function findForeign(
  held: readonly HeldSocket[],
  listeners: readonly ListeningSocket[],
  ours: ReadonlySet<string>,
): ReadonlyMap<string, readonly ListeningSocket[]> {
  const foreign = new Map<string, readonly ListeningSocket[]>();
  const strangers = listeners.filter(({ inode }) => !ours.has(inode));
  for (const pool of new Set(held.map((socket) => socket.pool))) {
    const own = held.filter((socket) => socket.pool === pool);
    const rivals = strangers.filter((stranger) => own.some((socket) => overlap(socket, stranger)));
    if (rivals.length > 0) foreign.set(pool, rivals);
  }
  return foreign;
}

function overlap(a: ListeningSocket, b: ListeningSocket): boolean {
  return a.port === b.port && (a.host === b.host || isWildcard(a.host) || isWildcard(b.host));
}

/** Whether the kernel migrates queued connections of a closed socket on the port (ip-sysctl, since Linux 5.14). */
function isMigrating(): boolean {
  return (readNumber("/proc/sys/net/ipv4/tcp_migrate_req") ?? 0) !== 0;
}

/** Follows lifecycle events and logs warnings. */
export class ListenerWatch {
  readonly #workers: () => readonly WatchedWorker[];
  readonly #mark: string;
  readonly #log: Logger;
  /** The address of each pool whose workers have separate sockets on one port. */
  readonly #split = new Map<string, string>();
  readonly #warnedOfLoss = new Set<string>();
  readonly #warnedOfRivals = new Set<string>();
  readonly #askedAtStop = new Set<string>();
  readonly #timers: NodeJS.Timeout[] = [];
  #look: Promise<void> | undefined;
  #isClosed = false;

  /** `workers` returns the live workers; `mark` is the value of CONTROLLER_MARK in their environment. */
  constructor(options: { workers: () => readonly WatchedWorker[]; mark: string; log: Logger }) {
    this.#workers = options.workers;
    this.#mark = options.mark;
    this.#log = options.log;
  }

  /** Call for each lifecycle event; returns at once. */
  handle(event: LifecycleEvent): void {
    if (event.kind === "controller_ready") {
      for (const delayMs of LOOKS_MS) this.#timers.push(setTimeout(() => this.#lookNow(), delayMs).unref());
    } else if (event.kind === "limit_reached" || (event.kind === "stopping" && event.cause !== "shutdown")) {
      this.#oneStops(event.pool);
    } else if (event.kind === "controller_stopping") this.close();
  }

  /** Stops the inspections. */
  close(): void {
    this.#isClosed = true;
    for (const timer of this.#timers) clearTimeout(timer);
  }

  #oneStops(pool: string): void {
    if (this.#warnedOfLoss.has(pool)) return;
    if (this.#warnOfLoss(pool) || this.#askedAtStop.has(pool)) return;
    this.#askedAtStop.add(pool);
    void this.#lookNow().then(() => this.#warnOfLoss(pool));
  }

  /** Warns if needed; returns whether the sockets are split. */
  #warnOfLoss(pool: string): boolean {
    const address = this.#split.get(pool);
    if (address === undefined || this.#isClosed) return false;
    this.#warnedOfLoss.add(pool);
    if (isMigrating()) return true;
    this.#log.warn(
      `workers of pool "${pool}" listen on ${address} with a socket each (SO_REUSEPORT): when one stops, connections that wait in its queue are reset`,
      { hint: "sysctl -w net.ipv4.tcp_migrate_req=1 saves them; so do `sockets:` and `server:` (docs/traffic.md)." },
    );
    return true;
  }

  #lookNow(): Promise<void> {
    this.#look ??= this.#examine()
      .catch((error: unknown) => this.#log.debug("cannot inspect the sockets of workers", { error: String(error) }))
      .finally(() => {
        this.#look = undefined;
      });
    return this.#look;
  }

  async #examine(): Promise<void> {
    const listeners = new Map(readListeners()?.map((socket) => [`socket:[${socket.inode}]`, socket]));
    if (listeners.size === 0) return;
    const poolByLeader = new Map(this.#workers().map(({ pool, leader }) => [leader, pool]));
    const ours = new Set<string>();
    const held: HeldSocket[] = [];
    const others: number[] = [];
    for (const [index, pid] of listPids().entries()) {
      if (index % PROCESSES_PER_TURN === 0) await turn();
      const leader = readStat(pid)?.session ?? 0;
      const pool = poolByLeader.get(leader);
      if (pool === undefined && pid !== process.pid) {
        others.push(pid);
        continue;
      }
      let looked = 0;
      for (const target of listFdTargets(pid)) {
        if (++looked % DESCRIPTORS_PER_TURN === 0) await turn();
        const socket = listeners.get(target);
        if (socket === undefined) continue;
        ours.add(socket.inode);
        if (pool !== undefined) held.push({ ...socket, pool, leader });
      }
    }
    for (const [pool, address] of findSplitAddresses(held)) this.#split.set(pool, address);
    for (const [pool, rivals] of findForeign(held, [...listeners.values()], ours)) {
      if (!this.#warnedOfRivals.has(pool)) await this.#warnOfRivals(pool, rivals, others);
    }
    this.#log.debug("inspected the sockets of workers", { listening: held.length });
  }

  async #warnOfRivals(pool: string, rivals: readonly ListeningSocket[], others: readonly number[]): Promise<void> {
    const addressByTarget = new Map(rivals.map((socket) => [`socket:[${socket.inode}]`, formatListener(socket)]));
    for (const [index, pid] of others.entries()) {
      if (index % PROCESSES_PER_TURN === 0) await turn();
      for (const target of listFdTargets(pid)) {
        const address = addressByTarget.get(target);
        if (address === undefined || this.#isClosed) continue;
        const env = readEnvironment(pid);
        // A process that left its worker's session.
        if (env?.get(CONTROLLER_MARK) === this.#mark) {
          addressByTarget.delete(target);
          continue;
        }
        this.#warnedOfRivals.add(pool);
        const whose = describeOwner(pid, env);
        this.#log.warn(
          `pool "${pool}" shares ${address} with pid ${pid} (${readCommandLine(pid) ?? "?"})${whose}, which receives part of the connections`,
          { hint: "Stop it, or give each its own port; a port in `sockets:` cannot be shared by accident." },
        );
        return;
      }
    }
  }
}

/** Names the worker and the controller that a process belongs to, as part of a sentence. */
function describeOwner(pid: number, env: ReadonlyMap<string, string> | undefined): string {
  const mark = env?.get(CONTROLLER_MARK);
  if (env === undefined || mark === undefined) return "";
  const gone = leftoverOf(pid) === undefined ? "" : ", which has exited";
  return `, worker "${env.get("MONOCEROS_POOL")}-${env.get("MONOCEROS_SLOT")}" of controller ${mark.split(".")[0]}${gone}`;
}
