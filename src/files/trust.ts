/**
 * Decides whether a path may be trusted: whether only trusted users can change what it leads to. Checks each step by
 * which the kernel resolves the path (path_resolution(7)): directories, symbolic links, the object itself. Pure.
 */

/** The type of a file system object. */
export type FileKind = "directory" | "file" | "symlink" | "socket" | "FIFO" | "device";

/** One step of a path, as lstat(2) describes it. */
export interface PathStep {
  readonly path: string;
  readonly kind: FileKind;
  readonly uid: number;
  readonly gid: number;
  readonly mode: number;
}

/** The users that could modify a path. */
export interface Population {
  /** Users that a process may run as; `any` unless this is a container, whose processes are known. */
  readonly users: ReadonlySet<number> | "any";
  /** Whether a process of this user namespace can have the uid. Owners of files from outside may have no uid in it. */
  isMapped(uid: number): boolean;
  /** Users that belong to a group. */
  membersOf(gid: number): readonly number[];
}

/** Why a path must not be trusted. */
export interface Distrust {
  /** A clause such as `every user may write to "/srv"`. */
  readonly reason: string;
  /** What to do about it. */
  readonly hint: string;
}

const GROUP_WRITE = 0o020;
const OTHERS_WRITE = 0o002;
const STICKY = 0o1000;

/**
 * The first step that a user besides `owners` controls; undefined if there is none. Steps are in the order in which the
 * kernel takes them; steps that do not exist yet are omitted.
 */
export function findDistrust(
  steps: readonly PathStep[],
  owners: ReadonlySet<number>,
  population: Population,
): Distrust | undefined {
  const isThreat = (uid: number) =>
    !owners.has(uid) && population.isMapped(uid) && (population.users === "any" || population.users.has(uid));
  const isAnyThreat = population.users === "any" || [...population.users].some(isThreat);
  for (const { path, kind, uid, gid, mode } of steps) {
    const name = `${kind === "symlink" ? "symbolic link" : kind} "${path}"`;
    // The owner may change the mode.
    if (isThreat(uid))
      return { reason: `user ${uid} owns the ${name}`, hint: `chown ${[...owners].at(-1) ?? 0} ${path}` };
    // The mode of a symbolic link has no effect; the mode of a socket controls who may connect. In a sticky directory
    // users may replace only what they own, which the next step checks.
    if (kind === "symlink" || kind === "socket" || (kind === "directory" && (mode & STICKY) !== 0)) continue;
    if ((mode & OTHERS_WRITE) !== 0 && isAnyThreat)
      return { reason: `every user may write to the ${name}`, hint: `chmod o-w ${path}${orSticky(kind)}` };
    const member = (mode & GROUP_WRITE) === 0 ? undefined : population.membersOf(gid).find(isThreat);
    if (member !== undefined)
      return {
        reason: `user ${member} of group ${gid} may write to the ${name}`,
        hint: `chmod g-w ${path}${orSticky(kind)}`,
      };
  }
  return undefined;
}

/** Alternative for a directory that must stay writable, such as a volume of a pod. */
function orSticky(kind: FileKind): string {
  return kind === "directory" ? ", or chmod +t if it has to be" : "";
}
