/** The page docs/programs.md, generated from the data of the programs. */
import { PROGRAMS } from "./catalog.ts";
import type { Program } from "./program.ts";

const INTRODUCTION = `# Known programs

This page is generated from \`src/programs\`; do not edit it. \`monoceros run -- COMMAND\` uses it to choose the mode and the
arguments ([how-to](howto/one-line.md)), and \`monoceros validate\` to warn about settings that do not suit the program.

A program is recognised by the name of its executable, with a directory or a version if it has one, and through what runs it:
\`python -m\`, \`uv run\`, \`poetry run\`, \`pipenv run\`, \`bundle exec\`, \`npx\`, \`env NAME=VALUE\`, \`nice\`, \`tini\`, \`ddtrace-run\`,
\`newrelic-admin run-program\`, \`opentelemetry-instrument\` and others. Any other program runs in proxy mode and must listen on
\`$PORT\`, unless its command contains \`{port}\`, \`{socket}\` or \`{fd}\`.

## Added arguments

Options for the program's own address are replaced, and its option for a number of processes becomes \`replicas\`.
\`{host}\` is the address that clients connect to.
`;

/** The whole page, with a newline at the end. */
export function programsPage(): string {
  const servers = PROGRAMS.filter(({ serves }) => serves === "http");
  return [
    INTRODUCTION,
    table(
      ["Program", "Proxy mode", "Shared-socket mode", "SO_REUSEPORT mode"],
      servers.map((program) => [program.name, proxy(program), descriptor(program), reusePort(program)]),
    ),
    "## Settings and traps\n",
    table(
      ["Program", "Keep-alive", "Stop", "What to know"],
      PROGRAMS.map((program) => [program.name, keepAlive(program), stop(program), program.note]),
    ),
  ].join("\n");
}

function table(head: readonly string[], rows: readonly (readonly string[])[]): string {
  const line = (cells: readonly string[]) => `| ${cells.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |\n`;
  return `${line(head)}|${"---|".repeat(head.length)}\n${rows.map(line).join("")}`;
}

function code(words: readonly string[]): string {
  return `\`${words.join(" ")}\``;
}

function proxy({ port = [], always = [], workers }: Program): string {
  const words = [...port, ...(workers?.none ?? []), ...always];
  return words.length === 0 ? "none; it reads `$PORT`" : code(words);
}

function descriptor({ descriptor }: Program): string {
  if (descriptor === undefined) return "–";
  if (descriptor === "application") return "`{fd}` in the command";
  const { words, wrapped } = descriptor;
  const own = words.length === 0 ? "none; it reads `LISTEN_FDS`" : code(words);
  return wrapped === undefined ? own : `${own}. Behind a wrapper that does not exec: ${code(wrapped)}`;
}

function reusePort({ reusePort }: Program): string {
  if (reusePort === "own") return "if the application sets it";
  return reusePort === undefined || reusePort === "none" ? "–" : code(reusePort);
}

function keepAlive({ keepAlive, workerKeepAlive }: Program): string {
  if (keepAlive === undefined) return "–";
  return `${keepAlive.ms / 1000}s; \`worker_keepalive: ${workerKeepAlive ?? "1s"}\``;
}

function stop({ stop, stopTarget, stopTimeout, serves }: Program): string {
  if (serves === "http" && stop === undefined) return "SIGTERM";
  return [
    stop === undefined ? "SIGTERM" : `${stop.signal}; SIGTERM ${stop.onTerm}`,
    ...(stopTarget === undefined ? [] : ["to its first process only"]),
    ...(stopTimeout === undefined ? [] : [`within ${stopTimeout}`]),
  ].join(", ");
}
