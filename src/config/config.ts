/**
 * The configuration file as a whole. Every key is declared once, in the file of its block in keys/. Reading, problems,
 * the types of values, the JSON Schema, docs/configuration.md, `config show` and what a reload does derive from it.
 */
import { type Block, block, type Known, key, section, type Values } from "./field.ts";
import { admin } from "./keys/admin.ts";
import type { PoolConfig } from "./keys/pool.ts";
import { supervisor } from "./keys/supervisor.ts";
import { findPortProblems } from "./ports.ts";

export type { AdminConfig } from "./keys/admin.ts";
export type { MetricsScope } from "./keys/metrics.ts";
export type { LaunchedPool, PoolConfig } from "./keys/pool.ts";
export type { ProbeConfig } from "./keys/probes.ts";
export type { ServerConfig } from "./keys/server.ts";

const keys = {
  admin: section("admin", admin, "The controller's own endpoints.", "original"),
  supervisor: key("supervisor", supervisor, {
    change: [],
    required: true,
    since: "original",
    doc: "Pools and how they are supervised.",
  }),
};

export interface Config extends Values<typeof keys> {}

const POOLS = "write supervisor.workers, a list of pools, each with name and command";

/** The kind of the whole file. */
export const configKind: Block<Config, typeof keys> = block(keys, {
  check: (config, context) => {
    // The number for `auto` depends on the machine; the check is repeated at run time with the actual number.
    const replicasOf = ({ replicas }: Known<PoolConfig>) => (typeof replicas === "number" ? replicas : 1);
    for (const { path, message } of findPortProblems(config, replicasOf)) context.problem(path, message);
  },
  foreign: {
    "workers pools programs program apps services processes watchers watcher": POOLS,
    "name exec args command replicas cmd script": POOLS,
    "unixhttpserver inethttpserver supervisorctl": "write admin",
  },
});
