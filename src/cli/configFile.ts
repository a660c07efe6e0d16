/** Reads a configuration file and says what is wrong with it, as one error with every problem. Asks nothing else of the system. */
import { readFileSync } from "node:fs";
import { ControllerError, type ErrorCode } from "../base/errors.ts";
import { formatProblem, type ParsedConfig, parseConfig } from "../config/load.ts";
import type { Environment } from "../config/variables.ts";

/** A configuration file that was read: the Config, warnings, and where each key stands. */
export type ReadConfig = Extract<ParsedConfig, { ok: true }>;

/** One thing that keeps a configuration from being run. */
export interface ConfigurationProblem {
  readonly code: ErrorCode;
  readonly line: number;
  readonly column: number;
  /** Such as `supervisor.workers[0].exec`; empty where it is about the file as a whole. */
  readonly path: string;
  readonly message: string;
  readonly hint: string | undefined;
}

/** All problems of a configuration. The code is theirs where they share one, else CONFIG_INVALID. */
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

/**
 * Reads `file` without asking the system about what it says.
 * @throws ControllerError CONFIG_UNREADABLE; ConfigurationError with every problem at once
 */
export function readConfig(file: string, env: Environment): ReadConfig {
  const parsed = parseConfig(readText(file), file, env);
  if (parsed.ok) return parsed;
  throw new ConfigurationError(
    file,
    parsed.problems.map((problem) => ({ ...problem, code: "CONFIG_INVALID", hint: undefined })),
  );
}

function readText(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? String(cause.code) : "";
    throw new ControllerError(
      "CONFIG_UNREADABLE",
      `Cannot read configuration "${file}": ${READ_FAILURES[code] ?? String(cause)}`,
      { cause },
    );
  }
}

const READ_FAILURES: Readonly<Record<string, string>> = {
  ENOENT: "there is no such file",
  ENOTDIR: "there is no such file",
  EISDIR: "it is a directory, expected a file",
  EACCES: "this user may not read it",
};
