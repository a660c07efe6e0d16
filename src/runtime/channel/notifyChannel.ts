/**
 * The readiness pipe of a worker: the worker writes a newline to a descriptor that it inherits, as in s6. Only the
 * first one counts. Other data is read and dropped, so that a worker that keeps writing is never blocked.
 */
import { closeSync } from "node:fs";
import { Socket } from "node:net";

/** The environment variable that contains the number of the descriptor. */
export const NOTIFY_VARIABLE = "MONOCEROS_NOTIFY_FD";

const NEWLINE = 0x0a;
const BUFFER_BYTES = 512;

export class NotifyChannel implements Disposable {
  readonly #readFd: number;
  #socket: Socket | undefined;
  #isClosed = false;

  /** The channel takes ownership of `readFd`. */
  constructor(readFd: number) {
    this.#readFd = readFd;
  }

  /** Calls `notified` once, at the first newline; never if the worker closes the descriptor without one. */
  listen(notified: () => void): void {
    if (this.#isClosed || this.#socket !== undefined) return;
    let isWaiting = true;
    const socket = new Socket({
      fd: this.#readFd,
      readable: true,
      writable: false,
      onread: {
        buffer: Buffer.allocUnsafeSlow(BUFFER_BYTES),
        callback: (count, buffer) => {
          if (isWaiting && buffer.subarray(0, count).includes(NEWLINE)) {
            isWaiting = false;
            notified();
          }
          return true;
        },
      },
    });
    socket.on("error", () => socket.destroy());
    this.#socket = socket;
  }

  /** Closes the read end; `notified` is not called afterwards. */
  [Symbol.dispose](): void {
    if (this.#isClosed) return;
    this.#isClosed = true;
    if (this.#socket === undefined) closeSync(this.#readFd);
    else this.#socket.destroy();
  }
}
