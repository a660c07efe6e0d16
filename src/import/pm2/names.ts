/** The spellings of PM2's keys, and why some of them have no equivalent. */
import type { Json } from "./document.ts";

const ALIASES: Readonly<Record<string, string>> = {
  exec: "script",
  cmd: "script",
  exec_interpreter: "interpreter",
  interpreter_args: "node_args",
  user: "uid",
  group: "gid",
  out: "out_file",
  output: "out_file",
  out_log: "out_file",
  error: "error_file",
  err: "error_file",
  err_file: "error_file",
  err_log: "error_file",
  log: "log_file",
  combine_logs: "merge_logs",
  pid: "pid_file",
  cron: "cron_restart",
  log_date: "log_date_format",
};

/** The name in PM2's documentation: `maxMemoryRestart` and aliases count as the same key. */
export function canonicalName(name: string): string {
  if (/^env_/u.test(name)) return name;
  const snake = name.replaceAll(/[A-Z]/gu, (letter) => `_${letter.toLowerCase()}`);
  return ALIASES[snake] ?? snake;
}

const WATCH = "workers are not restarted when files change; use `monoceros restart` after a change";
const LOGS = "each line of a worker carries its worker id and a time";
const REASONS: Readonly<Record<string, string>> = {
  watch: WATCH,
  watch_delay: WATCH,
  watch_options: WATCH,
  ignore_watch: WATCH,
  cron_restart:
    "there are no restarts at fixed times; limits.lifespan replaces workers by age, and `monoceros restart` can be run by cron",
  wait_ready:
    "the message process.send('ready') is not read; write a readiness probe, or probes.readiness.notify with a newline on MONOCEROS_NOTIFY_FD",
  listen_timeout: "write a startup probe, whose failure_threshold and period limit the start",
  shutdown_with_message: "a worker is sent stop_signal, not a message",
  log_date_format: LOGS,
  log_type: "records are JSON; see logs.mode",
  time: LOGS,
  pid_file: "the controller knows its workers without pid files",
  namespace: "pools have no namespaces; each command names its pools",
  source_map_support: "add --enable-source-maps to args",
  filter_env: "workers inherit the environment of the controller; start it without these variables",
  env_file: "PM2 has no such key; write env_file here if the file exists",
  post_update: "deployment is not a task of the controller",
  append_env_to_name: "rename the pool",
  trace: "there is no monitoring agent",
  pmx: "there is no monitoring agent",
  automation: "there is no monitoring agent",
};

/** Keys without an effect on what a worker does. */
const HARMLESS = new Set("merge_logs vizion force disable_logs_rotation windows_hide".split(" "));

/** Why a key is not translated; undefined if it needs nothing. */
export function reasonFor(name: string, value: Json): string | undefined {
  if (HARMLESS.has(name)) return undefined;
  // Switched off is what happens anyway.
  if (value === false && Object.hasOwn(REASONS, name)) return undefined;
  if (/^env_/u.test(name) && name !== "env_file") return `choose it with --env ${name.slice("env_".length)}`;
  return REASONS[name] ?? "the importer does not know this key";
}
