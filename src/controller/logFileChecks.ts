/** Which file the lines of a pool go to, and whether it can be used. */
import { accessSync, constants, lstatSync, realpathSync, statSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { codeOf, messageOf } from "../base/errors.ts";
import type { PoolConfig } from "../config/config.ts";
import { distrustOf, type Identity, kindOf } from "../files/inspectPath.ts";
import type { PoolFile } from "../logs/file/logFiles.ts";

/** Time for which workers wait for a file that cannot be written, before lines are discarded. */
const PATIENCE_MS = 10_000;

/** The log file of a pool; undefined if it has none. */
export function poolFile({ logs: { file } }: Pick<PoolConfig, "logs">): PoolFile | undefined {
  if (file === undefined) return undefined;
  return {
    path: resolve(file.path),
    maxBytes: file.maxBytes === "unlimited" ? Number.POSITIVE_INFINITY : file.maxBytes,
    keep: file.keep,
    isCompressed: file.compress === "gzip",
    isOnly: file.isOnly,
    patienceMs: file.onError === "block" ? Number.POSITIVE_INFINITY : PATIENCE_MS,
  };
}

/** A clause about what is wrong, and what to do about it. */
export interface LogFileProblem {
  readonly message: string;
  readonly hint?: string;
}

/** Why a log file cannot be used; undefined if it can. Creates nothing. */
export function logFileProblem(path: string, identities: readonly Identity[]): LogFileProblem | undefined {
  const directory = dirname(resolve(path));
  try {
    if (!statSync(directory).isDirectory()) return { message: `"${directory}" is not a directory` };
    accessSync(directory, constants.W_OK | constants.X_OK);
  } catch (error) {
    return directoryProblem(directory, error);
  }
  try {
    const kind = kindOf(lstatSync(path));
    if (kind !== "file") return { message: `it is a ${kind}, expected a file`, ...hintOf(path, kind) };
    accessSync(path, constants.R_OK | constants.W_OK);
  } catch (error) {
    if (codeOf(error) === "EACCES") return { message: "this user may not read and write it" };
    if (codeOf(error) !== "ENOENT") return { message: codeOf(error) ?? messageOf(error) };
  }
  const distrust = distrustOf(path, { identities });
  return distrust === undefined ? undefined : { message: distrust.reason, hint: distrust.hint };
}

function directoryProblem(directory: string, error: unknown): LogFileProblem {
  switch (codeOf(error)) {
    case "ENOENT":
    case "ENOTDIR":
      return { message: `there is no directory "${directory}"`, hint: `mkdir -p ${directory}` };
    case "EACCES":
      return { message: `this user may not create files in "${directory}", which rotation requires` };
    case "EROFS":
      return { message: `"${directory}" is on a read-only file system` };
    default:
      return { message: `"${directory}": ${codeOf(error) ?? messageOf(error)}` };
  }
}

function hintOf(path: string, kind: string): Pick<LogFileProblem, "hint"> {
  if (kind === "symlink") return { hint: "Write the path that the symbolic link leads to." };
  return /^\/dev\/(?:stdout|stderr|fd\/[12])$/u.test(path)
    ? { hint: "Remove logs.file: lines go to the controller's stdout and stderr anyway." }
    : {};
}

/** A log file of one pool that another pool would also write. */
export interface LogFileConflict {
  /** Index of the later pool. */
  readonly pool: number;
  readonly message: string;
}

/** Files that two pools would write: the same path, or a name that a rotated or compressed file of the other has. */
export function logFileConflicts(pools: readonly Pick<PoolConfig, "name" | "logs">[]): readonly LogFileConflict[] {
  const files = pools.flatMap(({ name, logs: { file } }, index) =>
    file === undefined ? [] : [{ index, name, path: realPath(file.path) }],
  );
  return files.flatMap(({ index, path }, at) => {
    const first = files.slice(0, at).find((each) => isTaken(path, each.path) || isTaken(each.path, path));
    if (first === undefined) return [];
    const message =
      first.path === path
        ? `pool "${first.name}" writes the same file; each pool needs a file of its own`
        : `its rotated files and "${first.path}" of pool "${first.name}" have names in common; choose another path`;
    return [{ pool: index, message }];
  });
}

/** Whether `path` is the file `base`, or may become one of its rotated files. */
function isTaken(path: string, base: string): boolean {
  return path.startsWith(base) && /^(?:\.[1-9]\d{0,2}(?:\.gz)?|\.gz\.tmp)?$/u.test(path.slice(base.length));
}

/** The path with the symbolic links of its directory resolved, as far as that exists. */
function realPath(path: string): string {
  const absolute = resolve(path);
  try {
    return join(realpathSync(dirname(absolute)), basename(absolute));
  } catch {
    return absolute;
  }
}
