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

const LOOK_MS = 1000;

export interface AcceptQueueListener {
  /** No worker has accepted a connection from a socket of the pool for too long. */
  stalled(pool: string, reason: string): void;
  /** A worker accepts connections again. */
  resumed(pool: string): void;
}

export class AcceptQueueWatch implements Disposable {
  readonly #clock: Clock;
  readonly #sockets: () => readonly SharedSocket[];
  readonly #wasSeenToWait: (pool: string) => boolean;
  readonly #listener: AcceptQueueListener;
  readonly #queues = new Map<SharedSocket, QueueState>();
  readonly #stalled = new Set<string>();
  #timer: Disposable | undefined;

  constructor(options: {
    clock: Clock;
    /** The open sockets. */
    sockets: () => readonly SharedSocket[];
    /** Whether a worker of the pool was ever seen waiting on its sockets. */
    wasSeenToWait: (pool: string) => boolean;
    listener: AcceptQueueListener;
  }) {
    this.#clock = options.clock;
    this.#sockets = options.sockets;
    this.#wasSeenToWait = options.wasSeenToWait;
    this.#listener = options.listener;
  }

  /** Starts watching, as long as there are sockets. */
  start(): void {
    if (this.#timer === undefined) this.#arm();
  }

  #arm(): void {
    this.#timer = this.#clock.wakeAt((this.#clock.now() + LOOK_MS) as Instant, () => void this.#look());
  }

  async #look(): Promise<void> {
    const sockets = this.#sockets();
    for (const known of this.#queues.keys()) if (!sockets.includes(known)) this.#queues.delete(known);
    const reasons = new Map<string, string>();
    for (const socket of sockets) {
      const state = await this.#sample(socket);
      if (!this.#sockets().includes(socket)) continue;
      this.#queues.set(socket, state);
      const forMs = stalledMs(state, this.#clock.now());
      const count = state.held?.waiting.size ?? 0;
      if (count > 0 && forMs >= stallBoundMs(this.#wasSeenToWait(socket.pool)))
        reasons.set(
          socket.pool,
          `no worker has accepted a connection from socket "${socket.name}" (${socket.address}) for ${formatDuration(Math.floor(forMs / 1000) * 1000)}; ${count} ${count === 1 ? "connection is" : "connections are"} waiting`,
        );
    }
    for (const pool of [...this.#stalled]) {
      if (reasons.has(pool)) continue;
      this.#stalled.delete(pool);
      this.#listener.resumed(pool);
    }
    for (const [pool, reason] of reasons) {
      if (this.#stalled.has(pool)) continue;
      this.#stalled.add(pool);
      this.#listener.stalled(pool, reason);
    }
    if (this.#timer === undefined) return;
    if (sockets.length > 0) this.#arm();
    else this.#timer = undefined;
  }

  async #sample(socket: SharedSocket): Promise<QueueState> {
    const state = this.#queues.get(socket) ?? EMPTY_QUEUE;
    const at = this.#clock.now();
    if (socket.port === undefined) {
      const queue = readUnixQueue(fstatSync(socket.fd).ino);
      return foldQueue(state, { at, length: queue?.length ?? 0, waiting: new Set(queue?.inodes.map(String)) });
    }
    const length = readTcpQueue(socket.fd) ?? 0;
    const waiting = length > 0 && isSuspicious(state) ? await readWaitingConnections(socket.port) : undefined;
    return foldQueue(state, { at, length, waiting });
  }

  [Symbol.dispose](): void {
    this.#timer?.[Symbol.dispose]();
    this.#timer = undefined;
  }
}
