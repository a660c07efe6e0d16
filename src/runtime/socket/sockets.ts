/**
 * The sockets of shared-socket mode. The controller binds them before any worker starts and keeps them open until their
 * pool begins to stop. Every worker inherits them; only workers accept connections. The accept queue belongs to the
 * socket, not to a worker, so no waiting connection is lost when a worker exits.
 *
 * Invariants: a socket file on which a process listens, and any file that is not a socket, is never removed. Closing a
 * socket removes only the file that was created here.
 */

import { closeSync, lstatSync, rmSync, type Stats } from "node:fs";
import { connect, isIP } from "node:net";
import { ControllerError, codeOf, messageOf } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { boundPort, FIRST_INHERITED_FD, openListener } from "../os/linux.ts";
import { readNumber } from "../os/procFile.ts";
import { findListener, findUnixListener, formatHolder } from "../os/procfs.ts";
import { LeftoverWait } from "../process/leftovers.ts";
import { openTcpListener, type TcpTarget } from "./tcpListener.ts";

/** A socket that a pool requires. */
export interface SocketRequest {
  readonly pool: string;
  readonly name: string;
  /** `address:port`, with IPv6 in brackets and no address for all addresses; or an absolute path. */
  readonly listen: string;
  /** Connections that may wait to be accepted. */
  readonly backlog: number;
}

/** A bound socket. */
export interface SharedSocket {
  readonly pool: string;
  readonly name: string;
  /** The controller's descriptor. */
  readonly fd: number;
  /** As it is bound: `0.0.0.0:41233`, `[::]:8080` or a path. */
  readonly address: string;
  /** undefined for a Unix socket. */
  readonly port: number | undefined;
}

/** The sockets that each worker of a pool inherits. */
export interface InheritedSockets {
  /** The controller's descriptors, which become 3, 4 and so on. */
  readonly fds: readonly number[];
  /** Their names in the same order, for LISTEN_FDNAMES. */
  readonly names: readonly string[];
}

/** The parsed `listen` of a socket. */
export type ListenTarget = ({ readonly kind: "tcp" } & TcpTarget) | { readonly kind: "unix"; readonly path: string };

/** Parses `address:port`, `[address]:port`, `:port` and absolute paths, which the configuration has checked. */
export function parseListen(listen: string): ListenTarget {
  if (listen.startsWith("/")) return { kind: "unix", path: listen };
  const colon = listen.lastIndexOf(":");
  return {
    kind: "tcp",
    host: listen.slice(0, colon).replace(/^\[(.*)\]$/u, "$1"),
    port: Number(listen.slice(colon + 1)),
  };
}

interface BoundSocket extends SharedSocket {
  /** Of a Unix socket: the file, and what distinguishes it from another one at the same path. */
  readonly file: { readonly path: string; readonly stats: Stats } | undefined;
}

/** All sockets of all pools. Disposing closes the remaining ones. */
export class SharedSockets implements Disposable {
  readonly #sockets = new Set<BoundSocket>();
  readonly #log: Logger;

  private constructor(log: Logger) {
    this.#log = log;
  }

  /** Binds all sockets or none. @throws ControllerError PORT_IN_USE, SOCKET_IN_USE, ADDRESS_UNAVAILABLE */
  static async bind(requests: readonly SocketRequest[], log: Logger): Promise<SharedSockets> {
    const sockets = new SharedSockets(log);
    try {
      await sockets.add(requests);
      return sockets;
    } catch (error) {
      sockets[Symbol.dispose]();
      throw error;
    }
  }

