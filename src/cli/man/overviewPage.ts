/** The page monoceros(1): all commands, and what they have in common. Pure. */
import { COMMON_FLAGS, type CommandGroups } from "../command.ts";
import { EXIT_MEANINGS } from "../docs.ts";
import { pageName } from "./commandPages.ts";
import { bold, commandLine, entry, escapeRoff, inline, type Page, paragraphs } from "./roff.ts";

/** Effects of signals on the controller, the most important ones; docs/operation.md has all. */
export const SIGNALS: Readonly<Record<string, string>> = {
  "TERM, INT, QUIT, PWR":
    "Shut down gracefully. A second one, 300 ms or more after the first, kills all processes at once.",
  HUP: "Reload the configuration file, like `monoceros reload`.",
  USR1: "Restart every pool without downtime, like `monoceros restart`.",
  "TTIN, TTOU": "Scale the only pool up or down by one worker.",
  USR2: "Reserved; logs a warning.",
};

const ENVIRONMENT: Readonly<Record<string, string>> = {
  MONOCEROS_SOCKET: "Path of the control socket, for the controller and for commands that connect to it.",
  XDG_RUNTIME_DIR: "Its subdirectory `monoceros` is the first default place of the control socket.",
  TMPDIR: "Directory for temporary files, `/tmp` by default.",
  PATH: "Searched for the programs of pools, and for Envoy.",
  NO_COLOR: "If set, output has no colours.",
};

const WORKER_ENVIRONMENT: Readonly<Record<string, string>> = {
  MULTIPROCESS_WORKER_ID: "Id of the worker, such as `web-0`.",
  "MONOCEROS_POOL, MONOCEROS_SLOT, MONOCEROS_INCARNATION":
    "Name of the pool, number of the worker in it, and number of processes that the worker has had.",
  PORT: "Port to listen on, in a pool with `server:`.",
  "LISTEN_FDS, LISTEN_FDNAMES, LISTEN_PID":
    "Sockets that the worker inherits, as from systemd, in a pool with `sockets:`.",
};

const FILES: Readonly<Record<string, string>> = {
  "/run/monoceros/monoceros.sock":
    "Control socket. The default places are `$XDG_RUNTIME_DIR/monoceros/monoceros.sock`, this file, and `monoceros-UID/monoceros.sock` in the directory for temporary files; `admin.socket` changes it.",
  "/etc/monoceros/monoceros.yaml": "Configuration file of the systemd unit.",
};

const DESCRIPTION = `Monoceros runs N copies of a single-threaded server, keeps them alive and balances traffic across them.
\`monoceros run\` is the controller. It stays in the foreground and writes the output of the workers to its own. Other commands
connect to a running controller through its control socket.

\`monoceros -c FILE\` is the same as \`monoceros run -c FILE\`, \`monoceros -c FILE -k\` is \`monoceros validate -c FILE\`, and
\`monoceros --version\` is \`monoceros version\`.`;

export function overviewPage(groups: CommandGroups, version: string): Page {
  const commands = Object.entries(groups).flatMap(([heading, members]) => [
    `.SS ${escapeRoff(heading)}`,
    ...members.flatMap((command) => entry(`${bold(pageName(command))}(1)`, inline(`${command.summary}.`))),
  ]);
  return {
    name: "monoceros",
    section: 1,
    summary: "Run N copies of a single-threaded server",
    version,
    parts: {
      SYNOPSIS: [commandLine("monoceros COMMAND [FLAGS]"), ".br", commandLine("monoceros -c FILE [-d]")],
      DESCRIPTION: paragraphs(DESCRIPTION),
      COMMANDS: commands,
      OPTIONS: Object.entries(COMMON_FLAGS).flatMap(([name, { short, doc }]) =>
        entry(commandLine(`${short === undefined ? "" : `-${short}, `}--${name}`), inline(`${doc}.`)),
      ),
      SIGNALS: list(SIGNALS),
      "EXIT STATUS": list(EXIT_MEANINGS),
      ENVIRONMENT: [...list(ENVIRONMENT), ".SS Of workers", ...list(WORKER_ENVIRONMENT)],
      FILES: list(FILES),
      "SEE ALSO": [`${bold("monoceros.yaml")}(5)`],
    },
  };
}

function list(entries: Readonly<Record<string, string>>): string[] {
  return Object.entries(entries).flatMap(([term, meaning]) => entry(bold(term), inline(closed(meaning))));
}

/** With a full stop. */
function closed(text: string): string {
  return text.endsWith(".") ? text : `${text}.`;
}
