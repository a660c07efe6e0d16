/** The block `autoscale` of a pool. */
import { MAX_REPLICAS } from "../../core/spec.ts";
import { block, key } from "../field.ts";
import { duration, integer, number } from "../scalars.ts";

const keys = {
  minReplicas: key("min", integer(1, MAX_REPLICAS), {
    change: "policy",
    default: 1,
    doc: "Minimum number of workers.",
  }),
  maxReplicas: key("max", integer(1, MAX_REPLICAS), {
    change: "policy",
    required: true,
    doc: "Maximum number of workers. A pool with `start_port` reserves ports for this many.",
  }),
  targetCpu: key("cpu", number(0.01, 1024), {
    change: "policy",
    doc: "Target average CPU usage per worker, in cores. Exactly one of `cpu` and `in_flight` must be set.",
  }),
  targetInFlight: key("in_flight", number(0.01, 1_000_000), {
    change: "policy",
    doc: "Target average number of requests in flight per worker; proxy mode.",
  }),
  upAfterMs: key("up_after", duration(), {
    change: "policy",
    default: 15_000,
    doc: "How long the load must have exceeded the target before the pool grows.",
  }),
  downAfterMs: key("down_after", duration(), {
    change: "policy",
    default: 300_000,
    doc: "How long fewer workers must have been sufficient before the pool shrinks.",
  }),
};

/** Exactly one of targetCpu and targetInFlight is set. */
export const autoscale = block(keys, {
  check: ({ minReplicas: min, maxReplicas: max }, context) => {
    if (context.has("cpu") === context.has("in_flight")) {
      const got = context.has("cpu") ? "both" : "none";
      context.problem(got === "both" ? "in_flight" : "", `expected either cpu or in_flight, got ${got}`);
    }
    if (min !== undefined && max !== undefined && max < min)
      context.problem("max", "expected at least the value of min");
  },
});
