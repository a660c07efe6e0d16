/** Every known program, and every known wrapper. */
import { NODE } from "./node.ts";
import { PHP } from "./php.ts";
import type { Program, Wrapper } from "./program.ts";
import { PYTHON } from "./python.ts";
import { RUBY } from "./ruby.ts";

export const PROGRAMS: readonly Program[] = [...PYTHON, ...RUBY, ...NODE, ...PHP];

const EXEC = { replacesItself: true, passesDescriptors: true };
const SPAWN = { replacesItself: false, passesDescriptors: true };
/** Node.js closes all descriptors but the first three in its children. */
const NODE_SPAWN = { replacesItself: false, passesDescriptors: false };

export const WRAPPERS: readonly Wrapper[] = [
  { executables: ["env"], valueOptions: ["-u", "--unset", "-C", "--chdir"], ...EXEC },
  { executables: ["nice", "ionice", "chrt", "taskset"], valueOptions: ["-n", "-c", "-p"], ...EXEC },
  { executables: ["stdbuf"], valueOptions: ["-i", "-o", "-e"], ...EXEC },
  { executables: ["nohup", "setsid", "ddtrace-run", "opentelemetry-instrument"], ...EXEC },
  { executables: ["newrelic-admin"], subcommands: ["run-program"], ...EXEC },
  { executables: ["bundle", "pipenv", "poetry"], subcommands: ["exec", "run"], valueOptions: ["-C"], ...EXEC },
  {
    executables: ["uv"],
    subcommands: ["run"],
    valueOptions: ["--with", "--extra", "--group", "--python", "-p", "--env-file", "--project", "--directory"],
    ...SPAWN,
  },
  { executables: ["uvx"], valueOptions: ["--from", "--with", "--python", "-p"], ...SPAWN },
  { executables: ["pdm", "hatch", "rye"], subcommands: ["run"], valueOptions: ["-p"], ...SPAWN },
  { executables: ["tini", "dumb-init", "catatonit"], ...SPAWN },
  { executables: ["npx", "bunx"], valueOptions: ["-p", "--package"], ...NODE_SPAWN },
  { executables: ["npm", "pnpm", "yarn"], subcommands: ["exec", "dlx"], ...NODE_SPAWN },
];

/** The program with this executable, such as `/venv/bin/uvicorn` or `puma-6.4`; undefined if none matches. */
export function programOf(word: string): Program | undefined {
  return byName(word, PROGRAMS);
}

export function wrapperOf(word: string): Wrapper | undefined {
  return byName(word, WRAPPERS);
}

/** The name of an executable without its directory, and with or without its version. */
export function namesOf(word: string): readonly string[] {
  const name = word.slice(word.lastIndexOf("/") + 1);
  return [name, name.replace(/-?\d+(?:\.\d+)*$/u, "")];
}

function byName<T extends { readonly executables: readonly string[] }>(
  word: string,
  entries: readonly T[],
): T | undefined {
  for (const name of namesOf(word)) {
    const found = entries.find(({ executables }) => executables.includes(name));
    if (found !== undefined) return found;
  }
  return undefined;
}
