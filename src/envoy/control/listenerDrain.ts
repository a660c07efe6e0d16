/**
 * Drains the listener of an Envoy that is about to stop. Envoy first discourages clients and still accepts connections.
 * When none is left or the drain time is over, it stops accepting connections. Then the remaining requests end.
 */
import { after, type Clock, type Instant } from "../../base/time.ts";
import { QUIET_MS } from "../reading/drains.ts";
import { DOWNSTREAM_FILTER, downstreamActive } from "../reading/readings.ts";
import type { ProxySettings } from "../resources/settings.ts";
import type { EnvoyRun } from "./run.ts";

/** Polling interval; it grows while clients are connected. */
const FIRST_POLL_MS = 10;
const LAST_POLL_MS = 100;

export interface ListenerDrain {
  readonly run: EnvoyRun;
  /** When the drain was requested; the drain time counts from then on. */
  readonly since: Instant;
  readonly settings: () => ProxySettings;
  readonly clock: Clock;
}

type Active = ReturnType<typeof downstreamActive>;

/** Resolves when nothing is left to wait for, or the run is over. Never rejects. */
export async function drainListener(drain: ListenerDrain): Promise<void> {
  const { run, since, settings } = drain;
  await run.insist(() => run.admin.drainListeners());
  const endsAt = () => after(since, settings().drainTimeSeconds * 1000);
  await awaitQuiet(drain, ({ connections }) => connections, endsAt);
  await run.insist(() => run.admin.stopListeners());
  // An idle connection may stay for an hour, so only requests count now.
  await awaitQuiet(drain, ({ connections, requests }) => (settings().protocol === "tcp" ? connections : requests));
}

/** Waits until two polls at least QUIET_MS apart have counted nothing, or until `endsAt`. */
async function awaitQuiet(
  { run, clock }: ListenerDrain,
  count: (active: Active) => number,
  endsAt?: () => Instant,
): Promise<void> {
  let quietSince: Instant | undefined;
  for (let waitMs = FIRST_POLL_MS; !run.isOver; waitMs = Math.min(waitMs * 1.25, LAST_POLL_MS)) {
    const at = clock.now();
    const stats = await run.admin.stats(DOWNSTREAM_FILTER).catch(() => undefined);
    if (stats !== undefined) {
      if (count(downstreamActive(stats)) > 0) quietSince = undefined;
      else quietSince ??= at;
      if (quietSince !== undefined && at >= after(quietSince, QUIET_MS)) return;
      if (endsAt !== undefined && at >= endsAt()) return;
    }
    await run.pause(quietSince === undefined ? waitMs : QUIET_MS);
  }
}
