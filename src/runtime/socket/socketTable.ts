/**
 * The sockets that listen in this network namespace, as the tables of the kernel show them (proc_net_tcp.txt of its
 * documentation, unix(7)). The tables do not name the processes that hold them; socketOwners.ts does.
 */
import { closeSync, createReadStream, openSync, readFileSync, readSync } from "node:fs";
import { readTcpListeners, type UnixListenerFile } from "./socketDiag.ts";

const CHUNK_BYTES = 65_536;

/** A TCP socket that listens. */
export interface ListeningSocket {
  /** `127.0.0.1`, `::1` and so on. */
  readonly host: string;
  readonly port: number;
  readonly inode: string;
}

/** A Unix socket that listens on a path. */
export interface ListeningPath {
  readonly path: string;
  readonly inode: string;
}

/** All sockets that listen at one moment. */
export interface SocketTable {
  /** By port. */
  readonly tcp: ReadonlyMap<number, readonly ListeningSocket[]>;
  readonly unix: readonly ListeningPath[];
  /** Whether the tables could be read, so that a socket that they lack does not listen. */
  readonly isComplete: boolean;
  /** The files of Unix sockets; undefined where the kernel does not tell. Read when it is asked for first. */
  readonly unixFiles: () => readonly UnixListenerFile[] | undefined;
}

/** The sockets that listen in a text of /proc/net/tcp or /proc/net/tcp6 (proc_net_tcp.txt of the kernel's documentation). */
export function parseListeners(table: string): ListeningSocket[] {
  const found: ListeningSocket[] = [];
  for (const line of table.split("\n")) {
    const [, local, , state, , , , , , inode] = line.trim().split(/\s+/u);
    const colon = local?.lastIndexOf(":") ?? -1;
    // 0A is LISTEN.
    if (state !== "0A" || local === undefined || inode === undefined || colon < 0) continue;
    found.push({ host: parseHost(local.slice(0, colon)), port: Number.parseInt(local.slice(colon + 1), 16), inode });
  }
  return found;
}

/** An address as the tables have it: words of 32 bits, each printed as the machine (little endian) holds it. */
function parseHost(hex: string): string {
  return formatHost(Buffer.from(hex, "hex").swap32());
}

/** An IPv4 or IPv6 address from its bytes in network order. */
function formatHost(address: Uint8Array): string {
  const bytes = Buffer.from(address);
  if (bytes.length === 4) return bytes.join(".");
  if (bytes.every((byte) => byte === 0)) return "::";
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2).toString(16));
  // The parser of URLs knows the short form.
  return new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1);
}

/** `127.0.0.1:80`, `[::]:80`. */
export function formatListener({ host, port }: ListeningSocket): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

export function isWildcard(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}

/** The Unix sockets that listen on a path in a text of /proc/net/unix; they have the flag __SO_ACCEPTCON. */
export function parseUnixListeners(table: string): ListeningPath[] {
  const found: ListeningPath[] = [];
  for (const line of table.split("\n")) {
    const [, , , flags, type, , inode, ...path] = line
      .trim()
      .split(" ")
      .filter((field) => field !== "");
    if (flags !== "00010000" || type !== "0001" || inode === undefined || path.length === 0) continue;
    found.push({ path: path.join(" "), inode });
  }
  return found;
}

/** The same sockets by their port. */
export function groupByPort(listeners: readonly ListeningSocket[]): SocketTable["tcp"] {
  const byPort = new Map<number, ListeningSocket[]>();
  for (const socket of listeners) {
    const others = byPort.get(socket.port);
    if (others === undefined) byPort.set(socket.port, [socket]);
    else others.push(socket);
  }
  return byPort;
}

/**
 * The sockets of `tcp` that a connection to 127.0.0.1:`port` can reach. The kernel prefers sockets bound to the exact
 * address over wildcards, and distributes connections among sockets with the same address.
 */
export function reachableOnLoopback(port: number, tcp: SocketTable["tcp"]): readonly ListeningSocket[] {
  const onPort = tcp.get(port) ?? [];
  const exact = onPort.filter(({ host }) => host === "127.0.0.1" || host === "::ffff:7f00:1");
  return exact.length > 0 ? exact : onPort.filter(({ host }) => isWildcard(host));
}

/** All TCP sockets that listen in this network namespace; none if the tables cannot be read. */
export function readListeners(): ListeningSocket[] {
  return readTcpTables() ?? [];
}

/** The same; undefined if a table cannot be read, for example because descriptors are used up. */
export function readTcpTables(): ListeningSocket[] | undefined {
  const listeners = readTcpListeners();
  if (listeners !== undefined)
    return listeners.map(({ address, port, inode }) => ({ host: formatHost(address), port, inode: String(inode) }));
  try {
    return ["/proc/net/tcp", "/proc/net/tcp6"].flatMap((path) => parseListeners(readListenerRows(path)));
  } catch {
    return undefined;
  }
}

/** The head of a table: the kernel prints the sockets that listen first, and connections can be hundreds of thousands. */
function readListenerRows(path: string): string {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (error) {
    // A kernel without IPv6 has no second table.
    if (isMissing(error)) return "";
    throw error;
  }
  try {
    const chunk = Buffer.allocUnsafe(CHUNK_BYTES);
    let text = "";
    for (let length = readSync(fd, chunk); length > 0; length = readSync(fd, chunk)) {
      text += chunk.toString("latin1", 0, length);
      const end = text.lastIndexOf("\n");
      const lastRow = text.slice(text.lastIndexOf("\n", end - 1) + 1, end);
      if (!lastRow.includes(" 0A ")) break;
    }
    return text;
  } finally {
    closeSync(fd);
  }
}

/** All Unix sockets that listen on a path in this network namespace; none if the table cannot be read. */
export function readUnixListeners(): ListeningPath[] {
  return readUnixTable() ?? [];
}

/** The same; undefined if the table cannot be read. */
export function readUnixTable(): ListeningPath[] | undefined {
  try {
    return parseUnixListeners(readFileSync("/proc/net/unix", "utf8"));
  } catch (error) {
    return isMissing(error) ? [] : undefined;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && "code" in error && error.code === "ENOENT";
}

/** Connections to a local port that no process has accepted yet, in a text of /proc/net/tcp or /proc/net/tcp6. */
export function parseWaitingConnections(port: number, table: string): string[] {
  const suffix = `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
  const found: string[] = [];
  for (const line of table.split("\n")) {
    const [, local, remote, state, , , , , , inode] = line.trim().split(/\s+/u);
    // 01 is ESTABLISHED, 08 CLOSE_WAIT: without an inode they have no descriptor yet.
    if (inode !== "0" || remote === undefined || (state !== "01" && state !== "08")) continue;
    if (local?.endsWith(suffix) === true) found.push(remote);
  }
  return found;
}

/** The same at this moment. Reads in portions: there may be hundreds of thousands of connections. */
export async function readWaitingConnections(port: number): Promise<ReadonlySet<string>> {
  const found = new Set<string>();
  for (const path of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    let rest = "";
    try {
      for await (const chunk of createReadStream(path, { encoding: "latin1", highWaterMark: CHUNK_BYTES })) {
        const text = rest + String(chunk);
        const end = text.lastIndexOf("\n");
        rest = text.slice(end + 1);
        for (const remote of parseWaitingConnections(port, text.slice(0, end))) found.add(remote);
      }
    } catch {
      // A kernel without IPv6 has no second table.
    }
  }
  return found;
}
