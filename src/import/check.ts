/**
 * Completes a translated file and verifies it: the printed text must be a valid configuration. A setting that our file
 * refuses is moved to the ignored keys with the reason, so that one odd value does not prevent the import. What only the
 * target machine knows (executables, users, ports) is left to `monoceros validate`.
 */
import { parseDuration } from "../base/units.ts";
import { formatProblem, parseConfig } from "../config/load.ts";
import type { Draft, Ignored, Imported } from "./draft.ts";
import { SourceError } from "./draft.ts";
import { printImport } from "./print.ts";

export interface CheckedImport {
  readonly yaml: string;
  /** In the order of the file as far as it is known. */
  readonly ignored: readonly Ignored[];
  readonly notes: readonly string[];
  /** Names of all pools, and of those that are printed as comments. */
  readonly pools: readonly string[];
  readonly disabled: readonly string[];
}

/** Default of supervisor.shutdown_timeout, and what a stop needs beyond the longest grace period. */
const SHUTDOWN_MS = 60_000;
const SHUTDOWN_MARGIN_MS = 10_000;

/** A setting may cause one problem after another, but each round removes a setting. */
const MAX_ROUNDS = 1000;

/** `title` is the comment at the beginning. @throws SourceError if no valid configuration can be made of it */
export function checkImport(imported: Imported, title: readonly string[]): CheckedImport {
  const { pools, general } = imported;
  if (!pools.some(({ isDisabled }) => !isDisabled)) throw new SourceError("it starts no program by itself");
  for (const pool of pools)
    if (pool.get("exec") === undefined)
      throw new SourceError(`${pool.title} has no command: ${pool.ignored.at(-1)?.reason ?? "expected one"}`);
  extendShutdown(imported);
  for (let round = 0; round < MAX_ROUNDS; round += 1) {
    const yaml = printImport(imported, title);
    const parsed = parseConfig(yaml, "the result", placeholders(yaml));
    if (!parsed.ok) {
      repair(imported, parsed.problems);
      continue;
    }
    const drafts: readonly Draft[] = [general, ...pools];
    const ignored = drafts.flatMap((draft) => draft.ignored);
    return {
      yaml,
      ignored,
      notes: [...general.notes, ...pools.flatMap(({ name, notes }) => notes.map((note) => `${name}: ${note}`))],
      pools: pools.map(({ name }) => name),
      disabled: pools.filter(({ isDisabled }) => isDisabled).map(({ name }) => name),
    };
  }
  throw new SourceError("its values cannot be translated");
}

/** The shutdown of all pools must leave each worker its grace period. */
function extendShutdown({ pools, general }: Imported): void {
  const longest = Math.max(
    0,
    ...pools.map((pool) => parseDuration(String(pool.get("signal_timeout")?.value ?? "0")) ?? 0),
  );
  if (longest + SHUTDOWN_MARGIN_MS <= SHUTDOWN_MS || general.get("shutdown_timeout") !== undefined) return;
  const wanted = Math.ceil((longest + SHUTDOWN_MARGIN_MS) / 1000);
  general.set("shutdown_timeout", `${wanted}s`, [], "longer than each signal_timeout");
}

/** A value for each variable that the text reads, because the variables belong to the target machine. */
function placeholders(yaml: string): Record<string, string> {
  return Object.fromEntries([...yaml.matchAll(/\$\{(\w+)/gu)].map(([, name = ""]) => [name, "1"]));
}

interface Problem {
  readonly line: number;
  readonly column: number;
  readonly path: string;
  readonly message: string;
}

/** Moves the settings with problems to the ignored keys. @throws SourceError if a problem has no setting */
function repair({ pools, general }: Imported, problems: readonly Problem[]): void {
  const enabled = pools.filter(({ isDisabled }) => !isDisabled);
  let repaired = 0;
  for (const { path, message } of problems) {
    const [, index, rest = ""] = /^supervisor\.workers\[(\d+)\]\.?(.*)$/su.exec(path) ?? [];
    const draft = index === undefined ? general : enabled[Number(index)];
    const block = index === undefined ? path.replace(/^supervisor\.?/u, "") : rest;
    const unknown = /^unknown key "([^"]+)"/u.exec(message)?.[1];
    const wanted = [block, unknown ?? ""].filter((part) => part !== "").join(".");
    const setting =
      draft?.settings.find((each) => isRelated(each.path.join("."), wanted)) ??
      draft?.settings.find((each) => each.path.join(".").startsWith(`${wanted}.`));
    if (draft === undefined || setting === undefined || wanted === "" || wanted === "exec") continue;
    draft.remove(setting.path);
    const keys =
      setting.keys.length > 0
        ? setting.keys
        : [{ name: setting.path.join("."), short: setting.path.join("."), where: "default" }];
    for (const key of keys) draft.ignore(key, `${setting.path.join(".")}: ${message}`);
    repaired += 1;
  }
  const [first] = problems;
  if (repaired === 0 && first !== undefined)
    throw new SourceError(`no valid configuration can be made of it: ${formatProblem("result", first)}`);
}

/** Whether a problem at `problem` concerns the setting at `setting`. */
function isRelated(setting: string, problem: string): boolean {
  if (problem === "") return false;
  return problem === setting || /^[.[]/u.test(problem.startsWith(setting) ? problem.slice(setting.length) : "-");
}
