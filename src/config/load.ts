/**
 * The text of a configuration file → a Config, or all its problems at once with line and column. Never throws,
 * whatever the text. It does not access the system: files are read and executables looked up elsewhere.
 */
import { type Config, configKind } from "./config.ts";
import { foreignFile } from "./hints.ts";
import { blocksByKey } from "./misplaced.ts";
import { type Position, type Problem, Reader } from "./reader.ts";
import { parseTree } from "./tree.ts";
import type { Environment } from "./variables.ts";

export type { Position, Problem } from "./reader.ts";

/** The result of reading a file. */
export type ParsedConfig =
  | {
      readonly ok: true;
      readonly file: string;
      readonly config: Config;
      readonly warnings: readonly Problem[];
      /** The position of each key that is set, by path such as `supervisor.workers[0].replicas`. */
      readonly positions: ReadonlyMap<string, Position>;
    }
  | {
      readonly ok: false;
      readonly file: string;
      /** At least one, in file order. */
      readonly problems: readonly Problem[];
    };

/** Reads `text`, the content of `file`; variables come from `env`. */
export function parseConfig(text: string, file: string, env: Environment): ParsedConfig {
  let blocks: ReturnType<typeof blocksByKey> | undefined;
  const reader = new Reader(text, env, (key) => {
    blocks ??= blocksByKey(configKind);
    return blocks.get(key) ?? [];
  });
  const foreign = foreignFile(text);
  if (foreign !== undefined) {
    reader.problem({ path: "", offset: foreign.offset }, foreign.message);
    return { ok: false, file, problems: reader.problems() };
  }
  const root = parseTree(text, (offset, message) => reader.problem({ path: "", offset }, message));
  const whole = { path: "", offset: 0 };
  let config: Config | undefined;
  if (root.kind === "map") {
    config = configKind.read(root, { path: "", offset: root.offset }, reader);
  } else if (!reader.hasProblems) {
    if (root.kind === "null") reader.problem(whole, "the file is empty, expected a block with supervisor");
    else configKind.read(root, whole, reader);
  }
  if (config === undefined || reader.hasProblems) return { ok: false, file, problems: reader.problems() };
  const positions = new Map<string, Position>();
  for (const [path, offset] of reader.offsets) positions.set(path, reader.positionAt(offset));
  return { ok: true, file, config, warnings: reader.warnings(), positions };
}

/** A problem as one line: `config.yaml:14:7: supervisor.workers[0].replicas: expected …`. */
export function formatProblem(file: string, { line, column, path, message }: Problem): string {
  return `${file}:${line}:${column}: ${path === "" ? "" : `${path}: `}${message}`;
}
