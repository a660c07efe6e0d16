/** Applies new settings to a running Envoy, one change after another. */
import { after, type Clock, type Instant } from "../../base/time.ts";
import type { ProxySettings } from "../resources/settings.ts";
import type { Configuration } from "./configuration.ts";
import type { Publisher } from "./publisher.ts";
import { type Replacement, replaceResource } from "./replaceResource.ts";
import type { EnvoyRun } from "./run.ts";
import type { WorkerWatch } from "./workerWatch.ts";

/** Maximum time for Envoy to apply new settings. A new cluster first checks each worker, which takes up to 2 s. */
const LIMIT_MS = 5000;

/** Polling interval until a starting Envoy serves. */
const START_POLL_MS = 5;

/** Polling interval until a new cluster has its endpoints, which takes 1 to 2 ms. */
const ENDPOINTS_POLL_MS = 2;

export interface ReconfigurationOptions {
  readonly configuration: Configuration;
  readonly clock: Clock;
  readonly publisher: Publisher;
  readonly workers: WorkerWatch;
  /** undefined while no Envoy runs. */
  readonly run: () => EnvoyRun | undefined;
  /** Why the settings may not change now; undefined if they may. */
  readonly obstacle: () => string | undefined;
}

export class Reconfiguration {
  readonly #options: ReconfigurationOptions;
  /** The last change. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(options: ReconfigurationOptions) {
    this.#options = options;
  }

  /** Resolves with undefined on success, otherwise with the reason. Never rejects. */
  change(settings: ProxySettings): Promise<string | undefined> {
    const change = this.#last.then(() => this.#change(settings));
    this.#last = change;
    return change;
  }

  async #change(settings: ProxySettings): Promise<string | undefined> {
    const { configuration, clock, obstacle } = this.#options;
    const { pool, concurrency, protocol } = configuration.settings;
    if (settings.pool !== pool || settings.concurrency !== concurrency)
      return "the name of the pool and concurrency are given to Envoy at its start";
    const deadline = after(clock.now(), LIMIT_MS);
    let run = this.#options.run();
    while (run?.isStarting === true && clock.now() < deadline) {
      await run.pause(START_POLL_MS);
      run = this.#options.run();
    }
    const reason = obstacle();
    if (reason !== undefined) return reason;
    return configuration.change(settings, async (placed) => {
      if (run?.isServing === true) return this.#apply(run, placed, protocol, deadline);
      configuration.writeChanged(placed);
      return undefined;
    });
  }

  /** Changes one resource after another in a running Envoy. `protocol` is the protocol before. */
  async #apply(
    run: EnvoyRun,
    settings: ProxySettings,
    protocol: ProxySettings["protocol"],
    deadline: Instant,
  ): Promise<string | undefined> {
    const { configuration, clock } = this.#options;
    const { resources } = configuration;
    for (const kind of resources.changed(settings)) {
      const replacement = { run, resources, kind, settings, clock, deadline };
      let reason: string | undefined;
      if (kind === "cluster") reason = await this.#replaceCluster(replacement);
      // A TCP listener has no routes, and a new HTTP listener reads them itself.
      else if (kind === "routes" && protocol === "tcp") resources.replace(kind, settings);
      else reason = await replaceResource(replacement);
      // The next Envoy must find all files up to date.
      if (run.isOver) {
        configuration.writeChanged(settings);
        return undefined;
      }
      if (reason !== undefined) return reason;
    }
    return undefined;
  }

  async #replaceCluster(replacement: Replacement): Promise<string | undefined> {
    const { publisher, workers, clock } = this.#options;
    const { run, deadline } = replacement;
    const reason = await workers.acrossReplacement(run, () => replaceResource(replacement));
    if (run.isOver) return undefined;
    publisher.renew();
    run.wake();
    // The publisher reports late endpoints.
    while (reason === undefined && !publisher.isApplied && !run.isOver && clock.now() < deadline)
      await run.pause(ENDPOINTS_POLL_MS);
    return reason;
  }
}
