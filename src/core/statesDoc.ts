/** The page docs/states.md, printed from the worker's table: what each phase makes of each event. Decides nothing. */
import type { WorkerEventKind } from "./worker/event.ts";
import type { WorkerState } from "./worker/state.ts";
import { table } from "./worker/table.ts";

type Phase = WorkerState["phase"];

const INTRODUCTION = `# States of a worker

This page is generated from \`src/core/worker/table.ts\`; do not edit it.

A worker is the process of one slot. \`monoceros status\`, the API and the metrics show its phase; they show \`queued\`,
\`spawning\` and \`booting\` as \`starting\`. Each phase has at most one deadline. Each event about a process carries the
incarnation of that process, and is ignored once the slot has another one.

The pool decides when a worker starts or stops. \`replace\`, a limit (except \`memory_hard\`) and a failed liveness probe only
make it *due*: it runs on until its successor is ready, or until it may be replaced in place. Envoy goes through the same
phases.

## When a worker is ready

The run of a \`oneshot\` pool is never ready: \`monoceros status\` shows \`running\`, then \`completed\`.

| Pool | A worker is ready |
|---|---|
| with probes | when they pass |
| with probes, behind a proxy | when they pass and the proxy balances over it |
| without probes | when one of its processes listens on a socket of its own, or waits on a shared one |
| without probes, and nothing listens | when it has run for \`rolling.min_ready\`; 10 seconds in a pool with \`sockets\` |

Without probes, a successor and a worker that has crashed must serve for \`rolling.min_ready\` first. After its second crash in a
row a worker must run twice as long as the process that crashed. With probes, a rollout continues once its first new worker
has stayed ready for \`rolling.min_ready\`.

Only workers behind a proxy drain, and only there a pool has standby workers.
`;

const PHASE_MEANINGS: Readonly<Record<Phase, string>> = {
  down: "No process. The slot is free, held by an operator's stop, failed because it reached its restart limit, or ended for good (completed or failed, `restart.policy`).",
  queued:
    "Waits for its turn to start: until the deadline (`startup_wait_time`), then to be admitted (`supervisor.start_parallelism`).",
  spawning: "The spawn was requested; its result has not arrived.",
  booting: "Runs, and has not been ready yet.",
  ready: "Serves, or is a standby worker. The deadline is the end of its lifespan.",
  unready: "Runs, but its readiness or liveness probe fails: it receives no new requests.",
  draining: "Receives no new requests and finishes the running ones.",
  stopping:
    "Was sent the stop signal; ends when its whole process group is empty. At the deadline the group is killed.",
  backoff: "Waits before an unplanned restart.",
};

const EVENT_MEANINGS: Readonly<Record<WorkerEventKind, string>> = {
  start: "The pool or an operator requested a process in this slot.",
  admit: "It may start: at once, or when fewer than `supervisor.start_parallelism` workers boot.",
  spawned: "The process exists.",
  spawnFailed: "The kernel refused the process.",
  answered: "The probes pass, and the proxy may balance over the worker.",
  becameReady:
    "The probes pass, and behind a proxy it balances over the worker. Without probes: the worker is seen serving. Of Envoy: it listens.",
  becameUnready: "The readiness probe fails, or the accept queue of a shared socket stays filled.",
  waiting: "It is not ready; what it waits for and what the last attempt returned is known.",
  extended: "It reported that it needs longer to start or to stop (EXTEND_TIMEOUT_USEC of sd_notify).",
  startupFailed: "It runs, but it will not become ready: its startup probe failed, or Envoy cannot listen.",
  livenessFailed: "It runs, but its liveness probe fails.",
  becameAlive: "The liveness probe passes for the first time, or again.",
  replace: "A rollout replaces it.",
  inFlight: "The proxy reported how many requests of a draining worker are in flight.",
  limitReached: "It reached a memory or request limit.",
  relimit: "The lifespan of the pool changed.",
  reprieve: "Its replacement was abandoned; it gets another lifespan.",
  promote: "A standby worker serves from now on.",
  demote: "A serving worker becomes a standby worker.",
  drained: "The last running request is done.",
  exited: "The leader exited and was reaped; processes of its group may be left.",
  vacated: "The last process of its group has exited.",
  release: "The pool may use the slot again.",
  excuse: "An operation failed because of it; it does not count as having reached the pool's restart limit.",
  deadline: "The deadline of the phase has passed.",
  stop: "The pool, an operator or the shutdown stops it.",
  kill: "The shutdown timed out or was requested twice.",
};

const DIAGRAM = `\`\`\`mermaid
stateDiagram-v2
  [*] --> down
  down --> queued: start
  queued --> spawning: admit
  queued --> down: stop
  spawning --> booting: spawned
  spawning --> backoff: spawnFailed
  booting --> ready: becameReady, deadline
  booting --> backoff: exited
  booting --> stopping: stop, startupFailed, not ready by the deadline
  ready --> unready: becameUnready, livenessFailed
  unready --> ready: becameReady, becameAlive
  ready --> queued: exited, first crash
  ready --> backoff: exited, further crash
  ready --> down: exited, restart limit reached or restart.policy ends it
  ready --> stopping: stop, memory_hard, survivors of a crash
  unready --> stopping: stop, memory_hard
  ready --> draining: stop, behind a proxy
  unready --> draining: stop, behind a proxy
  draining --> stopping: drained, deadline
  stopping --> stopping: deadline, SIGKILL to the group
  stopping --> queued: group empty, planned replacement in place
  stopping --> down: group empty, final
  backoff --> queued: deadline
  backoff --> down: stop
\`\`\`
`;

/** The whole page, with a newline at the end. */
export function statesPage(): string {
  return [
    INTRODUCTION,
    "## Main paths\n",
    DIAGRAM,
    "## Phases\n",
    meanings("Phase", PHASE_MEANINGS),
    "## Events\n",
    meanings("Event", EVENT_MEANINGS),
    "## Every phase and every event\n",
    "A cell names the function in `src/core/worker/` that decides. – means that nothing changes; ✗ means that it cannot",
    "happen: the controller takes it for a bug of its own, kills all workers and exits with 70.\n",
    transitions(),
  ].join("\n");
}

function meanings(title: string, rows: Readonly<Record<string, string>>): string {
  const lines = Object.entries(rows).map(([name, meaning]) => `| \`${name}\` | ${meaning} |`);
  return [`| ${title} | Meaning |`, "|---|---|", ...lines, ""].join("\n");
}

function transitions(): string {
  const phases = Object.keys(PHASE_MEANINGS) as Phase[];
  const kinds = Object.keys(EVENT_MEANINGS) as WorkerEventKind[];
  const rows = kinds.map((kind) => `| \`${kind}\` | ${phases.map((phase) => cell(phase, kind)).join(" | ")} |`);
  return [`| | ${phases.join(" | ")} |`, `|---${"|---".repeat(phases.length)}|`, ...rows, ""].join("\n");
}

function cell(phase: Phase, kind: WorkerEventKind): string {
  const { name } = table[phase][kind];
  if (name === "ignore") return "–";
  return name === "impossible" ? "✗" : `\`${name}\``;
}
