/** `monoceros stop`: stops the workers of a pool, one worker, or the controller with all its workers. */
import { ControllerError } from "../../base/errors.ts";
import { CLIENT_FLAGS, type Command, type Context } from "../command.ts";
import { usage } from "../commandLine.ts";
import { connectController } from "../connectController.ts";
import { OPERATION_FLAGS, orderAction } from "../orders.ts";

const FIRST_PAUSE_MS = 10;
const LONGEST_PAUSE_MS = 250;

export const stop: Command = {
  name: "stop",
  summary: "Stop the workers of a pool, one worker, or with --all the controller",
  details:
    "Prints each step and returns when the workers, or with --all the controller, have exited. Stopped workers stay\ndown until `monoceros start`.",
  flags: {
    all: { type: "boolean", doc: "Stop all workers gracefully, then the controller" },
    ...OPERATION_FLAGS,
    ...CLIENT_FLAGS,
  },
  arguments: [{ name: "POOL|WORKER", isRequired: false, doc: "Pool name, or worker id such as web-0" }],
  examples: [
    { command: "monoceros stop web", doc: "Stop all workers of pool web" },
    { command: "monoceros stop web-0", doc: "Stop one worker" },
    { command: "monoceros stop --all", doc: "Shut down the controller" },
  ],
  async run(context) {
    const [name] = context.arguments;
    if ((name === undefined) === !context.isSet("all")) {
      const what = name === undefined ? "" : ", not both";
      throw usage(`expected the name of a pool or worker, or --all${what}`, "monoceros stop");
    }
    return name === undefined ? stopAll(context) : orderAction(context, "stop");
  },
};

async function stopAll(context: Context): Promise<number> {
  const client = await connectController(context);
  const { pid } = await client.status();
  await client.shutdown();
  const isWaiting = !context.isSet("no-wait");
  for (let attempt = 0; isWaiting && (await isThere(() => client.status(), pid)); attempt++) await pause(attempt);
  const text = context.isSet("json")
    ? JSON.stringify({ pid, stopped: isWaiting })
    : `the controller (pid ${pid}) ${isWaiting ? "stopped" : "is shutting down"}`;
  await context.terminal.write("stdout", `${text}\n`);
  return 0;
}

/** Delay before poll number `attempt`: short at first, for controllers that exit immediately, then 250 ms. */
async function pause(attempt: number): Promise<void> {
  const ms = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 1.5 ** attempt);
  await new Promise((resolve) => setTimeout(resolve, ms));
}

/** Whether the same controller still answers; another one may have bound the socket since. */
async function isThere(status: () => Promise<{ pid: number }>, pid: number): Promise<boolean> {
  try {
    return (await status()).pid === pid;
  } catch (error) {
    if (error instanceof ControllerError && error.code === "NO_CONTROLLER") return false;
    throw error;
  }
}
