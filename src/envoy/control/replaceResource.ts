/** Replaces one resource of a running Envoy: writes its file and polls until Envoy uses or rejects it. */
import { after, type Clock, type Instant } from "../../base/time.ts";
import { RESOURCES_FILTER, type ResourceKind, type ResourceState, resourceState } from "../reading/resourceStates.ts";
import type { ProxySettings } from "../resources/settings.ts";
import type { ResourceFiles } from "./resourceFiles.ts";
import type { EnvoyRun } from "./run.ts";

/** Polling interval; an update takes Envoy 1 to 2 ms. */
const FIRST_POLL_MS = 2;
const LAST_POLL_MS = 50;

/** A file that Envoy has not noticed after this time is written again. */
const REWRITE_MS = 1000;

/** The resource to replace, the Envoy that uses it, and the deadline. */
export interface Replacement {
  readonly run: EnvoyRun;
  readonly resources: ResourceFiles;
  readonly kind: ResourceKind;
  readonly settings: ProxySettings;
  readonly clock: Clock;
  readonly deadline: Instant;
}

/**
 * Resolves with undefined when the resource is in use or Envoy has exited; otherwise with the reason, and the new file
 * stays. @throws Error of the system
 */
export async function replaceResource(replacement: Replacement): Promise<string | undefined> {
  const { run, resources, kind, settings, clock, deadline } = replacement;
  let known = await read(replacement);
  while (known === undefined && !run.isOver && clock.now() < deadline) {
    await run.pause(LAST_POLL_MS);
    known = await read(replacement);
  }
  if (run.isOver) return undefined;
  if (known === undefined) return "Envoy does not respond";
  const version = resources.replace(kind, settings);
  let rewriteAt = after(clock.now(), REWRITE_MS);
  for (let waitMs = FIRST_POLL_MS; ; waitMs = Math.min(waitMs * 2, LAST_POLL_MS)) {
    await run.pause(waitMs);
    const state = await read(replacement);
    if (run.isOver) return undefined;
    if (state !== undefined && state.refusals > known.refusals) return refusal(replacement);
    const isAccepted = state?.version === version;
    if (isAccepted && state.isSettled) return undefined;
    const now = clock.now();
    if (now >= deadline) return `Envoy has not applied the ${kind} in time`;
    if (isAccepted || now < rewriteAt) continue;
    rewriteAt = after(now, REWRITE_MS);
    resources.rewrite(kind);
  }
}

async function read({ run, kind }: Replacement): Promise<ResourceState | undefined> {
  const stats = await run.admin.stats(RESOURCES_FILTER).catch(() => undefined);
  return stats === undefined ? undefined : resourceState(kind, stats);
}

async function refusal({ run, kind }: Replacement): Promise<string> {
  const details = kind === "listener" ? await run.admin.listenerError().catch(() => undefined) : undefined;
  return details ?? `Envoy rejected the ${kind}; its log says why`;
}
