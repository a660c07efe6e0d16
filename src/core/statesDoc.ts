/** The page docs/states.md, printed from the worker's table: what each phase makes of each event. Decides nothing. */
import { table, type WorkerEventKind, type WorkerState } from "./worker.ts";

type Phase = WorkerState["phase"];

const INTRODUCTION = `# States of a worker

This page is generated from the table in \`src/core/worker.ts\`; do not edit it.

A worker is the process of one slot. Its phase is what \`monoceros status\`, the API and the metrics show. Each phase has
at most one deadline, and each event that concerns a process carries its incarnation: news of a process that is gone
changes nothing.

Without probes and without a proxy, a worker is ready when one of its processes listens on a socket of its own or waits on
a shared one, and otherwise when it has survived \`rolling.min_ready\` (10 seconds in a pool with \`sockets\`). A successor,
and a worker that has crashed, must serve for \`rolling.min_ready\` first; after its second crash in a row a worker must live
twice as long as the process that crashed. With probes it is ready when they succeed, and behind a proxy when
the proxy balances over it too; a rollout goes on when its first new worker has stayed ready for \`rolling.min_ready\`. Only workers behind a proxy drain, and only there some are ready and kept in reserve.

The pool decides when a worker is to start or stop: \`replace\`, a limit (but \`memory_hard\`) and a failed liveness only make
it *due*, and it runs on until its successor is ready or there is room to replace it in place. Envoy goes through the same
phases.
`;

const PHASE_MEANINGS: Readonly<Record<Phase, string>> = {
  down: "No process. Free for use, held by an operator's stop, given up because its restarts are used up, or ended for good (completed or failed, `restart.policy`).",
  starting: "Waits for its turn, is being spawned, or runs and is not ready yet.",
  ready: "Serves, or is kept in reserve. The deadline is the end of its lifespan.",
  unready: "Runs, but its readiness or its liveness probe says no: it gets no new requests.",
  draining: "Gets no new requests and finishes the running ones.",
  stopping: "Was told to stop; ends when its whole process group is empty. At the deadline the group is killed.",
  backoff: "Waits before an unplanned restart.",
};

const EVENT_MEANINGS: Readonly<Record<WorkerEventKind, string>> = {
  start: "The pool or an operator wants a process here.",
  spawned: "The process exists.",
  spawnFailed: "The kernel refused the process.",
  becameReady:
    "The probes say yes, and behind a proxy it balances over the worker. Without probes: it is seen serving. Of Envoy: it listens.",
  becameUnready: "The readiness probe says no, or the accept queue of a shared socket stays filled.",
  waiting: "It is not ready; what it waits for and what the last attempt returned is known.",
  startupFailed: "It runs, but it will not become ready: its startup probe failed, or Envoy cannot listen.",
  livenessFailed: "It runs, but the liveness probe says that it works no more.",
  becameAlive: "The liveness probe succeeds for the first time, or again.",
  replace: "A rollout wants another process in its place.",
  inFlight: "The proxy tells how many requests a worker that drains still works on.",
  limitReached: "A limit of memory or requests is reached.",
  drained: "The last running request is done.",
  exited: "The process ended and was reaped; others of its group may be left.",
  vacated: "The last process of its group is gone.",
  deadline: "The instant that the phase waits for has come.",
  stop: "The pool, an operator or the shutdown asks it to leave.",
  kill: "The shutdown is out of time or was asked for twice.",
};

const DIAGRAM = `\`\`\`mermaid
stateDiagram-v2
  [*] --> down
  down --> starting: start
  starting --> ready: becameReady, deadline
  starting --> backoff: spawnFailed
  starting --> stopping: stop, startupFailed, not ready by the deadline
  ready --> unready: becameUnready, livenessFailed
  unready --> ready: becameReady, becameAlive
  ready --> starting: exited, first crash
  ready --> backoff: exited, further crash
  ready --> down: exited, restarts used up or restart.policy ends it
  ready --> stopping: stop, memory_hard, survivors of a crash
  unready --> stopping: stop, memory_hard
  ready --> draining: stop, behind a proxy
  unready --> draining: stop, behind a proxy
  draining --> stopping: drained, deadline
  stopping --> stopping: deadline, SIGKILL to the group
  stopping --> starting: group empty, planned replacement in place
  stopping --> down: group empty, final
  backoff --> starting: deadline
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
    "A cell names the function in `src/core/worker.ts` that decides. – means that nothing changes; ✗ means that it cannot",
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
