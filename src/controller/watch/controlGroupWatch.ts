/**
 * Watches the control group while the controller runs: in-place resizes of its CPUs or memory, and processes that the
 * kernel kills because memory ran out.
 */
import type { Logger } from "../../base/log.ts";
import { formatRoundSize } from "../../base/units.ts";
import type { Config } from "../../config/config.ts";
import { describeShortage } from "../../core/policy/memoryNeed.ts";
import type { ControllerSpec } from "../../core/spec.ts";

const LOOK_EVERY_MS = 15_000;

export interface ControlGroupWatchOptions {
  readonly config: () => Config;
  readonly spec: () => Pick<ControllerSpec, "pools">;
  readonly availableCpus: () => number;
  readonly memoryBoundBytes: () => number | undefined;
  /** Replicas of the pool of this name as the start or the last reload counted them. */
  readonly plannedReplicas: (pool: string) => number | undefined;
  /** See OomKills. */
  readonly takeUnclaimedKills: () => number;
  /** Scales the pool of this name to `replicas`. @throws ControllerError */
  readonly scale: (pool: string, replicas: number, reason: string) => void;
  readonly log: Logger;
}

export class ControlGroupWatch implements Disposable {
  readonly #options: ControlGroupWatchOptions;
  readonly #timer: NodeJS.Timeout;
  /** By name of the pool: the plan at the last look, and the CPUs for which the pool has its replicas. */
  readonly #applied = new Map<string, { readonly planned: number | undefined; readonly cpus: number | undefined }>();
  #memoryBytes: number | undefined;

  constructor(options: ControlGroupWatchOptions) {
    this.#options = options;
    this.#memoryBytes = options.memoryBoundBytes();
    this.#timer = setInterval(() => this.look(), LOOK_EVERY_MS).unref();
  }

  /** Compares everything with the last look. */
  look(): void {
    const { availableCpus, memoryBoundBytes, takeUnclaimedKills, log, spec } = this.#options;
    this.#resize(availableCpus);
    const bytes = memoryBoundBytes();
    const shortage = bytes === this.#memoryBytes || bytes === undefined ? undefined : describeShortage(spec(), bytes);
    this.#memoryBytes = bytes;
    if (shortage !== undefined) log.warn(`the memory limit of the control group changed: ${shortage.message}`);
    const kills = takeUnclaimedKills();
    if (kills === 0) return;
    const limit = bytes === undefined ? "" : ` (limit ${formatRoundSize(bytes)})`;
    const what = kills === 1 ? "a process" : `${kills} processes`;
    log.warn(`the kernel killed ${what} of this control group: out of memory${limit}`);
  }

  /** Scales pools with `replicas: auto`; what an operator has scaled since stays until the number of CPUs changes. */
  #resize(availableCpus: () => number): void {
    const { config, plannedReplicas, scale, log } = this.#options;
    const resizable = config().supervisor.pools.filter(
      ({ replicas, autoscale }) => replicas === "auto" && autoscale === undefined,
    );
    if (resizable.length === 0) return;
    const cpus = availableCpus();
    for (const { name } of resizable) {
      const planned = plannedReplicas(name);
      const last = this.#applied.get(name);
      const before = last === undefined || last.planned !== planned ? planned : last.cpus;
      this.#applied.set(name, { planned, cpus });
      if (before === cpus || before === undefined) continue;
      try {
        scale(
          name,
          cpus,
          `replicas: auto, the controller has ${cpus} ${cpus === 1 ? "CPU" : "CPUs"} now, ${before} before`,
        );
      } catch (error) {
        log.warn(
          `cannot scale pool "${name}" to ${cpus} CPUs: ${error instanceof Error ? error.message : String(error)}`,
        );
      }
    }
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
