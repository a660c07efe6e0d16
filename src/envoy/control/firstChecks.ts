/**
 * Where Envoy checks workers itself it knows a new one at once, but gives it nothing before its first check has
 * succeeded: this looks until that is so for all who are awaited.
 */

import type { Upstream } from "../resources/settings.ts";
import type { Clock } from "./clock.ts";
import type { EnvoyRun } from "./run.ts";

/** Waits between looks: as long as one answer of a worker at first. */
const FIRST_LOOK_MS = 1;
const LAST_LOOK_MS = 50;

export interface FirstChecksOptions {
  readonly clock: Clock;
  /** What Envoy balances over, by address as Envoy prints it. */
  readonly applied: () => ReadonlyMap<string, Upstream>;
  readonly isAnyAwaited: () => boolean;
  /** Envoy's checks of these succeed. */
  readonly passed: (upstreams: readonly Upstream[]) => void;
}

export class FirstChecks {
  readonly #options: FirstChecksOptions;
  #waitMs = FIRST_LOOK_MS;
  /** The Envoy that is looked at. */
  #run: EnvoyRun | undefined;

  constructor(options: FirstChecksOptions) {
    this.#options = options;
  }

  /** This Envoy has taken over workers: looks often again, for as long as somebody is awaited and it runs. */
  await(run: EnvoyRun): void {
    this.#waitMs = FIRST_LOOK_MS;
    if (this.#run === run) run.wake();
    else void this.#follow(run);
  }

  async #follow(run: EnvoyRun): Promise<void> {
    const { clock, applied, isAnyAwaited, passed } = this.#options;
    this.#run = run;
    while (!run.isOver && isAnyAwaited()) {
      // What the answer is about: a later worker may have the same address.
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
