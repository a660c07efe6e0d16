import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Server } from "node:net";
import { test } from "node:test";
import { ControllerError } from "../../base/errors.ts";
import { checkListenerPort } from "./listenerPort.ts";

async function listen(reusePort: boolean): Promise<{ server: Server; port: number }> {
  const server = createServer().listen({ port: 0, host: "127.0.0.1", reusePort });
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  return { server, port: address.port };
}

async function check(port: number, address = "127.0.0.1", holder?: { pid: number; command: string }): Promise<unknown> {
  try {
    await checkListenerPort({ pool: "web", address, port }, () => holder);
    return undefined;
  } catch (error) {
    return error;
  }
}

test("a port in use is refused with its holder, even if the holder shares it", async () => {
  for (const reusePort of [false, true]) {
    const { server, port } = await listen(reusePort);
    const error = await check(port, "127.0.0.1", { pid: 42, command: "nginx -g x" });
    assert.ok(error instanceof ControllerError);
    assert.equal(error.code, "LISTENER_PORT_IN_USE");
    assert.equal(error.exitCode, 1);
    assert.match(error.message, new RegExp(`pool "web": pid 42 \\(nginx -g x\\) holds port ${port} of`, "u"));
    assert.match(String(await check(port)), /another process holds/u);
    server.close();
    await once(server, "close");
    // Free again, and the check itself left nothing behind.
    assert.equal(await check(port), undefined);
    assert.equal(await check(port), undefined);
  }
});

test("an address that this machine does not have is named", async () => {
  const error = await check(1234, "203.0.113.1");
  assert.ok(error instanceof ControllerError);
  assert.equal(error.code, "ADDRESS_UNAVAILABLE");
  assert.match(error.message, /"203\.0\.113\.1:1234" cannot be bound: EADDRNOTAVAIL/u);
});
