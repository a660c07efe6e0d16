/** All commands, in the order of the help. */
import type { Command, CommandGroups } from "./command.ts";
import { balance } from "./commands/balance.ts";
import { completion } from "./commands/completion.ts";
import { configSchema, configShow } from "./commands/config.ts";
import { dev } from "./commands/dev.ts";
import { dump } from "./commands/dump.ts";
import { events } from "./commands/events.ts";
import { health } from "./commands/health.ts";
import { importCommand } from "./commands/import.ts";
import { logs, logsReopen } from "./commands/logs.ts";
import { profile } from "./commands/profile.ts";
import { reload } from "./commands/reload.ts";
import { restart } from "./commands/restart.ts";
import { run } from "./commands/run.ts";
import { scale } from "./commands/scale.ts";
import { start } from "./commands/start.ts";
import { status } from "./commands/status.ts";
import { stop } from "./commands/stop.ts";
import { top } from "./commands/top.ts";
import { validate } from "./commands/validate.ts";
import { version } from "./commands/version.ts";

export const COMMAND_GROUPS: CommandGroups = {
  "Run a configuration": [run, dev, validate, importCommand, configShow, configSchema],
  "Inspect a running controller": [status, health, events, logs, top, balance, dump, profile],
  "Change a running controller": [reload, restart, scale, stop, start, logsReopen],
  "Other commands": [completion, version],
};

export const COMMANDS: readonly Command[] = Object.values(COMMAND_GROUPS).flat();
