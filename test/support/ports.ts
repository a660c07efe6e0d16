/**
 * TCP ports for programs that must know their port before it is bound. Prefer port 0 where possible, because another
 * process may take the port between the check and the bind.
 */
import { once } from "node:events";
import { createServer } from "node:net";

/** Below the kernel's ephemeral range, so that no outgoing connection of a load client uses one of these ports. */
const FIRST_PORT = 12_000;
/** The kernel's ephemeral range, used for outgoing connections and listeners on port 0, starts at 32768. */
const LAST_PORT = 32_000;

async function isFree(port: number): Promise<boolean> {
  const server = createServer();
  const answer = await new Promise<boolean>((done) => {
    server.once("error", () => done(false));
    server.listen(port, "0.0.0.0", () => done(true));
  });
  if (answer) {
    server.close();
    await once(server, "close");
  }
  return answer;
}

/** The first of `count` consecutive TCP ports that were free a moment ago. */
export async function freePorts(count: number): Promise<number> {
  for (;;) {
    const first = FIRST_PORT + Math.floor(Math.random() * (LAST_PORT - FIRST_PORT - count));
    if (await areFree(first, count)) return first;
  }
}

/** Whether `count` consecutive TCP ports are free now. */
export async function areFree(first: number, count: number): Promise<boolean> {
  for (let port = first; port < first + count; port++) if (!(await isFree(port))) return false;
  return true;
}

/** A TCP port that was free a moment ago. */
export function freePort(): Promise<number> {
  return freePorts(1);
}
