/** The block `rolling` of a pool. */
import { block, key } from "../field.ts";
import { duration, share } from "../scalars.ts";

const keys = {
  maxSurge: key("max_surge", share, {
    change: "policy",
    default: 1,
    doc: "Workers above `replicas` while a pool is replaced; a percentage is of `replicas`, rounded up. 0 replaces in place.",
  }),
  maxUnavailable: key("max_unavailable", share, {
    change: "policy",
    default: 0,
    doc: "Workers below `replicas` that may be missing during a replacement; a percentage is rounded down.",
  }),
  minReadyMs: key("min_ready", duration(), {
    change: "policy",
    default: 5000,
    doc: "With `server` or probes: how long the first new worker of a restart, scale or reload must stay ready before the next predecessor stops. Without: how long each successor must be seen serving before its predecessor stops, and how long a worker that never listens must run before it counts as ready.",
  }),
};

export const rolling = block(keys, {
  check: ({ maxSurge, maxUnavailable }, context) => {
    const isNone = (share: typeof maxSurge) => share === 0 || (typeof share === "object" && share.percent === 0);
    if (isNone(maxSurge) && isNone(maxUnavailable))
      context.problem("max_surge", "max_surge and max_unavailable are both 0, so no worker can be replaced");
  },
});
