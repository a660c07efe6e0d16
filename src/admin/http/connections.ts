/**
 * Keeps a front within its number of connections without ever shutting a new client out: who has waited longest without
 * asking for anything goes first. So neither idle nor slow clients keep others away.
 */
import type { Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** What the answers of a front may have unread in all, streams aside. */
const MAX_UNREAD_BYTES = 32 << 20;

export interface ConnectionBounds {
  /** Connections at a time. */
  readonly connections: number;
  /** Of these, streams; fewer than connections. */
  readonly streams: number;
}

export class Connections {
  readonly #bounds: ConnectionBounds;
  /** Those that wait for a whole request, longest first. */
  readonly #waiting = new Set<Socket>();
  /** Those that are being answered, longest first. */
  readonly #answering = new Set<Socket>();
  readonly #streaming = new Set<Socket>();

  constructor(server: Server, bounds: ConnectionBounds) {
    this.#bounds = bounds;
    server.on("connection", (socket: Socket) => {
      this.#waiting.add(socket);
      socket.once("close", () => this.#forget(socket));
      const count = this.#waiting.size + this.#answering.size + this.#streaming.size;
      if (count > bounds.connections) this.#dropOne();
    });
  }

  /** A request has come as a whole. Whether it may have a stream, where it asks for one. */
  answer(socket: Socket, response: ServerResponse, isStream: boolean): boolean {
    if (isStream && this.#streaming.size >= this.#bounds.streams) return false;
    const set = isStream ? this.#streaming : this.#answering;
    this.#forget(socket);
    set.add(socket);
    // An answer may be written long after its request was dispatched; its end has just been given to the socket then.
    if (!isStream) response.once("prefinish", () => this.boundUnread());
    response.once("close", () => {
      // Closed, or about to wait for the next request.
      if (set.delete(socket) && !socket.destroyed) this.#waiting.add(socket);
    });
    return true;
  }

  /** Clients that do not read what they asked for are cut off, longest first, before they hold too much memory. */
  boundUnread(): void {
    let bytes = 0;
    for (const { writableLength } of this.#answering) bytes += writableLength;
    for (const socket of this.#answering) {
      if (bytes <= MAX_UNREAD_BYTES) return;
      bytes -= socket.writableLength;
      this.#drop(socket);
    }
  }

  #dropOne(): void {
    const [socket] = this.#waiting.size > 0 ? this.#waiting : this.#answering;
    if (socket !== undefined) this.#drop(socket);
  }

  #drop(socket: Socket): void {
    this.#forget(socket);
    socket.destroy();
  }

  #forget(socket: Socket): void {
    this.#waiting.delete(socket);
    this.#answering.delete(socket);
    this.#streaming.delete(socket);
  }
}
