/** Watches the accept queues of the shared sockets and reports pools whose workers accept no connections. */
import { fstatSync } from "node:fs";
import type { Instant } from "../../base/time.ts";
import { formatDuration } from "../../base/units.ts";
import {
  EMPTY_QUEUE,
  foldQueue,
  isSuspicious,
  type QueueState,
  stallBoundMs,
  stalledMs,
} from "../../core/policy/acceptQueue.ts";
import type { Clock } from "../../runtime/clock.ts";
import { readTcpQueue } from "../../runtime/os/linux.ts";
import { readUnixQueue } from "../../runtime/socket/socketDiag.ts";
import type { SharedSocket } from "../../runtime/socket/sockets.ts";
import { readWaitingConnections } from "../../runtime/socket/socketTable.ts";
import { Rounds } from "../watch/rounds.ts";

const LOOK_MS = 1000;

export interface AcceptQueueWatchOptions {
  readonly clock: Clock;
  /** The open sockets. */
  readonly sockets: () => readonly SharedSocket[];
  /**
   * Called when no worker has accepted a connection from a socket of the pool for too long, with the reason, and with
   * undefined when one accepts connections again.
   */
  readonly changed: (pool: string, stalled: string | undefined) => void;
}

export class AcceptQueueWatch implements Disposable {
  readonly #options: AcceptQueueWatchOptions;
  readonly #queues = new Map<SharedSocket, QueueState>();
  readonly #stalled = new Set<string>();
  /** Pools with a worker that was seen waiting on a socket. */
  readonly #seenToWait = new Set<string>();
  readonly #rounds: Rounds;

  constructor(options: AcceptQueueWatchOptions) {
    this.#options = options;
    this.#rounds = new Rounds({
      clock: options.clock,
      everyMs: LOOK_MS,
      isNeeded: () => options.sockets().length > 0,
      look: () => this.#look(),
    });
  }

  /** Starts watching, as long as there are sockets. */
  start(): void {
    this.#rounds.start();
  }

  /** A worker of the pool was seen waiting on one of its sockets. */
  seenToWait(pool: string): void {
    this.#seenToWait.add(pool);
  }

  async #look(): Promise<void> {
    const { clock, sockets, changed } = this.#options;
    for (const known of this.#queues.keys()) if (!sockets().includes(known)) this.#queues.delete(known);
    const reasons = new Map<string, string>();
    for (const socket of sockets()) {
      const state = await this.#sample(socket);
      if (!sockets().includes(socket)) continue;
      this.#queues.set(socket, state);
      const reason = describeStall(socket, state, clock.now(), this.#seenToWait.has(socket.pool));
      if (reason !== undefined) reasons.set(socket.pool, reason);
    }
    for (const pool of [...this.#stalled]) {
      if (reasons.has(pool)) continue;
      this.#stalled.delete(pool);
      changed(pool, undefined);
    }
    for (const [pool, reason] of reasons) {
      if (this.#stalled.has(pool)) continue;
      this.#stalled.add(pool);
      changed(pool, reason);
    }
  }

  async #sample(socket: SharedSocket): Promise<QueueState> {
    const state = this.#queues.get(socket) ?? EMPTY_QUEUE;
    const at = this.#options.clock.now();
    if (socket.port === undefined) {
      const queue = readUnixQueue(fstatSync(socket.fd).ino);
      return foldQueue(state, { at, length: queue?.length ?? 0, waiting: new Set(queue?.inodes.map(String)) });
    }
    const length = readTcpQueue(socket.fd) ?? 0;
    const waiting = length > 0 && isSuspicious(state) ? await readWaitingConnections(socket.port) : undefined;
    return foldQueue(state, { at, length, waiting });
  }

  [Symbol.dispose](): void {
    this.#rounds[Symbol.dispose]();
  }
}

/** undefined if connections do not wait for too long. */
export function describeStall(
  { name, address }: Pick<SharedSocket, "name" | "address">,
  state: QueueState,
  now: Instant,
  wasSeenToWait: boolean,
): string | undefined {
  const forMs = stalledMs(state, now);
  const count = state.held?.waiting.size ?? 0;
  if (count === 0 || forMs < stallBoundMs(wasSeenToWait)) return undefined;
  const duration = formatDuration(Math.floor(forMs / 1000) * 1000);
  const waiting = count === 1 ? "connection is" : "connections are";
  return `no worker has accepted a connection from socket "${name}" (${address}) for ${duration}; ${count} ${waiting} waiting`;
}
