/** `monoceros stop`: ends one worker, or the controller with all of them, and waits until it is down. */
import { ControllerError } from "../../base/errors.ts";
import { CLIENT_FLAGS, type Command, type Context } from "../command.ts";
import { usage } from "../commandLine.ts";
import { connectController } from "../connectController.ts";
import { findWorker, pause } from "../orders.ts";

export const stop: Command = {
  name: "stop",
  summary: "Stop one worker, or with --all the controller and all workers",
  details:
    "It waits until the worker is down, or until the controller is gone. A stopped worker stays down until `start`.",
  flags: {
    all: { type: "boolean", doc: "Shut down in order: workers end, then the controller" },
    ...CLIENT_FLAGS,
  },
  arguments: [{ name: "WORKER", isRequired: false, doc: "Id of a worker, such as web-0" }],
  examples: [
    { command: "monoceros stop web-0", doc: "Stop one worker" },
    { command: "monoceros stop --all", doc: "Shut the controller down" },
  ],
  async run(context) {
    const [id] = context.arguments;
    if ((id === undefined) === !context.isSet("all")) {
      const what = id === undefined ? "" : ", not both";
      throw usage(
        `stop needs a worker (monoceros stop web-0) or --all (monoceros stop --all)${what}`,
        "monoceros stop",
      );
    }
    return id === undefined ? stopAll(context) : stopWorker(context, id);
  },
};

async function stopWorker(context: Context, id: string): Promise<number> {
  const client = await connectController(context);
  let worker = findWorker(await client.status(), id, "stop");
  const wasDown = worker.phase === "down";
  if (!wasDown) {
    await client.orderWorker(id, "stop");
    for (let attempt = 0; ; attempt++) {
      worker = findWorker(await client.status(), id, "stop");
      if (worker.phase === "down") break;
      await pause(attempt);
    }
  }
  const text = wasDown
    ? `worker "${id}" was down already (${worker.reason})`
    : `worker "${id}" is stopped (last exit: ${worker.last_exit ?? "none"}) until "monoceros start ${id}"`;
  await context.terminal.write("stdout", `${context.isSet("json") ? JSON.stringify(worker) : text}\n`);
  return 0;
}

async function stopAll(context: Context): Promise<number> {
  const client = await connectController(context);
  const { pid } = await client.status();
  await client.shutdown();
  for (let attempt = 0; await isThere(() => client.status(), pid); attempt++) await pause(attempt);
  const text = context.isSet("json")
    ? JSON.stringify({ pid, stopped: true })
    : `the controller (pid ${pid}) is stopped`;
  await context.terminal.write("stdout", `${text}\n`);
  return 0;
}

/** Whether the same controller still answers; another one may have taken the socket. */
async function isThere(status: () => Promise<{ pid: number }>, pid: number): Promise<boolean> {
  try {
    return (await status()).pid === pid;
  } catch (error) {
    if (error instanceof ControllerError && error.code === "NO_CONTROLLER") return false;
    throw error;
  }
}
