/** `monoceros health`: the health of the controller as an exit code. */
import { ControllerError, codeOf } from "../../base/errors.ts";
import { CLIENT_FLAGS, type Command, type Context } from "../command.ts";
import { usage } from "../commandLine.ts";
import { openControlSocket } from "../connectController.ts";
import type { HealthQuestion } from "../healthReport.ts";

/** Time limit for the response of a listening controller. */
const TIMEOUT_MS = 5000;

export const health: Command = {
  name: "health",
  summary: "Check the health of the controller, such as for HEALTHCHECK",
  details:
    "By default checks whether enough workers of each pool are ready (GET /health). Exits with code 0 if so, and otherwise with\ncode 1 and one line that says why. A controller that does not respond within 5s is not healthy. Exits with code 69 if there\nis no controller.",
  flags: {
    ready: { type: "boolean", doc: "Check whether the controller is ready for traffic (GET /health/ready)" },
    live: { type: "boolean", doc: "Check only whether the controller responds (GET /health/live)" },
    ...CLIENT_FLAGS,
  },
  arguments: [],
  examples: [
    { command: "monoceros health", doc: "Check whether enough workers are ready" },
    { command: "monoceros health --ready --json", doc: "Print the health of each pool" },
  ],
  async run(context) {
    const question = questionOf(context);
    const { requestHealth, objection, unhealthy } = await import("../healthReport.ts");
    const { path, connection } = await openControlSocket(context).catch((error: unknown) => {
      // A process listens, but has not accepted connections for so long that the kernel queues no more.
      const isHung = error instanceof ControllerError && codeOf(error.cause) === "EAGAIN";
      throw isHung ? unhealthy(error.message, question) : error;
    });
    const document = await requestHealth(connection, path, TIMEOUT_MS);
    const reason = objection(document, question);
    if (context.isSet("json")) {
      const { phase, pools } = document;
      const text = JSON.stringify({ [question]: reason === undefined, reason: reason ?? null, phase, pools });
      await context.terminal.write("stdout", `${text}\n`);
      return reason === undefined ? 0 : 1;
    }
    if (reason !== undefined) throw unhealthy(reason, question);
    return 0;
  },
};

function questionOf(context: Context): HealthQuestion {
  const chosen = (["ready", "live"] as const).filter((each) => context.isSet(each));
  if (chosen.length > 1) throw usage("--ready and --live exclude each other", "monoceros health");
  return chosen[0] ?? "healthy";
}
