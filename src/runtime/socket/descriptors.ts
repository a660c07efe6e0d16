/** Targets of the descriptors of processes. Each process may exit meanwhile, or refuse inspection. */
import { existsSync, readdirSync, readlinkSync } from "node:fs";
import { codeOf } from "../../base/errors.ts";
import { listNames, readText } from "../os/procFile.ts";
import { listDescendants, parsePids } from "../os/procfs.ts";

/** Targets of the descriptors of a process, by number; "refused" if this process may not or cannot inspect them. */
export type Descriptors = ReadonlyMap<number, string> | "refused";

/** The descriptors of a process (proc(5), /proc/pid/fd); none if it has exited. */
export function readDescriptors(pid: number): Descriptors {
  const targets = new Map<number, string>();
  let names: string[];
  try {
    names = readdirSync(`/proc/${pid}/fd`);
  } catch (error) {
    return hasEnded(error) ? targets : "refused";
  }
  for (const name of names) {
    try {
      targets.set(Number(name), readlinkSync(`/proc/${pid}/fd/${name}`));
    } catch (error) {
      // A descriptor that was closed meanwhile; the others still count.
      if (!hasEnded(error)) return "refused";
    }
  }
  return targets;
}

/** Whether the process or its descriptor no longer exists; anything else (EACCES, EMFILE) says nothing about it. */
function hasEnded(error: unknown): boolean {
  const code = codeOf(error);
  return code === "ENOENT" || code === "ESRCH";
}

/** The inode that a descriptor's target names, `socket:[123]`; undefined if it is not a socket. */
export function socketInode(target: string): string | undefined {
  return target.startsWith("socket:[") ? target.slice(8, -1) : undefined;
}

/** A process and all its descendants at this moment, parents before children. */
export function* walkTree(root: number): Generator<number> {
  yield root;
  for (const child of readChildren(root) ?? listDescendants(root)) yield* walkTree(child);
}

/** The children of all threads of a process; undefined if the kernel does not list them (CONFIG_PROC_CHILDREN). */
function readChildren(pid: number): readonly number[] | undefined {
  if (!hasChildrenLists()) return undefined;
  // A thread that exited meanwhile has no children any more.
  const texts = listNames(`/proc/${pid}/task`).map((thread) => readText(`/proc/${pid}/task/${thread}/children`) ?? "");
  return texts.flatMap(parsePids);
}

let knownLists: boolean | undefined;

function hasChildrenLists(): boolean {
  knownLists ??= existsSync(`/proc/self/task/${process.pid}/children`);
  return knownLists;
}
