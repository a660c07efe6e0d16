/** The flags of commands that run a program without a configuration file, and what they mean. */
import type { ControllerError } from "../../base/errors.ts";
import { parseDuration, parseSize } from "../../base/units.ts";
import { MAX_REPLICAS } from "../../core/spec.ts";
import type { Context, Flag } from "../command.ts";
import { spell, usage } from "../commandLine.ts";

export const MODES = ["proxy", "socket", "reuseport"] as const;
export type Mode = (typeof MODES)[number];

/** Flags for a program that is given on the command line. */
export const POOL_FLAGS: Readonly<Record<string, Flag>> = {
  replicas: {
    type: "string",
    short: "n",
    value: "N|auto",
    doc: "Number of workers; auto, the default, is one per CPU",
  },
  port: { type: "string", value: "PORT", doc: "Port that clients connect to; else $PORT, else 8000" },
  mode: {
    type: "string",
    value: MODES.join("|"),
    doc: "How workers share the port, instead of the program's best mode",
  },
  health: { type: "string", value: "PATH", doc: "Path that answers 200 if a worker is healthy; proxy mode" },
  "max-requests": { type: "string", value: "N", doc: "Replace a worker after this many requests; proxy mode" },
  "max-memory": { type: "string", value: "SIZE", doc: "Replace a worker that uses more memory, such as 512MiB" },
  "max-age": { type: "string", value: "DURATION", doc: "Replace a worker that is older, such as 4h" },
  env: {
    type: "string",
    short: "e",
    value: "NAME=VALUE",
    isRepeatable: true,
    doc: "Variable of the workers; repeatable",
  },
  name: { type: "string", value: "NAME", doc: "Name of the pool; web by default, or worker if it serves no clients" },
  "admin-port": { type: "string", value: "PORT", doc: "Port of the dashboard, metrics and API; 9000 by default" },
};

/** What the flags say, checked; undefined if absent. */
export interface PoolOptions {
  readonly replicas: number | "auto" | undefined;
  readonly port: number | undefined;
  readonly mode: Mode | undefined;
  readonly health: string | undefined;
  readonly maxRequests: number | undefined;
  /** As written. */
  readonly maxMemory: string | undefined;
  readonly maxAge: string | undefined;
  readonly env: readonly (readonly [name: string, value: string])[];
  readonly name: string | undefined;
  readonly adminPort: number | undefined;
}

/** Reads the flags of `called`, such as `monoceros run`. @throws ControllerError USAGE */
export function readPoolOptions({ text, texts }: Context, called: string): PoolOptions {
  const read = <T>(flag: string, expected: string, parse: (value: string) => T | undefined): T | undefined => {
    const value = text(flag);
    if (value === undefined) return undefined;
    const parsed = parse(value);
    if (parsed === undefined) throw wrong(flag, expected, called, value);
    return parsed;
  };
  const port = "a port from 1 to 65535";
  return {
    replicas: read("replicas", `a number from 1 to ${MAX_REPLICAS}, or auto`, (value) =>
      value === "auto" ? value : wholeNumber(value, 1, MAX_REPLICAS),
    ),
    port: read("port", port, parsePort),
    mode: read("mode", `one of ${MODES.join(", ")}`, (value) => MODES.find((mode) => mode === value)),
    health: read("health", 'a path that begins with "/"', (value) => (/^\/\S*$/u.test(value) ? value : undefined)),
    maxRequests: read("max-requests", "a number of at least 1", (value) => wholeNumber(value, 1)),
    maxMemory: read("max-memory", 'a size such as "512MiB"', (value) => positive(value, parseSize)),
    maxAge: read("max-age", 'a duration such as "4h"', (value) => positive(value, parseDuration)),
    env: texts("env").map((value) => assignment(value, called)),
    name: text("name"),
    adminPort: read("admin-port", "a port from 0 to 65535", (value) => wholeNumber(value, 0, 65_535)),
  };
}

/** The spellings of the flags for a program that are given, for commands that then need a program. */
export function givenPoolFlags({ isSet }: Context): readonly string[] {
  return Object.entries(POOL_FLAGS).flatMap(([name, { short }]) =>
    isSet(name) ? [short === undefined ? `--${name}` : `-${short}`] : [],
  );
}

export function parsePort(value: string): number | undefined {
  return wholeNumber(value, 1, 65_535);
}

function wholeNumber(value: string, min: number, max: number = Number.MAX_SAFE_INTEGER): number | undefined {
  const number = /^\d+$/u.test(value) ? Number(value) : Number.NaN;
  return number >= min && number <= max ? number : undefined;
}

function positive(value: string, parse: (text: string) => number | undefined): string | undefined {
  return (parse(value) ?? 0) > 0 ? value : undefined;
}

/** The value may be a secret, so no message contains it. */
function assignment(value: string, called: string): readonly [name: string, value: string] {
  const end = value.indexOf("=");
  if (end < 1) throw wrong("env", "NAME=VALUE", called);
  return [value.slice(0, end), value.slice(end + 1)];
}

function wrong(flag: string, expected: string, called: string, value?: string): ControllerError {
  const { short } = POOL_FLAGS[flag] ?? {};
  const spelled = spell(flag, { type: "boolean", doc: "", ...(short === undefined ? {} : { short }) });
  const got = value === undefined ? "" : `, got ${JSON.stringify(value)}`;
  return usage(`${spelled}: expected ${expected}${got}`, called);
}