  /** Binds all additional sockets or none. @throws ControllerError PORT_IN_USE, SOCKET_IN_USE, ADDRESS_UNAVAILABLE */
  async add(requests: readonly SocketRequest[]): Promise<void> {
    const before = new Set(this.#sockets);
    try {
      for (const request of requests) await this.#bind(request, lowestFd(requests));
    } catch (error) {
      for (const socket of this.#sockets) if (!before.has(socket)) this.#close(socket);
      throw error;
    }
  }

  /** The open sockets, in the order of the configuration. */
  list(): readonly SharedSocket[] {
    return [...this.#sockets];
  }

  /** The sockets that the workers of a pool inherit; undefined for a pool without sockets. */
  inheritedBy(pool: string): InheritedSockets | undefined {
    const own = this.list().filter((socket) => socket.pool === pool);
    return own.length === 0 ? undefined : { fds: own.map(({ fd }) => fd), names: own.map(({ name }) => name) };
  }

  /**
   * Call when the pool stops. From then on, the socket lives as long as a worker holds it. A client is refused once the
   * last worker closes it, instead of waiting and being reset when the controller exits.
   */
  release(pool: string): void {
    for (const socket of this.#sockets) if (socket.pool === pool) this.#close(socket);
  }

  [Symbol.dispose](): void {
    for (const socket of this.#sockets) this.#close(socket);
  }

  async #bind(request: SocketRequest, lowest: number): Promise<void> {
    const { pool, name, backlog } = request;
    const socket = await bindSocket(request, lowest, this.#log);
    this.#sockets.add(socket);
    this.#log.debug("a shared socket listens", { pool, socket: name, address: socket.address, backlog });
    const most = readNumber("/proc/sys/net/core/somaxconn");
    if (most !== undefined && backlog > most)
      this.#log.warn(`backlog ${backlog} of socket "${name}" of pool "${pool}" is cut to ${most}`, {
        hint: `sysctl -w net.core.somaxconn=${backlog}`,
      });
  }

  #close(socket: BoundSocket): void {
    this.#sockets.delete(socket);
    closeSync(socket.fd);
    if (socket.file === undefined) return;
    const { path, stats } = socket.file;
    const there = lstatSync(path, { throwIfNoEntry: false });
    if (there?.ino === stats.ino && there.dev === stats.dev) rmSync(path, { force: true });
  }
}

/** A number above every descriptor that a worker of any pool inherits. */
function lowestFd(requests: readonly SocketRequest[]): number {
  return FIRST_INHERITED_FD + requests.length;
}

/** Waits for workers of a controller that was killed, which are about to exit. @throws ControllerError */
async function bindSocket(request: SocketRequest, lowest: number, log: Logger): Promise<BoundSocket> {
  const { pool, name, listen } = request;
  const target = parseListen(listen);
  const isUnix = target.kind === "unix";
  for (const leftovers = new LeftoverWait(`socket "${name}"`, log); ; ) {
    try {
      return isUnix ? await bindUnix(request, target.path, lowest) : await bindTcp(request, target, lowest);
    } catch (error) {
      if (error instanceof ControllerError) throw error;
      if (!(error instanceof InUseError) && codeOf(error) !== "EADDRINUSE") throw unavailable(request, error);
      const holder = isUnix ? findUnixListener(target.path) : findListener(target.port);
      if (await leftovers.isWorthIt(holder)) continue;
      const what = `${formatHolder(holder)} ${isUnix ? "listens there" : "holds the port"}`;
      throw new ControllerError(isUnix ? "SOCKET_IN_USE" : "PORT_IN_USE", `${cannotListen(request)}: ${what}`, {
        cause: error,
        hint: `Stop it, or let the socket "${name}" of pool "${pool}" listen elsewhere.`,
      });
    }
  }
}

async function bindTcp(
  { pool, name, backlog }: SocketRequest,
  target: TcpTarget,
  lowest: number,
): Promise<BoundSocket> {
  const { fd, host } = await openTcpListener(target, backlog, lowest);
  const port = boundPort(fd);
  return { pool, name, fd, address: isIP(host) === 6 ? `[${host}]:${port}` : `${host}:${port}`, port, file: undefined };
}

async function bindUnix(request: SocketRequest, path: string, lowest: number): Promise<BoundSocket> {
  const { pool, name, backlog } = request;
  await removeStale(request, path);
  const fd = openListener({ family: "Unix", path }, backlog, lowest);
  return { pool, name, fd, address: path, port: undefined, file: { path, stats: lstatSync(path) } };
}

/** A process has bound the path. */
class InUseError extends Error {
  override readonly name = "InUseError";
}

/** Removes a socket file on which no process listens. @throws InUseError, ControllerError ADDRESS_UNAVAILABLE */
async function removeStale(request: SocketRequest, path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket())
    throw new ControllerError(
      "ADDRESS_UNAVAILABLE",
      `${cannotListen(request)}: the file there is not a socket, so it is kept`,
    );
  // A socket that is bound but does not listen yet refuses too, but a process holds it.
  if (!(await refuses(path)) || findUnixListener(path) !== undefined) throw new InUseError(path);
  rmSync(path, { force: true });
}

function refuses(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(false);
    });
    socket.once("error", (error: NodeJS.ErrnoException) =>
      resolve(error.code === "ECONNREFUSED" || error.code === "ENOENT"),
    );
  });
}

function cannotListen({ pool, name, listen }: SocketRequest): string {
  return `Cannot listen on "${listen}" for socket "${name}" of pool "${pool}"`;
}

function unavailable(request: SocketRequest, error: unknown): ControllerError {
  const code = codeOf(error);
  const { kind } = parseListen(request.listen);
  const hint =
    code === "EACCES" && kind === "tcp"
      ? "Ports below net.ipv4.ip_unprivileged_port_start need root or CAP_NET_BIND_SERVICE."
      : code === "ENOENT" && kind === "unix"
        ? "The directory must exist."
        : undefined;
  const what = code ?? messageOf(error);
  return new ControllerError("ADDRESS_UNAVAILABLE", `${cannotListen(request)}: ${what}`, { cause: error, hint });
}
