import assert from "node:assert/strict";
import { once } from "node:events";
import { closeSync, existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { openListener } from "../os/linux.ts";
import { EinhornSocket, einhornVariables, isAck } from "./einhornSocket.ts";

function open(context: TestContext): EinhornSocket {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-einhorn-"));
  const socket = new EinhornSocket(join(directory, "s"), undefined);
  context.after(() => {
    socket[Symbol.dispose]();
    rmSync(directory, { recursive: true });
  });
  return socket;
}

/** Sends text; resolves when the controller has closed the connection. */
async function send(path: string, text: string): Promise<void> {
  const client = connect(path);
  client.write(text);
  client.on("error", () => {});
  client.resume();
  await once(client, "close");
}

test("an acknowledgement counts for the process that sent it, whatever it claims", async (context) => {
  const socket = open(context);
  socket.listen(1, () => assert.fail("the process 1 has sent nothing"));
  await send(socket.path, '{"command":"worker:ack","pid":1}\n');
  let count = 0;
  socket.listen(process.pid, () => count++);
  assert.equal(count, 1);
  await send(socket.path, '{"command":"worker:ack","pid":1}\n');
  assert.equal(count, 1);
});

test("other commands, other text and long lines acknowledge nothing and end the connection", async (context) => {
  const socket = open(context);
  socket.listen(process.pid, () => assert.fail("nothing was acknowledged"));
  for (const line of ['{"command":"state"}\n', "ack\n", "\n", '{"command":"worker:ack"\n', "x".repeat(5000)])
    await send(socket.path, line);
});

test("only an object with the command worker:ack is an acknowledgement", () => {
  assert.equal(isAck('{"command":"worker:ack","pid":7}'), true);
  for (const line of ["null", "1", '"worker:ack"', "[]", "{}", "{", ""]) assert.equal(isAck(line), false);
});

test("only the owner may connect, and disposal removes the socket", (context) => {
  const socket = open(context);
  assert.equal(statSync(socket.path).mode & 0o777, 0o600);
  socket[Symbol.dispose]();
  assert.equal(existsSync(socket.path), false);
});

test("the variables describe the parent and each inherited socket", (context) => {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-einhorn-"));
  context.after(() => rmSync(directory, { recursive: true }));
  const fds = [
    openListener({ family: "IPv4", host: "127.0.0.1", port: 0 }, 1, 0),
    openListener({ family: "Unix", path: join(directory, "s") }, 1, 0),
  ];
  const variables = einhornVariables("/run/e", { fds, names: ["a", "b"] });
  for (const fd of fds) closeSync(fd);
  assert.deepEqual(variables, {
    EINHORN_MASTER_PID: String(process.pid),
    EINHORN_SOCK_PATH: "/run/e",
    EINHORN_FD_COUNT: "2",
    EINHORN_FD_0: "3",
    EINHORN_FD_FAMILY_0: "AF_INET",
    EINHORN_FD_1: "4",
    EINHORN_FD_FAMILY_1: "AF_UNIX",
  });
});
