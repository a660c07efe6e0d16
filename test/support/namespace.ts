/** PID namespaces, in which a controller is PID 1 as in a container. */
import { spawnSync } from "node:child_process";

/**
 * A command prefix that makes its command PID 1 of a new namespace with a /proc of its own. Works for root and for users
 * who may create user namespaces; undefined if the system allows neither.
 */
export const NAMESPACE: readonly string[] | undefined = [
  ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"],
  ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child=KILL"],
].find(([file = "", ...args]) => spawnSync(file, [...args, "true"]).status === 0);
