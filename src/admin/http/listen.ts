/**
 * Binds the admin port and the control socket, or says who holds them. Never removes what another controller answers
 * on, nor anything that is no socket.
 */
import { lstatSync, mkdirSync, rmSync } from "node:fs";
import type { Server } from "node:http";
import { connect, type Server as NetServer } from "node:net";
import { dirname } from "node:path";
import { ControllerError } from "../../base/errors.ts";
import { distrustOf } from "../../files/inspectPath.ts";

/** Binds an address and a port and listens. Resolves with a descriptor that is the caller's. */
export type OpenPort = (address: string, port: number) => Promise<number>;

/** Binds a Unix socket and listens. Returns a descriptor that is the caller's: whoever closes it removes no file. */
export type OpenSocket = (path: string, backlog: number) => number;

/** The file of a socket, and what distinguishes it from another socket at the same path. */
export interface SocketFile {
  readonly path: string;
  /** undefined where it was removed at once. */
  readonly identity: string | undefined;
}

/** Finds the process that listens on a port or a socket path; undefined where it cannot be known. */
export interface ListenerFinder {
  onPort(port: number): { pid: number; command: string } | undefined;
  onSocket(path: string): { pid: number; command: string } | undefined;
}

/** Connections that may wait to be accepted. A Unix socket with a full queue refuses at once, unlike a port. */
const BACKLOG = 4096;

/** Ordinary reasons why a default place cannot be used, not worth a word when another one can. */
const EXPECTED_REFUSALS: ReadonlySet<string> = new Set(["EACCES", "EPERM", "EROFS"]);

/** Listens on TCP and returns the port (of use where 0 was asked for). @throws ControllerError PORT_IN_USE, ADDRESS_UNAVAILABLE */
export async function listenOnPort(
  server: Server,
  port: number,
  address: string,
  open: OpenPort,
  find: ListenerFinder,
): Promise<number> {
  const fd = await open(address, port).catch((error: NodeJS.ErrnoException) => {
    throw cannotListen(`"${address.includes(":") ? `[${address}]` : address}:${port}"`, port, error, find);
  });
  await listenOnDescriptor(server, fd);
  const bound = server.address();
  return typeof bound === "object" && bound !== null ? bound.port : port;
}

/** Listens with the socket of a descriptor, which from now on is the server's. */
function listenOnDescriptor(server: NetServer, fd: number): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.once("listening", () => {
      server.off("error", reject);
      resolve();
    });
    // What listen() calls in the end. It loads node:cluster and node:child_process first, 5 ms of each start.
    const listenDirectly: unknown = Reflect.get(server, "_listen2");
    if (typeof listenDirectly === "function") listenDirectly.call(server, null, null, null, BACKLOG, fd);
    else server.listen({ fd, backlog: BACKLOG });
  });
}

function cannotListen(
  where: string,
  port: number,
  error: NodeJS.ErrnoException,
  find: ListenerFinder,
): ControllerError {
  const text = `Cannot listen on admin address ${where}`;
  if (error.code !== "EADDRINUSE")
    return new ControllerError("ADDRESS_UNAVAILABLE", `${text}: ${error.code ?? error.message}`, { cause: error });
  const holder = find.onPort(port);
  const who = holder === undefined ? "another process" : `pid ${holder.pid} (${holder.command})`;
  return new ControllerError("PORT_IN_USE", `${text}: ${who} holds the port`, {
    cause: error,
    hint: "End it, or set admin.port.",
  });
}

/**
 * Listens on the first of the paths that can be used; undefined where none can. `reasons` are surprises on the way, or
 * where no path is left the reason of each. A path that is the only one is refused aloud where somebody else has it.
 * @throws ControllerError CONTROL_SOCKET_IN_USE, CONTROL_SOCKET_UNSAFE
 */
export async function listenOnSocket(
  server: Server,
  candidates: readonly string[],
  find: ListenerFinder,
  open: OpenSocket,
): Promise<{ file: SocketFile | undefined; reasons: readonly string[] }> {
  const reasons: string[] = [];
  const surprises: string[] = [];
  for (const path of candidates) {
    try {
      return { file: await bindSocket(server, path, find, open), reasons: surprises };
    } catch (error) {
      // With a path of one's own choice there is nothing to fall back to; otherwise the next place is as good.
      if (error instanceof ControllerError && candidates.length === 1) throw error;
      const reason = `${path}: ${error instanceof Error ? error.message : String(error)}`;
      reasons.push(reason);
      const isExpected = error instanceof Error && "code" in error && EXPECTED_REFUSALS.has(String(error.code));
      if (!isExpected) surprises.push(reason);
    }
  }
  return { file: undefined, reasons };
}

/**
 * Binds the socket with mode 0600 and has `server` listen on it; a directory that is missing is made.
 * @throws ControllerError CONTROL_SOCKET_IN_USE, CONTROL_SOCKET_UNSAFE, or the error of the system
 */
export async function bindSocket(
  server: NetServer,
  path: string,
  find: ListenerFinder,
  open: OpenSocket,
): Promise<SocketFile> {
  makeTrustedDirectory(dirname(path));
  await removeStaleSocket(path, find);
  const umask = process.umask(0o177);
  let fd: number;
  try {
    fd = open(path, BACKLOG);
  } finally {
    process.umask(umask);
  }
  const identity = identityOf(path);
  // By its descriptor: given a path, Node.js would remove the file at the end, whoever it belongs to by then.
  await listenOnDescriptor(server, fd);
  return { path, identity };
}

/**
 * What tells the socket at a path from another one; undefined where nothing is there. Valid while the socket is open: the
 * kernel does not use its inode again before.
 */
export function identityOf(path: string): string | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found === undefined ? undefined : `${found.dev}:${found.ino}`;
}

/** Creates the directory if it is missing. Nothing is created, or removed, where another user has a hand. */
function makeTrustedDirectory(directory: string): void {
  requireTrusted(directory);
  // Others may pass through it to what is theirs; the socket itself is for its owner only.
  mkdirSync(directory, { recursive: true, mode: 0o711 });
  requireTrusted(directory);
}

function requireTrusted(directory: string): void {
  const distrust = distrustOf(directory);
  if (distrust === undefined) return;
  throw new ControllerError(
    "CONTROL_SOCKET_UNSAFE",
    `Cannot use directory "${directory}" for the control socket: ${distrust.reason}`,
    { hint: distrust.hint },
  );
}

async function removeStaleSocket(path: string, find: ListenerFinder): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found === undefined) return;
  if (!found.isSocket())
    throw new ControllerError(
      "CONTROL_SOCKET_UNSAFE",
      `Cannot listen on control socket "${path}": there is something that is no socket`,
    );
  if (await answers(path)) {
    const holder = find.onSocket(path);
    const who = holder === undefined ? "another process" : `pid ${holder.pid} (${holder.command})`;
    throw new ControllerError(
      "CONTROL_SOCKET_IN_USE",
      `Cannot listen on control socket "${path}": ${who} answers there`,
      {
        hint: "Stop it, or set admin.socket to another path.",
      },
    );
  }
  rmSync(path, { force: true });
}

function answers(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path);
    socket.once("connect", () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code === "EAGAIN" || error.code === "EACCES"));
  });
}
