/** The block `restart` of a pool: what happens after a crash. */
import { block, key, section } from "../field.ts";
import { list } from "../kind.ts";
import { duration, integer, number, oneOf } from "../scalars.ts";

const backoffKeys = {
  initialMs: key("initial", duration(), {
    change: "policy",
    default: 100,
    doc: "Backoff before the second restart in a row; the first restart is immediate.",
  }),
  maxMs: key("max", duration(), { change: "policy", default: 30_000, doc: "Maximum backoff, before jitter." }),
  factor: key("factor", number(1, 100), {
    change: "policy",
    default: 2,
    doc: "Factor by which the backoff grows with each restart in a row.",
  }),
  jitter: key("jitter", number(0, 1), {
    change: "policy",
    default: 0.2,
    doc: "Random share of the backoff: 0.2 gives 0.8 to 1.2 times the backoff.",
  }),
  resetAfterMs: key("reset_after", duration(), {
    change: "policy",
    default: 60_000,
    doc: "Uptime after which the next crash counts as the first one.",
  }),
};

const backoff = block(backoffKeys, {
  check: ({ initialMs, maxMs }, context) => {
    if (initialMs !== undefined && maxMs !== undefined && maxMs < initialMs)
      context.problem("max", "expected at least the value of initial");
  },
});

export const restart = block({
  condition: key("policy", oneOf(["always", "on-failure", "never"]), {
    change: "policy",
    default: "always",
    doc: "Which exits that the controller did not request restart the worker. `always`: all of them. `on-failure`: all but code 0 and `expected_exit_codes`. `never`: none. A worker that is not restarted stays down until `monoceros start`.",
  }),
  expectedExitCodes: key("expected_exit_codes", list(integer(0, 255)), {
    change: "policy",
    default: [],
    doc: "Exit codes that do not count as crashes, such as `[0]` for servers that exit after a number of requests (`--limit-max-requests`, `max_requests`). The worker is replaced at once, without backoff, and the exit does not count against `max_restarts`.",
  }),
  backoff: section("backoff", backoff, "Backoff between restarts in a row."),
  onExhausted: key("on_exhausted", oneOf(["shutdown", "give-up-worker"]), {
    change: "policy",
    default: "shutdown",
    doc: "What happens at the restart limit: the controller shuts down gracefully and exits with code 1, or only this worker stays down.",
  }),
});
