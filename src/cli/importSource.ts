/** Reads and evaluates the file of another process manager, and translates it. */
import { globSync } from "node:fs";
import { basename, dirname, isAbsolute, join, resolve } from "node:path";
import { ControllerError } from "../base/errors.ts";
import { formatDuration } from "../base/units.ts";
import { foreignFile } from "../config/hints.ts";
import { EVALUATION_MS, type Evaluation, evaluate } from "../controller/evaluation.ts";
import { isFile } from "../files/executable.ts";
import { FileError, readWholeFile } from "../files/readFile.ts";
import { type CheckedImport, checkImport } from "../import/check.ts";
import { type Imported, type Source, SourceError } from "../import/draft.ts";
import type { PythonValue } from "../import/gunicorn/literals.ts";
import { translateGunicorn } from "../import/gunicorn/translate.ts";
import { type Json, parsePm2Text, readPm2Export } from "../import/pm2/document.ts";
import { translatePm2 } from "../import/pm2/translate.ts";
import { translateProcfile } from "../import/procfile.ts";
import { includedFiles, translateSupervisord } from "../import/supervisord/translate.ts";
import { translateSystemd } from "../import/systemd/translate.ts";

export const IMPORT_KINDS = ["supervisord", "pm2", "procfile", "gunicorn", "systemd"] as const;
export type ImportKind = (typeof IMPORT_KINDS)[number];

export interface ImportOptions {
  /** PM2: name of an `env_<name>`. */
  readonly env: string | undefined;
  /** Procfile: processes by name. */
  readonly formation: Readonly<Record<string, number>>;
  /** gunicorn: the application. */
  readonly app: string | undefined;
  /** gunicorn: whether python3 may execute the file. */
  readonly mayExecute: boolean;
  /** PATH of the caller. */
  readonly path: string | undefined;
  readonly boundMs?: number;
}

/** What each kind of file is called. */
const NAMES: Readonly<Record<ImportKind, string>> = {
  supervisord: "supervisord configuration",
  pm2: "PM2 configuration",
  procfile: "Procfile",
  gunicorn: "gunicorn configuration",
  systemd: "systemd unit",
};

/** @throws ControllerError IMPORT_SOURCE_UNREADABLE, IMPORT_SOURCE_INVALID, IMPORT_EVALUATION_FAILED */
export async function importFile(kind: ImportKind, file: string, options: ImportOptions): Promise<CheckedImport> {
  const source = await readSource(file);
  try {
    const title = [
      `Imported from the ${NAMES[kind]} ${file}.`,
      "Check it on the target machine: monoceros validate -c FILE",
    ];
    return checkImport(await TRANSLATORS[kind](source, options), title);
  } catch (error) {
    if (!(error instanceof SourceError)) throw error;
    const guess = foreignFile(source.text)?.message.split(";")[0];
    throw new ControllerError(
      "IMPORT_SOURCE_INVALID",
      `Cannot import "${file}" as a ${NAMES[kind]}: ${error.message}`,
      {
        cause: error,
        hint: guess === undefined || guess.includes(NAMES[kind]) ? undefined : `It seems that ${guess}.`,
      },
    );
  }
}

type Translator = (source: Source, options: ImportOptions) => Promise<Imported>;

const TRANSLATORS: Readonly<Record<ImportKind, Translator>> = {
  supervisord: async (source) => translateSupervisord([source, ...(await readIncludes(source))]),
  pm2: async (source, options) => {
    if (!/\.(?:[cm]?js|ts)$/u.test(source.file)) return translatePm2(parsePm2Text(source), options);
    return translatePm2(readPm2Export(source, (await evaluateNode(source, options)) as Json), options);
  },
  procfile: async (source, { formation }) => {
    const envFile = join(source.directory, ".env");
    return translateProcfile(source, { formation, envFile: isFile(envFile) ? envFile : undefined });
  },
  gunicorn: async (source, options) => {
    const path = resolve(source.file);
    const evaluated = options.mayExecute ? await evaluatePython(source, options) : undefined;
    return translateGunicorn(source, { evaluated, app: options.app, path });
  },
  systemd: async (source) => {
    const dropIns = await readAll(filesOf("*.conf", `${source.file}.d`));
    return translateSystemd([source, ...dropIns], basename(source.file));
  },
};

