/**
 * Finds out when a new worker receives requests: once Envoy has applied the endpoints and, with its own health checks,
 * once its first check of the worker has succeeded.
 */
import { after, type Clock } from "../../base/time.ts";
import { Activations } from "../reading/activations.ts";
import { byAddress, type Upstream, type UpstreamId } from "../resources/settings.ts";
import type { EnvoyRun } from "./run.ts";

/** Polling interval for the first checks; initially about as long as one response of a worker. */
const FIRST_POLL_MS = 1;
const LAST_POLL_MS = 50;

/**
 * Envoy's main thread reports an update before its other threads have read it. They read updates in order, so the delay
 * has no effect while another worker serves. The first worker is reported this much later; otherwise the first clients
 * on a busy machine would find no worker.
 */
const FIRST_WORKER_DELAY_MS = 50;

export class EndpointActivation {
  readonly #clock: Clock;
  readonly #activated: (workers: readonly UpstreamId[]) => void;
  readonly #activations = new Activations();
  /** The upstreams Envoy balances over. */
  #applied: ReadonlyMap<string, Upstream> = new Map();
  /** The Envoy that is polled. */
  #polled: EnvoyRun | undefined;
  #waitMs = FIRST_POLL_MS;

  /** `activated` receives workers over which Envoy balances from now on. */
  constructor(clock: Clock, activated: (workers: readonly UpstreamId[]) => void) {
    this.#clock = clock;
    this.#activated = activated;
  }

  /** Sets the desired upstreams. Returns whether any new worker must be activated. */
  want(upstreams: readonly Upstream[]): boolean {
    return this.#activations.want(upstreams);
  }

  /** Envoy has applied these upstreams. `checkedBy` is the Envoy whose first checks must succeed, if it makes any. */
  applied(upstreams: readonly Upstream[], checkedBy: EnvoyRun | undefined): void {
    this.#applied = byAddress(upstreams);
    if (checkedBy === undefined) this.#activate(upstreams);
    else if (this.#activations.isAnyPending) this.#awaitChecks(checkedBy);
  }

  /** No Envoy runs; the next one starts with the desired upstreams. */
  activateAll(): void {
    this.#activated(this.#activations.all());
  }

  #activate(upstreams: readonly Upstream[]): void {
    const wasAnyActive = this.#activations.isAnyActive;
    const activated = this.#activations.applied(upstreams);
    if (wasAnyActive || activated.length === 0) this.#activated(activated);
    else this.#clock.wakeAt(after(this.#clock.now(), FIRST_WORKER_DELAY_MS), () => this.#activated(activated));
  }

  #awaitChecks(run: EnvoyRun): void {
    this.#waitMs = FIRST_POLL_MS;
    if (this.#polled === run) run.wake();
    else void this.#follow(run);
  }

  /** Polls while any worker waits for its first check. */
  async #follow(run: EnvoyRun): Promise<void> {
    this.#polled = run;
    while (!run.isOver && this.#activations.isAnyPending) {
      // Read before the request, because a later worker may have the same address.
      const applied = this.#applied;
      const at = this.#clock.now();
      const statuses = await run.admin.clusters().catch(() => []);
      if (run.isOver) break;
      const healthy = statuses.filter(({ failedActiveCheck }) => !failedActiveCheck);
      this.#activate(healthy.flatMap(({ address }) => applied.get(address) ?? []));
      const costMs = this.#clock.now() - at;
      if (this.#activations.isAnyPending) await run.pause(Math.max(this.#waitMs, costMs));
      this.#waitMs = Math.min(this.#waitMs * 1.5, LAST_POLL_MS);
    }
    if (this.#polled === run) this.#polled = undefined;
  }
}
