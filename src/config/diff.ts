/**
 * The changes between a running configuration and a new one, as paths grouped by what each change takes. Nothing is
 * decided or applied here. The class of a key is part of its declaration.
 *
 * Only the values in the two configurations are compared. Changes to the files that paths refer to (`env_file`, the
 * executable, certificates) are not detected here. No value is ever part of the result.
 */
import { type Config, configKind } from "./config.ts";
import type { ChangeClass } from "./field.ts";
import { pool as poolKind } from "./keys/pool.ts";
import { child, type Kind } from "./kind.ts";

/** The changes of one pool; paths as in the new file, in schema order. */
export interface PoolDiff {
  readonly name: string;
  /** A pool that is added or removed has no paths. */
  readonly kind: "added" | "removed" | "changed";
  readonly launch: readonly string[];
  readonly proxy: readonly string[];
  readonly policy: readonly string[];
}

/** A key that prevents the new configuration from being used. */
export interface RefusedChange {
  readonly path: string;
  readonly reason: string;
}

/** All changes. */
export interface ConfigDiff {
  /** Paths of the controller itself that take effect immediately. */
  readonly policy: readonly string[];
  readonly refused: readonly RefusedChange[];
  /** Changed pools, in the order of the new file, then the removed ones. */
  readonly pools: readonly PoolDiff[];
}

type Block = Readonly<Record<string, unknown>>;

const NEEDS_RESTART = "needs a restart of the controller";

/** The changes when `after` replaces `before`. */
export function diffConfig(before: Config, after: Config): ConfigDiff {
  const whole = new Changes();
  whole.compare(configKind, before, after, "");
  const refused = [...whole.refused];
  const left = new Map(before.supervisor.pools.map((pool) => [pool.name, pool]));
  const pools: PoolDiff[] = [];
  for (const [index, pool] of after.supervisor.pools.entries()) {
    const { name } = pool;
    const old = left.get(name);
    left.delete(name);
    if (old === undefined) {
      pools.push({ name, kind: "added", launch: [], proxy: [], policy: [] });
      continue;
    }
    const changes = new Changes();
    changes.compare(poolKind, old, pool, `supervisor.workers[${index}]`);
    const { launch, proxy, policy } = changes;
    refused.push(...changes.refused);
    if (launch.length + proxy.length + policy.length > 0) pools.push({ name, kind: "changed", launch, proxy, policy });
  }
  for (const name of left.keys()) pools.push({ name, kind: "removed", launch: [], proxy: [], policy: [] });
  return { policy: whole.policy, refused: refused.map((path) => ({ path, reason: NEEDS_RESTART })), pools };
}

/** The changes as text, with a line for each action; refused changes are left out. */
export function formatPlan({ policy, pools }: ConfigDiff): string[] {
  const lines = policy.length === 0 ? [] : [`controller: ${policy.join(", ")} ${applies(policy)} at once`];
  for (const { name, kind, launch, proxy, policy } of pools) {
    const pool = `pool ${JSON.stringify(name)}`;
    if (kind === "added") lines.push(`${pool} is added: its workers start`);
    if (kind === "removed") lines.push(`${pool} is removed: its workers stop`);
    if (launch.length > 0) lines.push(`${pool}: its workers are replaced because ${keys(launch)} changed`);
    if (proxy.length > 0)
      lines.push(`${pool}: Envoy is reconfigured because ${keys(proxy)} changed; it is not restarted`);
    if (policy.length > 0) lines.push(`${pool}: ${keys(policy)} ${applies(policy)} at once; no worker is replaced`);
  }
  return lines;
}

/** Paths without the prefix that the pool name already implies. */
function keys(paths: readonly string[]): string {
  return paths.map((path) => path.replace(/^supervisor\.workers\[\d+\]\./u, "")).join(", ");
}

function applies(subjects: readonly string[]): string {
  return subjects.length === 1 ? "applies" : "apply";
}

/** Collects paths by class, in order of declaration. */
class Changes implements Readonly<Record<ChangeClass, string[]>> {
  readonly launch: string[] = [];
  readonly proxy: string[] = [];
  readonly policy: string[] = [];
  readonly refused: string[] = [];

  /** Compares two values of a block. Lists and maps are compared as a whole. */
  compare(block: Kind<unknown>, before: object, after: object, path: string): void {
    for (const [property, { yaml, kind, change }] of Object.entries(block.keys ?? {})) {
      const at = child(path, yaml);
      const [old, now] = [(before as Block)[property], (after as Block)[property]];
      if (kind.keys !== undefined && isBlock(old) && isBlock(now)) this.compare(kind, old, now, at);
      else if (!isEqual(old, now)) for (const each of change) this[each].push(at);
    }
  }
}

function isBlock(value: unknown): value is Block {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether two values of a configuration are equal; the order of a map's keys is ignored. */
function isEqual(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (Array.isArray(a) && Array.isArray(b))
    return a.length === b.length && a.every((item, index) => isEqual(item, b[index]));
  if (!isBlock(a) || !isBlock(b)) return false;
  const names = Object.keys(a);
  return (
    names.length === Object.keys(b).length && names.every((name) => Object.hasOwn(b, name) && isEqual(a[name], b[name]))
  );
}
