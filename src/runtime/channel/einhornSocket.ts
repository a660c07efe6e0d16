/**
 * The control socket of Einhorn's protocol, as far as workers need it: a worker connects and sends one line of JSON,
 * `{"command":"worker:ack","pid":123}`, when it is ready. The kernel tells which process sent it.
 */
import { chmodSync, chownSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { FIRST_INHERITED_FD, openListener, socketFamily } from "../os/linux.ts";
import { readPeer } from "../os/peerCredentials.ts";
import type { InheritedSockets } from "../socket/sockets.ts";

const BACKLOG = 128;

/** Maximum length of the line in bytes, and the time limit for sending it. */
const MAX_BYTES = 1024;
const LIMIT_MS = 5000;

/** What the protocol tells a worker about its parent, the control socket, and the sockets that it inherits. */
export function einhornVariables(path: string, { fds }: InheritedSockets): Readonly<Record<string, string>> {
  const sockets = fds.flatMap((fd, index) => [
    [`EINHORN_FD_${index}`, String(FIRST_INHERITED_FD + index)],
    [`EINHORN_FD_FAMILY_${index}`, socketFamily(fd) ?? "AF_INET"],
  ]);
  return {
    EINHORN_MASTER_PID: String(process.pid),
    EINHORN_SOCK_PATH: path,
    EINHORN_FD_COUNT: String(fds.length),
    ...Object.fromEntries(sockets),
  };
}

/** Whether a line acknowledges that a worker is ready. */
export function isAck(line: string): boolean {
  try {
    const message: unknown = JSON.parse(line);
    return typeof message === "object" && message !== null && "command" in message && message.command === "worker:ack";
  } catch {
    return false;
  }
}

export class EinhornSocket implements Disposable {
  readonly path: string;
  readonly #server: Server;
  /** Processes that have acknowledged. A worker can do so before the controller listens. */
  readonly #acknowledged = new Set<number>();
  #expected: { readonly pid: number; notified(): void } | undefined;

  /** Only `owner` (default: this process's user) and root may connect. @throws SystemCallError, Error of the system */
  constructor(path: string, owner: { readonly uid: number; readonly gid: number } | undefined) {
    this.path = path;
    rmSync(path, { force: true });
    const fd = openListener({ family: "Unix", path }, BACKLOG, 0);
    chmodSync(path, 0o600);
    if (owner !== undefined) chownSync(path, owner.uid, owner.gid);
    this.#server = createServer((socket) => this.#serve(socket));
    this.#server.on("error", () => {});
    this.#server.listen({ fd });
    this.#server.unref();
  }

  /** Calls `notified` once, when the process `pid` has acknowledged that it is ready. */
  listen(pid: number, notified: () => void): void {
    this.#expected = { pid, notified };
    this.#check();
  }

  #check(): void {
    const expected = this.#expected;
    if (expected === undefined || !this.#acknowledged.has(expected.pid)) return;
    this.#expected = undefined;
    expected.notified();
  }

  #accept(pid: number): void {
    this.#acknowledged.add(pid);
    this.#check();
  }

  #serve(socket: Socket): void {
    // A worker usually closes the connection right after the line, so its credentials are read first.
    const pid = peerPidOf(socket);
    let text = "";
    socket.on("error", () => socket.destroy());
    socket.setTimeout(LIMIT_MS, () => socket.destroy());
    socket.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      const end = text.indexOf("\n");
      if (end >= 0 && pid !== undefined && isAck(text.slice(0, end))) this.#accept(pid);
      if (end >= 0 || text.length > MAX_BYTES) socket.destroy();
    });
  }

  [Symbol.dispose](): void {
    this.#expected = undefined;
    this.#server.close();
    rmSync(this.path, { force: true });
  }
}

function peerPidOf(socket: Socket): number | undefined {
  const { _handle: handle } = socket as unknown as { readonly _handle?: { readonly fd?: number } };
  return handle?.fd === undefined ? undefined : readPeer(handle.fd)?.pid;
}
