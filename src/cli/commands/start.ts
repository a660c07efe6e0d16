/** `monoceros start`: lets a worker run again that was stopped or given up. */
import { ControllerError } from "../../base/errors.ts";
import { CLIENT_FLAGS, type Command } from "../command.ts";
import { connectController } from "../connectController.ts";
import { findWorker, pause } from "../orders.ts";

/** Looks after the order; together about a second. */
const ATTEMPTS = 10;

export const start: Command = {
  name: "start",
  summary: "Start a worker that was stopped or given up",
  details: "It returns when the worker starts; `status` and `events` tell when it is ready.",
  flags: CLIENT_FLAGS,
  arguments: [{ name: "WORKER", isRequired: true, doc: "Id of a worker, such as web-0" }],
  examples: [{ command: "monoceros start web-0", doc: "Start one worker" }],
  async run(context) {
    const id = context.arguments[0] ?? "";
    const client = await connectController(context);
    let worker = findWorker(await client.status(), id, "start");
    const wasUp = worker.phase !== "down";
    if (!wasUp) await client.orderWorker(id, "start");
    for (let attempt = 0; worker.phase === "down" && attempt < ATTEMPTS; attempt++) {
      if (attempt > 0) await pause(attempt);
      worker = findWorker(await client.status(), id, "start");
    }
    if (worker.phase === "down") {
      throw new ControllerError("REQUEST_REFUSED", `Cannot start worker "${id}": it stays down (${worker.reason})`, {
        hint: "Only a worker that was stopped or given up can be started.",
      });
    }
    const text = wasUp ? `worker "${id}" runs already (${worker.phase})` : `worker "${id}" starts`;
    await context.terminal.write("stdout", `${context.isSet("json") ? JSON.stringify(worker) : text}\n`);
    return 0;
  },
};
