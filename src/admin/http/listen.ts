/**
 * Binds the admin port and the control socket, or reports which process holds them. Never removes a socket that another
 * controller answers on, nor a file that is not a socket.
 */
import { lstatSync, mkdirSync, rmSync } from "node:fs";
import type { Server } from "node:http";
import { connect, type Server as NetServer } from "node:net";
import { dirname } from "node:path";
import { ControllerError, codeOf, messageOf } from "../../base/errors.ts";
import { distrustOf } from "../../files/inspectPath.ts";

/** Binds an address and a port and listens. Resolves with a descriptor that the caller owns. */
export type OpenPort = (address: string, port: number) => Promise<number>;

/** Binds a Unix socket and listens. Returns a descriptor that the caller owns; closing it does not remove the file. */
export type OpenSocket = (path: string, backlog: number) => number;

/** The file of a socket, and what distinguishes it from another socket at the same path. */
export interface SocketFile {
  readonly path: string;
  /** undefined if the file was removed immediately. */
  readonly identity: string | undefined;
}

/** Finds the process that listens on a port or a socket path; undefined if unknown. */
export interface ListenerFinder {
  onPort(port: number): { pid: number; command: string } | undefined;
  onSocket(path: string): { pid: number; command: string } | undefined;
}

/** Listen backlog. Unlike TCP, a Unix socket refuses connections immediately when its queue is full. */
const BACKLOG = 4096;

/** Expected reasons why a default path is unusable; not reported if another path works. */
const EXPECTED_REFUSALS: ReadonlySet<string> = new Set(["EACCES", "EPERM", "EROFS"]);

/** Listens on TCP and returns the bound port (for port 0). @throws ControllerError PORT_IN_USE, ADDRESS_UNAVAILABLE */
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

/** Listens on the socket of a descriptor; the server then owns it. */
function listenOnDescriptor(server: NetServer, fd: number): Promise<void> {
  return new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.once("listening", () => {
      server.off("error", reject);
      resolve();
    });
    // listen() ends up calling this, but first loads node:cluster and node:child_process, which costs 5 ms per start.
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
    hint: "Stop it, or set admin.port to another port.",
  });
}

/**
 * Listens on the first usable path; undefined if none is usable. `reasons` lists unexpected failures, or the failure of
 * every path if none is usable. If there is only one path and another process holds it, the call throws.
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
      // An explicitly chosen path has no fallback; default paths are interchangeable.
      if (error instanceof ControllerError && candidates.length === 1) throw error;
      const reason = `${path}: ${messageOf(error)}`;
      reasons.push(reason);
      if (!EXPECTED_REFUSALS.has(codeOf(error) ?? "")) surprises.push(reason);
    }
  }
  return { file: undefined, reasons };
}

/**
 * Binds the socket with mode 0600 and makes `server` listen on it; creates the directory if it is missing.
 * @throws ControllerError CONTROL_SOCKET_IN_USE, CONTROL_SOCKET_UNSAFE, or the system error
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
  // Listen by descriptor: given a path, Node.js would remove the file on close, even if another process owns it.
  await listenOnDescriptor(server, fd);
  return { path, identity };
}

/**
 * Identifies the socket file at a path; undefined if there is none. Valid while the socket is open, because the
 * kernel does not reuse its inode until then.
 */
export function identityOf(path: string): string | undefined {
  const found = lstatSync(path, { throwIfNoEntry: false });
  return found === undefined ? undefined : `${found.dev}:${found.ino}`;
}

/** Creates the directory if it is missing. Creates and removes nothing where another user could interfere. */
function makeTrustedDirectory(directory: string): void {
  requireTrusted(directory);
  // Other users may traverse it to reach their own files; only the owner can use the socket itself.
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
      `Cannot listen on control socket "${path}": the file exists and is not a socket`,
    );
  if (await answers(path)) {
    const holder = find.onSocket(path);
    const who = holder === undefined ? "another process" : `pid ${holder.pid} (${holder.command})`;
    throw new ControllerError(
      "CONTROL_SOCKET_IN_USE",
      `Cannot listen on control socket "${path}": ${who} listens on it`,
      { hint: "Stop it, or set admin.socket to another path." },
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
