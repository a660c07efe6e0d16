/**
 * A hard link to a worker's Unix socket, for the proxy. The worker owns the directory of its socket and can replace it,
 * for example with a symlink to a socket that only root may open. So the proxy uses a link in a directory that the
 * worker cannot write: the socket cannot be replaced after the check.
 */

import { chmodSync, chownSync, linkSync, lstatSync, renameSync, rmSync, type Stats } from "node:fs";
import { messageOf } from "../../base/errors.ts";

export interface ExposedSocket {
  /** Where the worker listens. */
  readonly path: string;
  /** The link, in a directory that only root may write. */
  readonly link: string;
  /** The user that the worker runs as. */
  readonly owner: number;
  /** The group that may connect through the link. */
  readonly group: number;
}

/** Permission to connect (unix(7)). */
const GROUP_ACCESS = 0o060;

/** Creates or renews the link. Returns why the socket may not be exposed; undefined if it is. */
export function exposeSocket({ path, link, owner, group }: ExposedSocket): string | undefined {
  const wanted = lstatSync(path, { throwIfNoEntry: false });
  const present = lstatSync(link, { throwIfNoEntry: false });
  if (wanted === undefined) return present === undefined ? `there is no socket at ${path}` : undefined;
  if (present !== undefined && isSame(wanted, present) && isOpenTo(present, group)) return undefined;
  const fresh = `${link}.new`;
  try {
    rmSync(fresh, { force: true });
    // link(2) does not follow a symlink.
    linkSync(path, fresh);
    const linked = lstatSync(fresh);
    if (!linked.isSocket()) return `${path} is ${linked.isSymbolicLink() ? "a symlink" : "not a socket"}`;
    if (linked.uid !== owner) return `${path} belongs to uid ${linked.uid}, expected uid ${owner} of the worker`;
    if (!isOpenTo(linked, group)) {
      chownSync(fresh, linked.uid, group);
      chmodSync(fresh, (linked.mode & 0o777) | GROUP_ACCESS);
    }
    renameSync(fresh, link);
    return undefined;
  } catch (error) {
    return `${path} cannot be linked for the proxy: ${messageOf(error)}`;
  } finally {
    // A rename between two names of one file does nothing.
    rmSync(fresh, { force: true });
  }
}

function isSame(a: Stats, b: Stats): boolean {
  return a.dev === b.dev && a.ino === b.ino;
}

function isOpenTo({ gid, mode }: Stats, group: number): boolean {
  return gid === group && (mode & GROUP_ACCESS) === GROUP_ACCESS;
}
