/** How much memory the pools may use together while every worker stays within its limit. */
import { formatRoundSize } from "../../base/units.ts";
import type { ControllerSpec, PoolSpec } from "../spec.ts";
import { maxSurgeOf } from "./rollout.ts";

/** Measured resident set size of Envoy 1.40 with a dozen workers under load: 68 MiB, of which 16 are private. */
const PROXY_BYTES = 70 * 2 ** 20;

/** Workers with a limit, and proxies; the need of workers without a limit is unknown and not counted. */
export interface MemoryNeed {
  readonly bytes: number;
  /** The parts, largest first. */
  readonly parts: readonly MemoryPart[];
}

/** One pool's part, standby workers and successors included. */
export interface MemoryPart {
  readonly pool: PoolSpec;
  readonly workers: number;
  /** Of each of them. */
  readonly bytesEach: number;
}

/** The need of all pools; undefined where no pool has a limit. */
export function memoryNeedOf({ pools }: Pick<ControllerSpec, "pools">): MemoryNeed | undefined {
  const parts = pools.flatMap((pool): MemoryPart[] => {
    // A worker is replaced at its soft limit, so it is expected to stay below.
    const bytesEach = pool.role === "proxy" ? PROXY_BYTES : (pool.limits.memoryBytes ?? pool.limits.memoryHardBytes);
    if (bytesEach === undefined) return [];
    const replicas = pool.autoscale?.maxReplicas ?? pool.replicas;
    return [{ pool, workers: replicas + pool.standby + maxSurgeOf(pool.rollout, replicas), bytesEach }];
  });
  if (!parts.some(({ pool }) => pool.role === "workers")) return undefined;
  const size = ({ workers, bytesEach }: MemoryPart) => workers * bytesEach;
  return {
    bytes: parts.reduce((sum, part) => sum + size(part), 0),
    parts: parts.toSorted((a, b) => size(b) - size(a)),
  };
}

/** Why `boundBytes` for all processes are not enough, with the pool that needs most; undefined if they are. */
export function describeShortage(
  spec: Pick<ControllerSpec, "pools">,
  boundBytes: number,
): { readonly pool: PoolSpec | undefined; readonly message: string } | undefined {
  const need = memoryNeedOf(spec);
  if (need === undefined || need.bytes <= boundBytes) return undefined;
  const parts = need.parts.map(
    ({ pool, workers, bytesEach }) => `${workers} × ${formatRoundSize(bytesEach)} of pool "${pool.name}"`,
  );
  const message =
    `workers at their limits, successors of a replacement included, need ${formatRoundSize(need.bytes)} (${parts.join(", ")}), ` +
    `more than the ${formatRoundSize(boundBytes)} of this control group: the kernel may kill before a limit acts`;
  return { pool: need.parts[0]?.pool, message };
}
