/** The search for a worker's sockets skips workers that have not run since the last search, and no others. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, fstatSync } from "node:fs";
import { test } from "node:test";
import { openListener } from "../../src/runtime/os/linux.ts";
import { SocketOwners } from "../../src/runtime/socket/socketOwners.ts";

test("a socket is found again while its worker sleeps, and no longer once the worker has closed it", async () => {
  const fd = openListener({ family: "IPv4", host: "127.0.0.1", port: 0 }, 1, 3);
  const inode = String(fstatSync(fd).ino);
  const worker = spawn("sh", ["-c", "echo; read line; exec 4<&-; echo; read line"], {
    stdio: ["pipe", "pipe", "inherit", "ignore", fd],
  });
  const { stdin, stdout } = worker;
  assert.ok(stdin !== null && stdout !== null);
  try {
    const owners = new SocketOwners(() => []);
    const asked = { leader: worker.pid ?? 0 };
    const listening = new Map([[inode, "here"]]);
    const find = async (among = listening) => [...(await owners.held(asked, among)).found.keys()];
    await once(stdout, "data");
    for (let search = 0; search < 3; search++) assert.deepEqual(await find(), [inode]);
    assert.deepEqual(await find(new Map([["0", "elsewhere"]])), []);
    stdin.write("\n");
    await once(stdout, "data");
    assert.deepEqual(await find(), []);
  } finally {
    worker.kill("SIGKILL");
    closeSync(fd);
  }
});
