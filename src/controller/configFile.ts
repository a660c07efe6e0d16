/** Reads a configuration file and reports all its problems in one error. Makes no other system queries. */
import { ControllerError, type ErrorCode } from "../base/errors.ts";
import { decodeOsText } from "../base/osText.ts";
import { formatProblem, type ParsedConfig, parseConfig } from "../config/load.ts";
import type { Environment } from "../config/variables.ts";
import { FileError, readWholeFile } from "../files/readFile.ts";

/** A configuration file that was read: the Config, warnings, and the position of each key. */
export type ReadConfig = Extract<ParsedConfig, { ok: true }>;

/** One problem that prevents a configuration from being run. */
export interface ConfigurationProblem {
  readonly code: ErrorCode;
  readonly line: number;
  readonly column: number;
  /** Such as `supervisor.workers[0].exec`; empty if it concerns the whole file. */
  readonly path: string;
  readonly message: string;
  readonly hint: string | undefined;
}

/** All problems of a configuration. The code is the one that they share, otherwise CONFIG_INVALID. */
export class ConfigurationError extends ControllerError {
  readonly file: string;
  /** At least one. */
  readonly problems: readonly ConfigurationProblem[];

  constructor(file: string, problems: readonly ConfigurationProblem[]) {
    const codes = new Set(problems.map(({ code }) => code));
    const [only] = codes;
    const count = problems.length === 1 ? "1 problem" : `${problems.length} problems`;
    const lines = problems.map((problem) => {
      const hint = problem.hint === undefined ? "" : `\n  hint: ${problem.hint}`;
      const code = problem.code === "CONFIG_INVALID" ? "" : ` [${problem.code}]`;
      return `\n${formatProblem(file, problem)}${code}${hint}`;
    });
    super(codes.size === 1 && only !== undefined ? only : "CONFIG_INVALID", `${file} has ${count}:${lines.join("")}`);
    this.file = file;
    this.problems = problems;
  }
}

/** A file by its name, or the text of a configuration that has no file. */
export type ConfigSource = string | { readonly name: string; readonly text: string };

/** What messages call a source. */
export function nameOf(source: ConfigSource): string {
  return typeof source === "string" ? source : source.name;
}

/**
 * Reads `source` without checking its values against the system. Rejects with a ControllerError CONFIG_UNREADABLE, or a
 * ConfigurationError with every problem at once.
 */
export async function readConfig(source: ConfigSource, env: Environment): Promise<ReadConfig> {
  const file = nameOf(source);
  const parsed = parseConfig(typeof source === "string" ? await readText(source) : source.text, file, env);
  if (parsed.ok) return parsed;
  throw new ConfigurationError(
    file,
    parsed.problems.map((problem) => ({ ...problem, code: "CONFIG_INVALID", hint: undefined })),
  );
}

/** Rejects with a ControllerError CONFIG_UNREADABLE, or a ConfigurationError if it is not UTF-8. */
async function readText(file: string): Promise<string> {
  const text = decodeOsText(await readBytes(file));
  if (text.isWellFormed()) return text;
  throw new ConfigurationError(file, [{ ...notUtf8(text), code: "CONFIG_INVALID", path: "", hint: undefined }]);
}

/** Position of the first byte that is not UTF-8, and what to do about it. */
function notUtf8(text: string): { readonly line: number; readonly column: number; readonly message: string } {
  const before = text.slice(0, text.search(/\p{Surrogate}/u));
  const line = before.split("\n").length;
  const column = before.length - before.lastIndexOf("\n");
  const byte = text.charCodeAt(before.length) - 0xdc00;
  // Byte order marks of UTF-16.
  if (before === "" && (byte === 0xfe || byte === 0xff))
    return { line, column, message: "the file is UTF-16, expected UTF-8" };
  const latin1 = byte >= 0xa0 ? ` (${JSON.stringify(String.fromCharCode(byte))} in Latin-1)` : "";
  return { line, column, message: `byte 0x${byte.toString(16)}${latin1} is not UTF-8; save the file as UTF-8` };
}

async function readBytes(file: string): Promise<Uint8Array> {
  try {
    return (await readWholeFile(file)).bytes;
  } catch (cause) {
    if (!(cause instanceof FileError)) throw cause;
    throw new ControllerError("CONFIG_UNREADABLE", `Cannot read configuration "${file}": ${cause.message}`, { cause });
  }
}
