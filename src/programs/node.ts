/** Node.js programs, its frameworks, and the package managers that start them. */
import type { Program } from "./program.ts";

const node: Program = {
  name: "node",
  executables: ["node", "nodejs"],
  serves: "http",
  port: [],
  descriptor: "application",
  reusePort: "own",
  addressOptions: [],
  keepAlive: { ms: 5000 },
  workerKeepAlive: "3s",
  note: "The program listens on `process.env.PORT`. For a shared socket it needs `{fd}`, for SO_REUSEPORT `reusePort: true`.",
};

/** The server.js of `output: standalone`. */
export const NEXT_STANDALONE: Program = {
  name: "next (standalone)",
  executables: [],
  serves: "http",
  port: [],
  reusePort: "none",
  addressOptions: [],
  env: { HOSTNAME: "127.0.0.1" },
  keepAlive: { ms: 5000 },
  workerKeepAlive: "3s",
  note: "`node .next/standalone/server.js` listens on `HOSTNAME`, which containers set to the name of the pod.",
};

const next: Program = {
  name: "next",
  executables: ["next"],
  subcommands: ["start", "dev"],
  serves: "http",
  port: ["--hostname", "127.0.0.1", "--port", "{port}"],
  reusePort: "none",
  addressOptions: [
    { names: ["--port", "-p"], value: "port" },
    { names: ["--hostname", "-H"], value: "host" },
  ],
  keepAlive: { ms: 5000, options: ["--keepAliveTimeout"], isMs: true },
  workerKeepAlive: "3s",
  note: "Takes no shared socket.",
};

const nest: Program = {
  name: "nest",
  executables: ["nest"],
  subcommands: ["start"],
  serves: "http",
  port: [],
  reusePort: "own",
  addressOptions: [],
  keepAlive: { ms: 5000 },
  workerKeepAlive: "3s",
  reloadOptions: ["--watch", "-w"],
  note: "The program listens on `process.env.PORT`. `node dist/main.js` saves a process for each worker.",
};

const manager = (name: string): Program => ({
  name,
  executables: [name],
  subcommands: ["start", "run", "run-script"],
  serves: "http",
  port: [],
  reusePort: "own",
  addressOptions: [],
  keepAlive: { ms: 5000 },
  workerKeepAlive: "3s",
  note: "The script listens on `$PORT`. It passes no sockets on, and adds a process to each worker: prefer the script's own command.",
});

export const NODE: readonly Program[] = [node, NEXT_STANDALONE, next, nest, ...["npm", "pnpm", "yarn"].map(manager)];