/** @throws ControllerError IMPORT_SOURCE_UNREADABLE */
async function readSource(file: string): Promise<Source> {
  const unreadable = (reason: string, cause?: unknown) =>
    new ControllerError("IMPORT_SOURCE_UNREADABLE", `Cannot read "${file}": ${reason}`, { cause });
  try {
    const { bytes } = await readWholeFile(file);
    const text = new TextDecoder("utf-8", { fatal: true }).decode(bytes);
    if (/[\u0000-\u0008\u000e-\u001f]/u.test(text)) throw unreadable("it is not a text file");
    return { file, directory: dirname(resolve(file)), text };
  } catch (error) {
    if (error instanceof FileError) throw unreadable(error.message, error);
    if (error instanceof TypeError) throw unreadable("it is not a text file in UTF-8", error);
    throw error;
  }
}

function readAll(files: readonly string[]): Promise<Source[]> {
  return Promise.all(files.map(readSource));
}

async function readIncludes(source: Source): Promise<Source[]> {
  const files = includedFiles(source).flatMap((pattern) => filesOf(pattern, dirname(source.file)));
  return readAll([...new Set(files)].filter((file) => resolve(file) !== resolve(source.file)));
}

/** Sorted paths that match a pattern, which is relative to `directory` unless it is absolute. */
function filesOf(pattern: string, directory: string): string[] {
  const found = globSync(pattern, { cwd: directory }).sort();
  return found.map((file) => (isAbsolute(file) ? file : join(directory, file)));
}

const NODE_CODE = `
const [word, file] = process.argv.slice(1);
import(require("url").pathToFileURL(file).href).then((loaded) => {
  let value = loaded.default === undefined ? loaded : loaded.default;
  if (value && value.__esModule && value.default) value = value.default;
  process.stdout.write("\\n" + word + ":" + JSON.stringify(value) + "\\n", () => process.exit(0));
}).catch((error) => {
  process.stdout.write("\\n" + (error && error.stack || error) + "\\n", () => process.exit(1));
});`;

/** What a JavaScript file exports. */
async function evaluateNode(source: Source, options: ImportOptions): Promise<unknown> {
  const result = await runInterpreter("node", ["-e", NODE_CODE], source, options);
  if (result.kind !== "missing") return parseResult(result, source, "node");
  throw failed(source, "it is JavaScript, and there is no node on PATH", "Install Node.js, or write the file as JSON.");
}

const PYTHON_CODE = `
import json, os, sys, types
word, path = sys.argv[1:3]
sys.argv = ["gunicorn"]
space = {"__name__": "__config__", "__file__": path}
with open(path, "rb") as source:
    exec(compile(source.read(), path, "exec"), space)
values = {}
for name, value in space.items():
    if name.startswith("__") or isinstance(value, types.ModuleType):
        continue
    try:
        values[name] = json.loads(json.dumps(value))
    except (TypeError, ValueError, RecursionError):
        values[name] = {"python": str(type(value))}
sys.stdout.flush()
os.write(1, ("\\n" + word + ":" + json.dumps(values) + "\\n").encode())
os._exit(0)`;

/** The values of the names in a Python file; undefined if there is no python3. */
async function evaluatePython(
  source: Source,
  options: ImportOptions,
): Promise<Record<string, PythonValue> | undefined> {
  const result = await runInterpreter("python3", ["-c", PYTHON_CODE], source, options);
  if (result.kind === "missing") return undefined;
  return parseResult(result, source, "python3") as Record<string, PythonValue>;
}

function runInterpreter(
  program: string,
  code: readonly string[],
  source: Source,
  { path, boundMs = EVALUATION_MS }: ImportOptions,
): Promise<Evaluation> {
  return evaluate({ program, options: code, file: resolve(source.file), path, boundMs });
}

/** @throws ControllerError IMPORT_EVALUATION_FAILED */
function parseResult(result: Exclude<Evaluation, { kind: "missing" }>, source: Source, program: string): unknown {
  const hint =
    program === "python3" ? "Import it with --no-eval to read only the values that are written in it." : undefined;
  if (result.kind === "timeout")
    throw failed(source, `${program} did not finish it within ${formatDuration(result.boundMs)}`, hint);
  if (result.kind === "failed")
    throw failed(source, `${program} printed no configuration: ${summaryOf(result.output)}`, hint);
  try {
    return JSON.parse(result.json);
  } catch {
    throw failed(source, "it exports no configuration, expected an object with apps", hint);
  }
}

function failed(source: Source, reason: string, hint: string | undefined): ControllerError {
  return new ControllerError("IMPORT_EVALUATION_FAILED", `Cannot evaluate "${source.file}": ${reason}`, { hint });
}

const SUMMARY_LENGTH = 300;

/** The line with the error, or the last one. */
function summaryOf(output: string): string {
  const lines = output.split("\n").filter((line) => line.trim() !== "");
  const line = lines.findLast((each) => /^\s*(?:\w*Error|\w*Exception)\b/u.test(each)) ?? lines.at(-1) ?? "no output";
  return line.trim().slice(0, SUMMARY_LENGTH);
}
