/**
 * Chooses the user that Envoy runs as. Envoy parses client input, so a root controller gives it a dedicated user:
 * neither root nor a worker's user, which could signal and trace it. decideEnvoyUser() is pure.
 */
import { ControllerError } from "../../base/errors.ts";
import { findClosed } from "../os/access.ts";
import { readText } from "../os/procFile.ts";
import { resolveUser } from "./launch.ts";
import type { Credentials } from "./spawnShim.ts";

/** The controller's privileges, and the ids that the system knows. */
export interface IdentityFacts {
  readonly uid: number;
  /** The effective capabilities, one bit each. */
  readonly capabilities: bigint;
  /** Whether /etc/passwd or /etc/group has this id. */
  readonly isNamed: (id: number) => boolean;
  /** Whether this user namespace maps this id, as user and as group. */
  readonly isMapped: (id: number) => boolean;
}

export interface EnvoyUserRequest {
  readonly pool: string;
  /** The ids of `server.user`; undefined if it is not set. */
  readonly configured: Pick<Credentials, "uid" | "gid" | "groups"> | undefined;
  /** The user that the pool's workers run as. */
  readonly workerUid: number;
  /** The users of all pools. */
  readonly uids: ReadonlySet<number>;
}

export interface EnvoyUser {
  /** undefined if Envoy runs as the controller does. */
  readonly credentials: Credentials | undefined;
  /** Whether the controller may link sockets of other users for Envoy; see exposedSocket.ts. */
  readonly mayLink: boolean;
  /** Information for the operator that needs no action. */
  readonly note?: string;
  /** Why the decision is less safe than it could be. */
  readonly warning?: string;
}

/** Ids that no distribution assigns: above systemd's dynamic users, below `nobody`. Most user namespaces map them. */
const FIRST_ID = 65_520;
const LAST_ID = 65_533;

const CAP_NET_BIND_SERVICE = 10;

/** Capabilities that root needs to run Envoy as another user, and to reach and stop it (capabilities(7)). */
const NEEDED = { CHOWN: 0, DAC_OVERRIDE: 1, FOWNER: 3, KILL: 5, SETGID: 6, SETUID: 7 } as const;

/** @throws ControllerError PERMISSION_REQUIRED if the controller may not use `server.user` */
export function decideEnvoyUser(request: EnvoyUserRequest, facts: IdentityFacts): EnvoyUser {
  const { pool, configured, workerUid, uids } = request;
  const has = (capability: number) => (facts.capabilities & (1n << BigInt(capability))) !== 0n;
  const missing = Object.entries(NEEDED).flatMap(([name, number]) => (has(number) ? [] : [`CAP_${name}`]));
  const mayLink = facts.uid === 0 && missing.length === 0;
  const likeController = { credentials: undefined, mayLink };
  // Envoy may bind ports below 1024 if the controller may, also after a reload.
  const ambient = has(CAP_NET_BIND_SERVICE) ? [CAP_NET_BIND_SERVICE] : [];
  if (configured !== undefined) {
    if (configured.uid === facts.uid) return likeController;
    if (!mayLink) {
      const why = facts.uid === 0 ? `has no ${missing.join(", ")}` : `runs as uid ${facts.uid}, expected root`;
      throw new ControllerError(
        "PERMISSION_REQUIRED",
        `Cannot start the proxy of pool "${pool}" as uid ${configured.uid}: the controller ${why}`,
      );
    }
    const credentials = { ...configured, ambient };
    const shared = `workers with uid ${configured.uid} may signal and trace the proxy of pool "${pool}", which has the same user`;
    return uids.has(configured.uid) ? { credentials, mayLink, warning: shared } : { credentials, mayLink };
  }
  if (facts.uid !== 0) return likeController;
  const asRoot = `the proxy of pool "${pool}" runs as root`;
  if (workerUid === 0)
    return {
      ...likeController,
      note: `${asRoot}, because its workers do; set "user" for the pool to run both as other users`,
    };
  if (!mayLink) return { ...likeController, warning: `${asRoot}: the controller has no ${missing.join(", ")}` };
  for (let id = FIRST_ID; id <= LAST_ID; id++)
    if (!uids.has(id) && !facts.isNamed(id) && facts.isMapped(id))
      return { credentials: { uid: id, gid: id, groups: [id], ambient }, mayLink };
  const range = `${FIRST_ID} to ${LAST_ID}`;
  return { ...likeController, warning: `${asRoot}: no id from ${range} is free and mapped; set server.user` };
}

/** A pool's configuration: `user` is server.user, `file` the Envoy binary. */
export interface EnvoyUserWish extends Omit<EnvoyUserRequest, "configured"> {
  readonly user: string | undefined;
  readonly file: string;
}

/** @throws ControllerError PERMISSION_REQUIRED, USER_NOT_FOUND, ENVOY_NOT_EXECUTABLE */
export function chooseEnvoyUser({ user, file, ...request }: EnvoyUserWish): EnvoyUser {
  const configured = user === undefined ? undefined : resolveUser(request.pool, user);
  const chosen = decideEnvoyUser({ ...request, configured }, readIdentityFacts());
  const { credentials } = chosen;
  const closed = credentials && findClosed(file, credentials);
  if (credentials === undefined || closed === undefined) return chosen;
  throw new ControllerError(
    "ENVOY_NOT_EXECUTABLE",
    `Cannot start the proxy of pool "${request.pool}": Envoy runs as uid ${credentials.uid}, to which "${closed}" is closed`,
    { hint: `Allow it with chmod o+x ${closed}, move "${file}", or set server.user to a user that may execute it.` },
  );
}

/** The facts about this process. */
export function readIdentityFacts(): IdentityFacts {
  const effective = /^CapEff:\s+([0-9a-f]+)/mu.exec(readText("/proc/self/status") ?? "")?.[1] ?? "0";
  const named = new Set(
    ["/etc/passwd", "/etc/group"].flatMap((file) =>
      (readText(file) ?? "").split("\n").map((line) => Number(line.split(":")[2])),
    ),
  );
  const maps = ["/proc/self/uid_map", "/proc/self/gid_map"].map((file) => parseIdMap(readText(file) ?? ""));
  return {
    uid: process.getuid?.() ?? 0,
    capabilities: BigInt(`0x${effective}`),
    isNamed: (id) => named.has(id),
    isMapped: (id) => maps.every((ranges) => ranges.some(({ from, to }) => id >= from && id <= to)),
  };
}

/** The ids of a user namespace (user_namespaces(7)). */
function parseIdMap(text: string): { readonly from: number; readonly to: number }[] {
  return text.split("\n").flatMap((line) => {
    const [from = Number.NaN, , count = Number.NaN] = line.trim().split(/\s+/u).map(Number);
    return Number.isNaN(count) ? [] : [{ from, to: from + count - 1 }];
  });
}
