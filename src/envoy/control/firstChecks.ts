/**
 * With its own health checks, Envoy sends a new worker no requests until its first check succeeds. This module polls
 * until that is so for all awaited workers.
 */

import type { Upstream } from "../resources/settings.ts";
import type { Clock } from "./clock.ts";
import type { EnvoyRun } from "./run.ts";

/** Polling interval; initially about as long as one response of a worker. */
const FIRST_LOOK_MS = 1;
const LAST_LOOK_MS = 50;

export interface FirstChecksOptions {
  readonly clock: Clock;
  /** The upstreams Envoy balances over, by address as Envoy prints it. */
  readonly applied: () => ReadonlyMap<string, Upstream>;
  readonly isAnyAwaited: () => boolean;
  /** Envoy's checks of these upstreams succeed. */
  readonly passed: (upstreams: readonly Upstream[]) => void;
}

export class FirstChecks {
  readonly #options: FirstChecksOptions;
  #waitMs = FIRST_LOOK_MS;
  /** The Envoy that is polled. */
  #run: EnvoyRun | undefined;

  constructor(options: FirstChecksOptions) {
    this.#options = options;
  }

  /** This Envoy has applied new workers: polls often again, while any worker is awaited and Envoy runs. */
  await(run: EnvoyRun): void {
    this.#waitMs = FIRST_LOOK_MS;
    if (this.#run === run) run.wake();
    else void this.#follow(run);
  }

  async #follow(run: EnvoyRun): Promise<void> {
    const { clock, applied, isAnyAwaited, passed } = this.#options;
    this.#run = run;
    while (!run.isOver && isAnyAwaited()) {
      // Read before the request, because a later worker may have the same address.
      const asked = applied();
      const at = clock.now();
      const statuses = await run.admin.clusters().catch(() => []);
      if (run.isOver) break;
      const healthy = statuses.filter(({ failedActiveCheck }) => !failedActiveCheck);
      passed(healthy.flatMap(({ address }) => asked.get(address) ?? []));
      const costMs = clock.now() - at;
      if (isAnyAwaited()) await run.pause(Math.max(this.#waitMs, costMs));
      this.#waitMs = Math.min(this.#waitMs * 1.5, LAST_LOOK_MS);
    }
    if (this.#run === run) this.#run = undefined;
  }
}
