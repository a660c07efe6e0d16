/**
 * The listening sockets of this network namespace, from the kernel's tables (proc_net_tcp.txt of the kernel
 * documentation, unix(7)). The tables do not name the processes that hold them; socketOwners.ts does.
 */
import { closeSync, createReadStream, openSync, readFileSync, readSync } from "node:fs";
import { codeOf } from "../../base/errors.ts";
import { readTcpListeners, type UnixListenerFile } from "./socketDiag.ts";

const CHUNK_BYTES = 65_536;

/** A listening TCP socket. */
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

/** All listening sockets at one moment. */
export interface SocketTable {
  /** By port. */
  readonly tcp: ReadonlyMap<number, readonly ListeningSocket[]>;
  readonly unix: readonly ListeningPath[];
  /** Whether the tables could be read. If so, a socket that is not in them does not listen. */
  readonly isComplete: boolean;
  /** The files of Unix sockets, read on first use; undefined if the kernel does not report them. */
  readonly unixFiles: () => readonly UnixListenerFile[] | undefined;
}

/** Parses the listening sockets in /proc/net/tcp or /proc/net/tcp6 (proc_net_tcp.txt of the kernel documentation). */
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

/** Parses an address of the tables: 32-bit words, each printed in the machine's byte order (little endian). */
function parseHost(hex: string): string {
  return formatHost(Buffer.from(hex, "hex").swap32());
}

/** An IPv4 or IPv6 address from its bytes in network order. */
function formatHost(address: Uint8Array): string {
  const bytes = Buffer.from(address);
  if (bytes.length === 4) return bytes.join(".");
  if (bytes.every((byte) => byte === 0)) return "::";
  const groups = Array.from({ length: 8 }, (_, index) => bytes.readUInt16BE(index * 2).toString(16));
  // The URL parser produces the short form.
  return new URL(`http://[${groups.join(":")}]`).hostname.slice(1, -1);
}

/** `127.0.0.1:80`, `[::]:80`. */
export function formatListener({ host, port }: ListeningSocket): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

export function isWildcard(host: string): boolean {
  return host === "0.0.0.0" || host === "::";
}

/** Parses the Unix sockets that listen on a path in /proc/net/unix; they have the flag __SO_ACCEPTCON. */
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

/**
 * The sockets of `tcp` that a connection to 127.0.0.1:`port` can reach. The kernel prefers sockets bound to the exact
 * address over wildcards, and distributes connections among sockets with the same address.
 */
export function reachableOnLoopback(port: number, tcp: SocketTable["tcp"]): readonly ListeningSocket[] {
  const onPort = tcp.get(port) ?? [];
  const exact = onPort.filter(({ host }) => host === "127.0.0.1" || host === "::ffff:7f00:1");
  return exact.length > 0 ? exact : onPort.filter(({ host }) => isWildcard(host));
}

/**
 * All listening TCP sockets of this network namespace; undefined if a table cannot be read, for example because no
 * descriptor is free.
 */
export function readListeners(): ListeningSocket[] | undefined {
  const listeners = readTcpListeners();
  if (listeners !== undefined)
    return listeners.map(({ address, port, inode }) => ({ host: formatHost(address), port, inode: String(inode) }));
  try {
    return ["/proc/net/tcp", "/proc/net/tcp6"].flatMap((path) => parseListeners(readListenerRows(path)));
  } catch {
    return undefined;
  }
}

/** Reads the head of a table: listening sockets come first, and there may be hundreds of thousands of connections. */
function readListenerRows(path: string): string {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (error) {
    // A kernel without IPv6 has no second table.
    if (codeOf(error) === "ENOENT") return "";
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

/** All Unix sockets that listen on a path in this network namespace; undefined if the table cannot be read. */
export function readUnixListeners(): ListeningPath[] | undefined {
  try {
    return parseUnixListeners(readFileSync("/proc/net/unix", "utf8"));
  } catch (error) {
    return codeOf(error) === "ENOENT" ? [] : undefined;
  }
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

/** The current ones. Reads in chunks: there may be hundreds of thousands of connections. */
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
