/** The program: runs the command line and exits with its exit code. The only file that may end the process. */
import { readFileSync } from "node:fs";
import { isSea } from "node:sea";
import { cli } from "./cli/cli.ts";
import { COMMAND_GROUPS } from "./cli/commands.ts";
import { processTerminal } from "./cli/screen/terminal.ts";
import { decideEnvironment } from "./environment.ts";
import { exitNow } from "./exitNow.ts";

const env = prepareEnvironment();

const terminal = processTerminal(env, (error) => {
  // The reader of our output (such as `| head`) has closed it.
  if (error.code === "EPIPE") exitNow(0);
  process.stderr.write(`monoceros: cannot write to stdout: ${error.message}\n`, () => exitNow(1));
});

// A chain, not top-level await: the executable is one CommonJS script.
cli(process.argv.slice(2), { groups: COMMAND_GROUPS, env, terminal }).then(exitNow, (error: unknown) => {
  throw error;
});

/** Removes variables that would change the runtime; returns what the program, its configuration and its workers see. */
function prepareEnvironment(): NodeJS.ProcessEnv {
  const decision = decideEnvironment({ ...process.env, ...takenAtStart() }, process.channel !== undefined, isSea());
  if (decision.kind === "restart") {
    process.execve?.(process.execPath, [process.argv0, ...process.argv.slice(2)], { ...decision.env });
    throw new Error("execve returned");
  }
  for (const name of decision.remove) delete process.env[name];
  return decision.env;
}

/** NODE_UNIQUE_ID, which the runtime has acted on and removed by now; empty if the environment has none. */
function takenAtStart(): NodeJS.ProcessEnv {
  try {
    const value = /(?:^|\0)NODE_UNIQUE_ID=([^\0]*)/u.exec(readFileSync("/proc/self/environ", "utf8"))?.[1];
    return value === undefined ? {} : { NODE_UNIQUE_ID: value };
  } catch {
    // Without /proc the value is unknown, and the controller refuses to start later.
    return {};
  }
}
