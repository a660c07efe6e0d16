/**
 * A program, `queueLoss.ts reuseport|shared`, that runs in a network namespace of its own, so that
 * net.ipv4.tcp_migrate_req can be set without affecting the machine. It suspends one of four workers, lets connections
 * queue up, kills the worker, and then has two others stopped. It prints the number of queued connections, the outcomes
 * and the warnings as JSON.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { ControllerUnderTest, eventually, PROCESSBIN, poolOf } from "./controller.ts";
import { newOutcome, requestOnce } from "./newConnections.ts";
import { happened, logged, readProc, said } from "./watch.ts";

/** The printed result. */
export interface QueueLoss {
  /** Connections in the accept queue of the killed worker, or in the shared one. */
  readonly waiting: number;
  readonly answered: number;
  readonly refused: number;
  readonly cut: number;
  readonly warnings: readonly string[];
}

const REQUESTS = 200;
const PORT = 8000;

/** Connections that wait to be accepted: the receive queue of a listening socket in /proc/net/tcp. */
function countWaiting(): number {
  const port = `:${PORT.toString(16).toUpperCase()}`;
  let sum = 0;
  for (const line of readFileSync("/proc/net/tcp", "latin1").split("\n")) {
    const [, local, , state, queues] = line.trim().split(/\s+/u);
    if (state === "0A" && local?.endsWith(port)) sum += Number.parseInt(queues?.split(":")[1] ?? "0", 16);
  }
  return sum;
}

async function measure(mode: string): Promise<QueueLoss> {
  const more =
    mode === "shared"
      ? { sockets: [{ name: "http", listen: `127.0.0.1:${PORT}` }] }
      : { args: ["--host", "127.0.0.1", "--port", PORT, "--reuseport"] };
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({ name: "web", replicas: 4, exec: PROCESSBIN, ...more }),
    args: ["-d"],
  });
  for (let slot = 0; slot < 4; slot++) await said(controller, `web-${slot}`, "ready");
  const pid = await controller.pidOf("web-0");
  process.kill(pid, "SIGSTOP");
  await eventually(() => (/^State:\s+T/mu.test(readProc(pid, "status")) ? true : undefined), "web-0 is stopped");

  const outcome = newOutcome();
  const requests = Array.from({ length: REQUESTS }, () => requestOnce({ host: "127.0.0.1", port: PORT }, outcome));
  await eventually(
    () => (outcome.answered + countWaiting() === REQUESTS ? true : undefined),
    "every request is answered or waits",
  );
  const waiting = countWaiting();
  process.kill(pid, "SIGKILL");
  await Promise.all(requests);

  await said(controller, "web-0", "ready", 2);
  for (const slot of [1, 2]) {
    assert.equal((await controller.call("POST", `/v1/workers/web-${slot}/stop`)).status, 202);
    await happened(controller, "stopped", (event) => event.slot === slot);
    await logged(controller, "inspected the sockets of workers");
  }
  await controller.stop();
  const { answered, refused, cut } = outcome;
  return { waiting, answered, refused, cut, warnings: controller.stderr.filter((line) => line.includes(" WARN ")) };
}

process.stdout.write(JSON.stringify(await measure(process.argv[2] ?? "reuseport")));
