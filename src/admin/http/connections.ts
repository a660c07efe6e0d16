/**
 * Enforces a front's connection limit without ever refusing a new client: it drops the connection that has waited
 * longest without sending a request. So neither idle nor slow clients can block others.
 */
import type { Server, ServerResponse } from "node:http";
import type { Socket } from "node:net";

/** Maximum unread bytes of all responses of a front together, streams excluded. */
const MAX_UNREAD_BYTES = 32 << 20;

export interface ConnectionBounds {
  /** Maximum number of concurrent connections. */
  readonly connections: number;
  /** Maximum number of streams among them; less than `connections`. */
  readonly streams: number;
}

export class Connections {
  readonly #bounds: ConnectionBounds;
  /** Connections waiting for a complete request, longest first. */
  readonly #waiting = new Set<Socket>();
  /** Connections whose request is being answered, longest first. */
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

  /** Called when a complete request has been received. Returns false if it needs a stream and none is available. */
  answer(socket: Socket, response: ServerResponse, isStream: boolean): boolean {
    if (isStream && this.#streaming.size >= this.#bounds.streams) return false;
    const set = isStream ? this.#streaming : this.#answering;
    this.#forget(socket);
    set.add(socket);
    // A response may be written long after dispatch; at "prefinish" its end has just been passed to the socket.
    if (!isStream) response.once("prefinish", () => this.boundUnread());
    response.once("close", () => {
      // The connection is closed, or waits for its next request.
      if (set.delete(socket) && !socket.destroyed) this.#waiting.add(socket);
    });
    return true;
  }

  /** Disconnects clients that do not read their responses, longest first, before they hold too much memory. */
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
