/** The program: runs the command line and leaves with its exit code. The only file that may end the process. */
import { cli } from "./cli/cli.ts";
import { COMMANDS } from "./cli/commands.ts";
import { processTerminal } from "./cli/terminal.ts";
import { exitNow } from "./exitNow.ts";

const terminal = processTerminal(process.env, (error) => {
  // Whoever read our output (`| head`) has seen enough.
  if (error.code === "EPIPE") exitNow(0);
  process.stderr.write(`monoceros: cannot write to stdout: ${error.message}\n`, () => exitNow(1));
});

// A chain, not top-level await: the executable is one CommonJS script.
cli(process.argv.slice(2), { commands: COMMANDS, env: process.env, terminal }).then(exitNow, (error: unknown) => {
  throw error;
});
