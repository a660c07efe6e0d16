import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { test } from "node:test";
import { findForeign, findSplitAddresses } from "./listeners.ts";
import { formatListener, parseListeners, readListeners } from "./socketTable.ts";

const TCP = `  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 41 1 0000000000000000 100 0 0 10 0
   1: 00000000:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 42 1 0000000000000000 100 0 0 10 0
   2: 0100007F:1F90 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 43 1 0000000000000000 20 4 30 10 -1
`;
const TCP6 = `  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0050 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 51 1 0000000000000000 100 0 0 10 0
   1: 00000000000000000000000001000000:0051 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 52 1 0000000000000000 100 0 0 10 0
   2: B80D0120000000000000000042000000:0052 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 53 1 0000000000000000 100 0 0 10 0
`;

test("only listening sockets are read from the kernel's tables", () => {
  assert.deepEqual(parseListeners(TCP), [
    { host: "127.0.0.1", port: 8080, inode: "41" },
    { host: "0.0.0.0", port: 22, inode: "42" },
  ]);
  assert.deepEqual(
    parseListeners(TCP6).map((socket) => `${formatListener(socket)} ${socket.inode}`),
    ["[::]:80 51", "[::1]:81 52", "[2001:db8::42]:82 53"],
  );
  for (const text of ["", "nonsense", "   0: 0100007F"]) assert.deepEqual(parseListeners(text), []);
});

test("a port is split if two workers of a pool listen on it with separate sockets", () => {
  const socket = (pool: string, leader: number, inode: string, host = "0.0.0.0", port = 80) => ({
    pool,
    leader,
    inode,
    host,
    port,
  });
  const split = (...held: ReturnType<typeof socket>[]) => [...findSplitAddresses(held)];
  assert.deepEqual(split(socket("web", 1, "a"), socket("web", 2, "b")), [["web", "0.0.0.0:80"]]);
  assert.deepEqual(split(socket("web", 1, "a"), socket("web", 2, "a")), [], "one inherited socket");
  assert.deepEqual(split(socket("web", 1, "a"), socket("web", 1, "b")), [], "one worker with two sockets");
  assert.deepEqual(split(socket("web", 1, "a"), socket("web", 2, "b", "0.0.0.0", 81)), [], "a port each");
  assert.deepEqual(split(socket("web", 1, "a"), socket("web", 2, "b", "127.0.0.1")), [], "an address each");
  assert.deepEqual(split(socket("web", 1, "a"), socket("api", 2, "b")), [], "of two pools");
});

test("a foreign listener has a socket on a pool's address that no worker of the controller holds", () => {
  const held = [{ pool: "web", leader: 1, inode: "a", host: "127.0.0.1", port: 80 }];
  const strangers = (host: string, port: number, inode = "x") =>
    findForeign(held, [...held, { host, port, inode }], new Set(["a", "b"]))
      .get("web")
      ?.map((socket) => socket.inode);
  assert.deepEqual(strangers("127.0.0.1", 80), ["x"]);
  assert.deepEqual(strangers("0.0.0.0", 80), ["x"]);
  assert.deepEqual(strangers("::", 80), ["x"]);
  assert.equal(strangers("127.0.0.1", 81), undefined);
  assert.equal(strangers("127.0.0.2", 80), undefined);
  assert.equal(strangers("127.0.0.1", 80, "b"), undefined, "another pool of ours");
});

test("all listening sockets of this machine are found, however many there are", async (context) => {
  const servers: Server[] = [];
  context.after(() => {
    for (const server of servers) server.close();
  });
  // Enough for more than one chunk of the table.
  for (let count = 0; count < 1000; count++) servers.push(createServer().listen(0, "127.0.0.1"));
  await Promise.all(servers.map((server) => once(server, "listening")));
  const found = new Set(readListeners()?.map(formatListener));
  for (const server of servers) {
    const { port } = server.address() as { port: number };
    assert.ok(found.has(`127.0.0.1:${port}`));
  }
});
