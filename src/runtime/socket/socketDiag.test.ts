import assert from "node:assert/strict";
import { once } from "node:events";
import { readdirSync, readFileSync, readlinkSync } from "node:fs";
import { createServer, type ListenOptions } from "node:net";
import { test } from "node:test";
import { readTcpListeners } from "./socketDiag.ts";
import { formatListener, type ListeningSocket, parseListeners, readListeners } from "./socketTable.ts";

/** The inode of a descriptor that is a socket. */
function inodeOf(fd: string): string[] {
  try {
    return [...readlinkSync(`/proc/self/fd/${fd}`).matchAll(/^socket:\[(\d+)\]$/gu)].map(([, inode = ""]) => inode);
  } catch {
    return [];
  }
}

test("sock_diag lists the same listening sockets as /proc/net/tcp", async () => {
  const places: ListenOptions[] = [
    { host: "127.0.0.1" },
    { host: "0.0.0.0" },
    { host: "::1" },
    { host: "::" },
    { host: "::ffff:127.0.0.1" },
  ];
  const servers = places.map((place) => createServer().listen({ port: 0, ...place }));
  try {
    await Promise.all(servers.map((server) => once(server, "listening")));
    const ports = new Set(servers.map((server) => (server.address() as { port: number }).port));
    // Another process may listen on the same port of another address.
    const inodes = new Set(readdirSync("/proc/self/fd").flatMap(inodeOf));
    const ours = (listeners: readonly ListeningSocket[]) =>
      listeners
        .filter(({ port, inode }) => ports.has(port) && inodes.has(inode))
        .map((listener) => `${formatListener(listener)} ${listener.inode}`)
        .toSorted();
    assert.ok(readTcpListeners() !== undefined, "the kernel answers");
    const tables = ["tcp", "tcp6"].flatMap((name) => parseListeners(readFileSync(`/proc/net/${name}`, "latin1")));
    assert.equal(ours(readListeners() ?? []).length, places.length);
    assert.deepEqual(ours(readListeners() ?? []), ours(tables));
  } finally {
    for (const server of servers) server.close();
  }
});
