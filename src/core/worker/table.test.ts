import assert from "node:assert/strict";
import { test } from "node:test";
import { poolSpec } from "../../../test/support/poolSpec.ts";
import { InvariantError } from "../../base/errors.ts";
import { instant } from "../../base/time.ts";
import type { WorkerLifecycleEvent } from "../event.ts";
import type { ExitStatus } from "../exit.ts";
import type { PoolSpec } from "../spec.ts";
import type { Transition, WorkerEffect, WorkerEvent, WorkerEventKind, WorkerEventOf } from "./event.ts";
import { awaitsAdmission, newWorker, type StopOrder, type WorkerState } from "./state.ts";
import { isStale, stepWorker as stepOnce, table } from "./table.ts";

type Phase = WorkerState["phase"];
type OfPhase<P extends Phase> = Extract<WorkerState, { phase: P }>;

const BEFORE = instant(1000);
const NOW = instant(5000);
const PID = 77;
const CODE_3: ExitStatus = { kind: "code", code: 3 };
const NONE = { recent: [], streak: 0, lastUptimeMs: 0 };
/** After a first crash of a process that lived for `lastUptimeMs`. */
function crashedOnce(lastUptimeMs: number): WorkerState["crashes"] {
  return { recent: [NOW], streak: 1, lastUptimeMs };
}

const CRASHED_ONCE = crashedOnce(4000);

/** The worker after `event`. If its turn to start has come with it, it is admitted, as without `start_parallelism`. */
function stepWorker(state: WorkerState, event: WorkerEvent, spec: PoolSpec): Transition {
  const next = stepOnce(state, event, spec);
  if (!awaitsAdmission(next.state) || awaitsAdmission(state)) return next;
  const admitted = stepOnce(next.state, { kind: "admit", at: event.at }, spec);
  return { state: admitted.state, effects: [...next.effects, ...admitted.effects] };
}

const SPEC = withLifespan(10_000);
const PROBED = withLifespan(10_000, { readiness: { kind: "probed", timeoutMs: 3000 } });

function withLifespan(lifespanMs: number | undefined, changes: Partial<PoolSpec> = {}): PoolSpec {
  const base = poolSpec();
  return poolSpec({ limits: { ...base.limits, lifespanMs, jitterRatio: 0.1 }, ...changes });
}

function withoutRestarts(): PoolSpec {
  const base = poolSpec();
  return poolSpec({ restart: { ...base.restart, maxRestarts: 0, windowMs: 1000 } });
}

const common = {
  slot: 1,
  incarnation: 3,
  revision: 1,
  since: BEFORE,
  crashes: NONE,
  restarts: 2,
  lastExit: undefined,
  reason: "before",
};
const alive = { pid: PID, spawnedAt: BEFORE };
const down: OfPhase<"down"> = { ...common, phase: "down", deadline: undefined, kind: "free" };
const queued: OfPhase<"queued"> = { ...common, phase: "queued", deadline: NOW, settleMs: 0, isRestart: false };
const waitingToStart: OfPhase<"queued"> = { ...queued, deadline: undefined, settleMs: 300 };
const spawning: OfPhase<"spawning"> = {
  ...common,
  phase: "spawning",
  deadline: undefined,
  settleMs: 0,
  pendingStop: undefined,
};
const booting: OfPhase<"booting"> = {
  ...common,
  ...alive,
  phase: "booting",
  deadline: undefined,
  settleMs: 0,
  agesAt: instant(11_000),
  observedAt: undefined,
  answeredAt: undefined,
  waitsFor: undefined,
};
const ready: OfPhase<"ready"> = {
  ...common,
  ...alive,
  phase: "ready",
  deadline: NOW,
  due: undefined,
  isStandby: false,
};
const unready: OfPhase<"unready"> = {
  ...common,
  ...alive,
  phase: "unready",
  deadline: NOW,
  due: undefined,
  readiness: "failing",
  answeredAt: undefined,
  liveness: undefined,
};
const rolling: StopOrder = { cause: "rollout", reason: "rolled", next: "respawn" };
const draining: OfPhase<"draining"> = {
  ...common,
  ...alive,
  phase: "draining",
  deadline: NOW,
  order: rolling,
  inFlight: 2,
};
const stopping: OfPhase<"stopping"> = { ...common, ...alive, phase: "stopping", deadline: NOW, order: rolling };
const backoff: OfPhase<"backoff"> = { ...common, phase: "backoff", deadline: NOW };

const operator: StopOrder = { cause: "operator", reason: "asked", next: "down" };
const shutdown: StopOrder = { cause: "shutdown", reason: "leaving", next: "down" };
const mine = { at: NOW, incarnation: 3 } as const;

const start: WorkerEvent = { kind: "start", at: NOW, delayMs: 0, reason: "wanted" };
const spawned: WorkerEvent = { kind: "spawned", ...mine, pid: 88, random: 0.5 };
const spawnFailed: WorkerEvent = { kind: "spawnFailed", ...mine, reason: "EAGAIN", random: 0.5 };
const answered: WorkerEvent = { kind: "answered", ...mine };
const becameReady: WorkerEvent = { kind: "becameReady", ...mine };
const becameUnready: WorkerEvent = { kind: "becameUnready", ...mine, reason: "probe failed" };
const limitReached: WorkerEvent = { kind: "limitReached", ...mine, limit: "memory", reason: "too big" };
const hardReached: WorkerEvent = { kind: "limitReached", ...mine, limit: "memory_hard", reason: "far too big" };
const startupFailed: WorkerEvent = { kind: "startupFailed", ...mine, reason: "refused" };
const livenessFailed: WorkerEvent = { kind: "livenessFailed", ...mine, reason: "hangs" };
const becameAlive: WorkerEvent = { kind: "becameAlive", ...mine };
const waiting: WorkerEvent = { kind: "waiting", ...mine, reason: "GET :80/: HTTP 400" };
const extended: WorkerEvent = { kind: "extended", ...mine, ms: 3000 };
const replace: WorkerEvent = { kind: "replace", ...mine, reason: "asked" };
const inFlight: WorkerEvent = { kind: "inFlight", ...mine, count: 5 };
const drained: WorkerEvent = { kind: "drained", ...mine };
const exited: WorkerEvent = { kind: "exited", ...mine, status: CODE_3, survivors: false, random: 0.5 };
const exitedAlone: WorkerEvent = { ...exited, survivors: true };
const vacated: WorkerEvent = { kind: "vacated", ...mine, random: 0.5 };
const deadline: WorkerEvent = { kind: "deadline", at: NOW, random: 0.5 };
const stop: WorkerEvent = { kind: "stop", at: NOW, order: operator };
const stopForShutdown: WorkerEvent = { kind: "stop", at: NOW, order: shutdown };
const release: WorkerEvent & { kind: "release" } = { kind: "release", at: NOW };
const relimit: WorkerEvent = { kind: "relimit", at: NOW, random: 0.75 };
const reprieve: WorkerEvent = { kind: "reprieve", at: NOW, random: 0.75 };
const promote: WorkerEvent = { kind: "promote", at: NOW, reason: "needed" };
const demote: WorkerEvent = { kind: "demote", at: NOW };
const kill: WorkerEvent = { kind: "kill", at: NOW, reason: "at once" };

type Body<T> = T extends unknown ? Omit<T, "pool" | "slot" | "incarnation"> : never;

function emitted(event: Body<WorkerLifecycleEvent>, incarnation = 3): WorkerEffect {
  return { kind: "emit", event: { pool: "web", slot: 1, incarnation, ...event } };
}

const spawn4: WorkerEffect = { kind: "spawn", slot: 1, incarnation: 4, revision: 1 };

function killed(pid: number): WorkerEffect {
  return { kind: "kill", slot: 1, incarnation: 3, pid };
}

function signal(pid: number, scope: "group" | "escaped"): WorkerEffect {
  return { kind: "signal", slot: 1, incarnation: 3, pid, signal: "SIGTERM", scope };
}

/** Effects of a stop: the event and the signal. */
function stopEffects(pid: number, order: { cause: StopOrder["cause"]; reason: string }): readonly WorkerEffect[] {
  const { cause, reason } = order;
  return [emitted({ kind: "stopping", pid, signal: "SIGTERM", graceMs: 10_000, cause, reason }), signal(pid, "group")];
}

function stoppingBy(order: StopOrder, changes: Partial<OfPhase<"stopping">> = {}): OfPhase<"stopping"> {
  const { reason } = order;
  return { ...stopping, since: NOW, reason, deadline: instant(15_000), order, ...changes };
}

const exitEvent = { kind: "exited", pid: PID, status: CODE_3, uptimeMs: 4000 } as const;
const next4 = { since: NOW, incarnation: 4 } as const;
const FIRST = "first crash";
const LIMIT_EXCEEDED = "1 crash or failed start within 1s; the limit is 0";

interface Case {
  readonly when: string;
  readonly state: WorkerState;
  readonly event: WorkerEvent;
  readonly spec?: PoolSpec;
  /** undefined if the event is impossible. */
  readonly next: WorkerState | undefined;
  readonly effects: readonly WorkerEffect[];
}

function into(
  when: string,
  state: WorkerState,
  event: WorkerEvent,
  next: WorkerState,
  effects: readonly WorkerEffect[] = [],
  spec: PoolSpec = SPEC,
): Case {
  return { when, state, event, next, effects, spec };
}

function ignored(state: WorkerState, event: WorkerEvent): Case {
  return { when: "it is ignored", state, event, next: state, effects: [] };
}

function impossible(state: WorkerState, event: WorkerEvent): Case {
  return { when: "it is impossible", state, event, next: undefined, effects: [] };
}

/** The first crash. */
function restartsAtOnce(state: OfPhase<"booting" | "ready" | "unready">): Case {
  const reason = `exited with code 3; ${FIRST}`;
  const next: WorkerState = {
    ...spawning,
    ...next4,
    crashes: CRASHED_ONCE,
    restarts: 3,
    lastExit: CODE_3,
    reason,
  };
  return into("the first crash restarts at once and counts as a restart", state, exited, next, [
    emitted({ ...exitEvent, planned: false }),
    emitted({ kind: "backing_off", delayMs: 0, reason }),
    spawn4,
  ]);
}

function backsOff(state: OfPhase<"ready" | "unready">): Case {
  const again = { ...state, crashes: { recent: [BEFORE], streak: 1, lastUptimeMs: 5 } };
  const reason = "exited with code 3; crash 2 in a row";
  const crashes = { recent: [NOW], streak: 2, lastUptimeMs: 4000 };
  const next: WorkerState = {
    ...backoff,
    since: NOW,
    deadline: instant(5100),
    crashes,
    restarts: 3,
    lastExit: CODE_3,
    reason,
  };
  return into("the second crash in a row waits for the backoff", again, exited, next, [
    emitted({ ...exitEvent, planned: false }),
    emitted({ kind: "backing_off", delayMs: 100, reason }),
  ]);
}

function givesUp(state: OfPhase<"ready" | "unready">): Case {
  const reason = `exited with code 3; ${LIMIT_EXCEEDED}`;
  const next: WorkerState = {
    ...down,
    since: NOW,
    kind: "gave-up",
    crashes: CRASHED_ONCE,
    lastExit: CODE_3,
    reason,
  };
  const effects = [emitted({ ...exitEvent, planned: false }), emitted({ kind: "gave_up", reason })];
  return into("a crash beyond the restart limit gives up", state, exited, next, effects, withoutRestarts());
}

function stopsSurvivors(state: OfPhase<"ready" | "unready">): Case {
  const reason = "exited with code 3, processes of its group are left";
  const order: StopOrder = { cause: "survivors", reason, next: "restart" };
  return into(
    "processes that a crash leaves behind are stopped before the restart",
    state,
    exitedAlone,
    stoppingBy(order, { lastExit: CODE_3 }),
    [emitted({ ...exitEvent, planned: false }), ...stopEffects(PID, order)],
  );
}

const hardLimitEffects: readonly WorkerEffect[] = [
  emitted({ kind: "limit_reached", limit: "memory_hard", reason: "far too big" }),
  emitted({
    kind: "stopping",
    pid: PID,
    signal: "SIGKILL",
    graceMs: 0,
    cause: "memory_hard",
    reason: "far too big",
  }),
];

function reachesMemoryLimit(state: OfPhase<"ready" | "unready">): readonly Case[] {
  const limit = {
    ...state,
    deadline: undefined,
    due: { cause: "memory", reason: "memory limit: too big", at: NOW },
  } as const;
  const already = { ...state, due: { cause: "lifespan", reason: "old", at: BEFORE } } as const;
  const hard: StopOrder = { cause: "memory_hard", reason: "far too big", next: "respawn" };
  return [
    into("the soft limit makes the worker due", state, limitReached, limit, [
      emitted({ kind: "limit_reached", limit: "memory", reason: "too big" }),
    ]),
    into("a worker that is already due keeps its cause and time", already, limitReached, already),
    into(
      "the hard limit kills the worker at once, as a planned stop",
      state,
      hardReached,
      stoppingBy(hard, { deadline: undefined }),
      [...hardLimitEffects, killed(PID)],
    ),
  ];
}

const FAILING = { reason: "hangs", at: NOW } as const;

function failsLiveness(state: OfPhase<"ready" | "unready">): readonly Case[] {
  const readiness = state.phase === "ready" ? "passing" : state.readiness;
  const out: OfPhase<"unready"> = { ...unready, since: NOW, reason: "hangs", readiness, liveness: FAILING };
  const due = { cause: "lifespan", reason: "old", at: BEFORE } as const;
  return [
    into("the worker becomes unready and keeps its lifespan deadline", state, livenessFailed, out, [
      emitted({ kind: "unready", reason: "hangs" }),
    ]),
    into("a due worker stays due", { ...state, due }, livenessFailed, { ...out, due }, [
      emitted({ kind: "unready", reason: "hangs" }),
    ]),
    ...(state.phase === "unready" ? [ignored({ ...unready, liveness: FAILING }, livenessFailed)] : []),
  ];
}

function reachesLifespan(state: OfPhase<"ready" | "unready">): Case {
  const next = {
    ...state,
    deadline: undefined,
    due: { cause: "lifespan", reason: "lifespan limit: lived 4s", at: NOW },
  } as const;
  return into("at the end of its lifespan the worker is due", state, deadline, next, [
    emitted({ kind: "limit_reached", limit: "lifespan", reason: "lived 4s" }),
  ]);
}

function stops(state: OfPhase<"ready" | "unready">): readonly Case[] {
  const withoutGracePeriod = withLifespan(10_000, { signalTimeoutMs: 0 });
  return [
    into(
      "the worker is sent the stop signal and has its grace period",
      state,
      stop,
      stoppingBy(operator),
      stopEffects(PID, operator),
    ),
    into(
      "with a grace period of 0 the worker is killed at once",
      state,
      stop,
      stoppingBy(operator, { deadline: undefined }),
      [
        emitted({ kind: "stopping", pid: PID, signal: "SIGKILL", graceMs: 0, cause: "operator", reason: "asked" }),
        killed(PID),
      ],
      withoutGracePeriod,
    ),
  ];
}

function killsRunning(state: WorkerState): Case {
  const order: StopOrder = { cause: "shutdown", reason: "at once", next: "down" };
  return into("the process is killed", state, kill, stoppingBy(order, { deadline: undefined }), [
    emitted({ kind: "killed", pid: PID, reason: "at once" }),
    killed(PID),
  ]);
}

/** The last process of a stop exits. The stop has lasted `durationMs`. */
function lastProcessExits(
  state: OfPhase<"stopping" | "draining">,
  event: WorkerEvent,
  durationMs: number,
): readonly Case[] {
  const lastExit = event.kind === "exited" ? CODE_3 : undefined;
  const exit = event.kind === "exited" ? [emitted({ ...exitEvent, planned: true })] : [];
  const over = (next: "respawn" | "stay down") => [...exit, emitted({ kind: "stopped", durationMs, next })];
  // The uptime ends when the stop begins: in the past if stopping, now if draining.
  const crashed = { ...state, crashes: { recent: [BEFORE], streak: 4, lastUptimeMs: 5 } };
  const longRunning = { ...crashed, spawnedAt: instant(-100_000) };
  const restart: StopOrder = { cause: "survivors", reason: "left", next: "restart" };
  const reason = `left; ${FIRST}`;
  return [
    into(
      "a planned stop respawns without counting and clears the crash history",
      crashed,
      event,
      {
        ...spawning,
        ...next4,
        lastExit,
        reason: "replaced: rolled",
      },
      [...over("respawn"), spawn4],
    ),
    into(
      "a final stop frees the slot",
      { ...state, order: shutdown },
      event,
      {
        ...down,
        since: NOW,
        lastExit,
        reason: "leaving",
      },
      over("stay down"),
    ),
    into(
      "an operator's stop holds the slot",
      { ...state, order: operator },
      event,
      {
        ...down,
        since: NOW,
        lastExit,
        kind: "held",
        reason: "asked",
      },
      over("stay down"),
    ),
    into(
      "once the survivors of a crash have exited, the leader's uptime decides about the restart",
      {
        ...longRunning,
        order: restart,
      },
      event,
      {
        ...spawning,
        ...next4,
        crashes: crashedOnce(state.phase === "draining" ? 105_000 : 101_000),
        restarts: 3,
        lastExit,
        reason,
      },
      [
        ...(event.kind === "exited" ? [emitted({ ...exitEvent, planned: true, uptimeMs: 105_000 })] : []),
        emitted({ kind: "stopped", durationMs, next: "respawn" }),
        emitted({ kind: "backing_off", delayMs: 0, reason }),
        spawn4,
      ],
    ),
  ];
}

const spawnReady: OfPhase<"ready"> = {
  ...ready,
  since: NOW,
  deadline: instant(15_000),
  pid: 88,
  spawnedAt: NOW,
  reason: "running",
};

/** `booting` once it is ready. */
const seenReady: OfPhase<"ready"> = { ...spawnReady, ...alive, deadline: instant(11_000) };

const admit: WorkerEvent & { kind: "admit" } = { kind: "admit", at: NOW };
const excuse: WorkerEvent & { kind: "excuse" } = { kind: "excuse", at: NOW };

const EVENTS: { readonly [K in WorkerEventKind]: WorkerEventOf<K> } = {
  start,
  admit,
  spawned,
  spawnFailed,
  answered,
  becameReady,
  becameUnready,
  limitReached,
  startupFailed,
  livenessFailed,
  becameAlive,
  waiting,
  extended,
  replace,
  inFlight,
  drained,
  exited,
  vacated,
  release,
  excuse,
  relimit,
  reprieve,
  promote,
  demote,
  deadline,
  stop,
  kill,
};

type Row = Readonly<Record<WorkerEventKind, readonly Case[]>>;

/** All cells of a phase: events that are not among `cases` change nothing. */
function row(state: WorkerState, cases: Partial<Row>): Row {
  const ignoring = Object.entries(EVENTS).map(([kind, event]) => [kind, [ignored(state, event)]]);
  return { ...(Object.fromEntries(ignoring) as Row), ...cases };
}

/** A changed lifespan counts from the spawn. A worker that is already due ignores it. */
function changesLifespan(state: OfPhase<"ready" | "unready">): Case[] {
  return [
    into("a changed lifespan counts from its spawn", state, relimit, { ...state, deadline: instant(11_500) }),
    ignored({ ...state, deadline: undefined, due: { cause: "memory", reason: "too big", at: BEFORE } }, relimit),
  ];
}

/** The cells in which a ready and an unready worker behave alike. */
function readyOrUnready(state: OfPhase<"ready" | "unready">): Partial<Row> {
  return {
    spawned: [impossible(state, spawned)],
    spawnFailed: [impossible(state, spawnFailed)],
    limitReached: reachesMemoryLimit(state),
    relimit: changesLifespan(state),
    reprieve: [
      into(
        "it is no longer due and its lifespan counts from its spawn",
        { ...state, deadline: undefined, due: { cause: "rollout", reason: "asked", at: BEFORE } },
        reprieve,
        { ...state, deadline: instant(11_500) },
      ),
      into(
        "if its lifespan is over another one starts now",
        {
          ...state,
          spawnedAt: instant(NOW - 10_500),
          deadline: undefined,
          due: { cause: "rollout", reason: "asked", at: BEFORE },
        },
        reprieve,
        { ...state, spawnedAt: instant(NOW - 10_500), deadline: instant(15_500) },
      ),
    ],
    livenessFailed: failsLiveness(state),
    replace: [
      into("a rollout makes the worker due", state, replace, {
        ...state,
        deadline: undefined,
        due: { cause: "rollout", reason: "asked", at: NOW },
      }),
      ignored({ ...state, due: { cause: "memory", reason: "too big", at: BEFORE } }, replace),
    ],
    exited: [restartsAtOnce(state), backsOff(state), givesUp(state), stopsSurvivors(state)],
    deadline: [reachesLifespan(state)],
    stop: stops(state),
    kill: [killsRunning(state)],
  };
}

/** Every cell of the table. */
const CASES: Readonly<Record<Phase, Row>> = {
  down: row(down, {
    excuse: [
      into("a failure that an operation reported is no restart limit", { ...down, kind: "gave-up" }, excuse, {
        ...down,
        kind: "failed",
      }),
      ignored({ ...down, kind: "completed" }, excuse),
    ],
    release: [
      into("the slot is freed and keeps its reason", { ...down, kind: "gave-up" }, release, down),
      into(
        "the slot is freed for another reason",
        { ...down, kind: "held" },
        { ...release, reason: "surplus" },
        {
          ...down,
          reason: "surplus",
        },
      ),
    ],
    start: [
      into(
        "without a delay it spawns at once",
        { ...down, crashes: CRASHED_ONCE },
        start,
        { ...spawning, ...next4, reason: "wanted" },
        [emitted({ kind: "starting", delayMs: 0, reason: "wanted" }, 4), spawn4],
      ),
      into(
        "with a delay it is queued, and the incarnation increases at the spawn",
        { ...down, kind: "held" },
        { ...start, delayMs: 500 },
        { ...queued, since: NOW, deadline: instant(5500), reason: "wanted" },
        [emitted({ kind: "starting", delayMs: 500, reason: "wanted" }, 4)],
      ),
      into(
        "a worker that gave up starts with an empty crash history",
        { ...down, kind: "gave-up", crashes: CRASHED_ONCE },
        start,
        {
          ...spawning,
          ...next4,
          reason: "wanted",
        },
        [emitted({ kind: "starting", delayMs: 0, reason: "wanted" }, 4), spawn4],
      ),
    ],
    deadline: [ignored(down, deadline)],
  }),
  queued: row(queued, {
    admit: [
      into("it spawns when it is admitted", waitingToStart, admit, { ...spawning, ...next4, settleMs: 300 }, [spawn4]),
      ignored(queued, admit),
    ],
    deadline: [into("at its deadline it spawns", queued, deadline, { ...spawning, ...next4 }, [spawn4])],
    stop: [
      into("there is no process to stop, and the slot is held", queued, stop, {
        ...down,
        since: NOW,
        kind: "held",
        reason: "asked",
      }),
      into("a shutdown frees the slot", queued, stopForShutdown, { ...down, since: NOW, reason: "leaving" }),
    ],
    kill: [
      into("there is no process to kill, and the slot is freed", queued, kill, {
        ...down,
        since: NOW,
        reason: "at once",
      }),
    ],
  }),
  spawning: row(spawning, {
    spawned: [
      into("it is ready at once, and its lifespan begins", spawning, spawned, spawnReady, [
        emitted({ kind: "spawned", pid: 88, revision: 1 }),
        emitted({ kind: "ready", afterMs: 0, evidence: "none" }),
      ]),
      into(
        "without a lifespan it has no deadline",
        spawning,
        spawned,
        { ...spawnReady, deadline: undefined },
        [emitted({ kind: "spawned", pid: 88, revision: 1 }), emitted({ kind: "ready", afterMs: 0, evidence: "none" })],
        withLifespan(undefined),
      ),
      into(
        "jitter shifts the lifespan deadline",
        spawning,
        { ...spawned, random: 1 },
        {
          ...spawnReady,
          deadline: instant(16_000),
        },
        [emitted({ kind: "spawned", pid: 88, revision: 1 }), emitted({ kind: "ready", afterMs: 0, evidence: "none" })],
      ),
      into(
        "a pending stop is carried out",
        { ...spawning, pendingStop: operator },
        spawned,
        stoppingBy(operator, { pid: 88, spawnedAt: NOW }),
        [emitted({ kind: "spawned", pid: 88, revision: 1 }), ...stopEffects(88, operator)],
      ),
    ],
    spawnFailed: [
      into(
        "a failed spawn counts as a crash",
        spawning,
        spawnFailed,
        {
          ...spawning,
          ...next4,
          crashes: crashedOnce(0),
          restarts: 3,
          reason: `EAGAIN; ${FIRST}`,
        },
        [
          emitted({ kind: "spawn_failed", reason: "EAGAIN" }),
          emitted({ kind: "backing_off", delayMs: 0, reason: `EAGAIN; ${FIRST}` }),
          spawn4,
        ],
      ),
      into(
        "a failed spawn beyond the restart limit gives up",
        spawning,
        spawnFailed,
        { ...down, since: NOW, kind: "gave-up", crashes: crashedOnce(0), reason: `EAGAIN; ${LIMIT_EXCEEDED}` },
        [
          emitted({ kind: "spawn_failed", reason: "EAGAIN" }),
          emitted({ kind: "gave_up", reason: `EAGAIN; ${LIMIT_EXCEEDED}` }),
        ],
        withoutRestarts(),
      ),
      into(
        "a pending final stop is complete",
        { ...spawning, pendingStop: operator },
        spawnFailed,
        {
          ...down,
          since: NOW,
          kind: "held",
          reason: "asked",
        },
        [emitted({ kind: "spawn_failed", reason: "EAGAIN" })],
      ),
      into(
        "a pending planned respawn is treated as a crash",
        { ...spawning, pendingStop: rolling },
        spawnFailed,
        {
          ...spawning,
          ...next4,
          crashes: crashedOnce(0),
          restarts: 3,
          reason: `EAGAIN; ${FIRST}`,
        },
        [
          emitted({ kind: "spawn_failed", reason: "EAGAIN" }),
          emitted({ kind: "backing_off", delayMs: 0, reason: `EAGAIN; ${FIRST}` }),
          spawn4,
        ],
      ),
    ],
    exited: [impossible(spawning, exited)],
    deadline: [ignored(spawning, deadline)],
    stop: [into("a stop during the spawn is pending", spawning, stop, { ...spawning, pendingStop: operator })],
    kill: [
      into("a kill during the spawn is pending", spawning, kill, {
        ...spawning,
        pendingStop: { cause: "shutdown", reason: "at once", next: "down" },
      }),
    ],
  }),
  booting: row(booting, {
    spawned: [impossible(booting, spawned)],
    spawnFailed: [impossible(booting, spawnFailed)],
    answered: [
      into("its endpoint may be activated", booting, answered, { ...booting, answeredAt: NOW }),
      ignored({ ...booting, answeredAt: BEFORE }, answered),
    ],
    becameUnready: [
      into("its endpoint may no longer be activated", { ...booting, answeredAt: BEFORE }, becameUnready, booting),
      ignored(booting, becameUnready),
    ],
    becameReady: [
      into("it becomes ready, and its lifespan counts from its spawn", booting, becameReady, seenReady, [
        emitted({ kind: "ready", afterMs: 4000, evidence: "listening" }),
      ]),
    ],
    limitReached: [
      ignored(booting, limitReached),
      into(
        "the hard limit kills the worker, which counts as a crash because it was not ready",
        booting,
        hardReached,
        stoppingBy({ cause: "memory_hard", reason: "far too big", next: "restart" }, { deadline: undefined }),
        [...hardLimitEffects, killed(PID)],
      ),
    ],
    startupFailed: [
      into(
        "it is stopped, which counts as a crash",
        booting,
        startupFailed,
        stoppingBy({ cause: "startup", reason: "refused", next: "restart" }),
        [emitted({ kind: "unready", reason: "refused" }), ...stopEffects(PID, { cause: "startup", reason: "refused" })],
      ),
    ],
    waiting: [
      into(
        "what it waits for is recorded and emitted",
        booting,
        waiting,
        { ...booting, waitsFor: "GET :80/: HTTP 400" },
        [emitted({ kind: "waiting", afterMs: 4000, reason: "GET :80/: HTTP 400" })],
      ),
    ],
    extended: [
      ignored(booting, extended),
      ignored({ ...booting, deadline: NOW }, extended),
      into(
        "a probed worker has longer to become ready",
        { ...booting, deadline: NOW },
        extended,
        { ...booting, deadline: instant(8000) },
        [],
        PROBED,
      ),
      { ...ignored({ ...booting, deadline: instant(9000) }, extended), spec: PROBED },
    ],
    relimit: [
      into("a changed lifespan counts from its spawn", booting, relimit, { ...booting, agesAt: instant(11_500) }),
      into(
        "without a lifespan it has no maximum age",
        booting,
        relimit,
        { ...booting, agesAt: undefined },
        [],
        withLifespan(undefined),
      ),
    ],
    exited: [restartsAtOnce(booting)],
    deadline: [
      into("it has survived long enough to count as ready", { ...booting, deadline: NOW }, deadline, seenReady, [
        emitted({ kind: "ready", afterMs: 4000, evidence: "none" }),
      ]),
    ],
    stop: [
      into("its process is sent the stop signal", booting, stop, stoppingBy(operator), stopEffects(PID, operator)),
    ],
    kill: [killsRunning(booting)],
  }),
  ready: row(ready, {
    ...readyOrUnready(ready),
    becameUnready: [
      into(
        "it becomes unready and is not stopped",
        ready,
        becameUnready,
        { ...unready, since: NOW, reason: "probe failed" },
        [emitted({ kind: "unready", reason: "probe failed" })],
      ),
    ],
    promote: [
      ignored(ready, promote),
      into("a standby worker is promoted", { ...ready, isStandby: true }, promote, ready, [
        emitted({ kind: "promoted", reason: "needed" }),
      ]),
    ],
    demote: [into("a serving worker becomes a standby worker", ready, demote, { ...ready, isStandby: true })],
  }),
  unready: row(unready, {
    ...readyOrUnready(unready),
    answered: [
      into("its endpoint may be activated again", unready, answered, { ...unready, answeredAt: NOW }),
      ignored({ ...unready, answeredAt: BEFORE }, answered),
    ],
    becameReady: [
      into(
        "readiness does not make a worker ready whose liveness fails",
        { ...unready, liveness: FAILING },
        becameReady,
        {
          ...unready,
          liveness: FAILING,
          readiness: "passing",
        },
      ),
      into("it is ready again and keeps its lifespan deadline", unready, becameReady, {
        ...ready,
        since: NOW,
        reason: "running",
      }),
    ],
    becameUnready: [
      into("its readiness fails as well", { ...unready, readiness: "passing", liveness: FAILING }, becameUnready, {
        ...unready,
        liveness: FAILING,
      }),
      ignored(unready, becameUnready),
    ],
    becameAlive: [
      into(
        "it recovers, is ready again and keeps its lifespan deadline",
        { ...unready, liveness: FAILING, readiness: "passing" },
        becameAlive,
        { ...ready, since: NOW, reason: "running" },
      ),
      into(
        "it recovers and is still due for another reason",
        {
          ...unready,
          deadline: undefined,
          due: { cause: "lifespan", reason: "old", at: BEFORE },
          liveness: FAILING,
          readiness: "passing",
        },
        becameAlive,
        {
          ...ready,
          since: NOW,
          reason: "running",
          deadline: undefined,
          due: { cause: "lifespan", reason: "old", at: BEFORE },
        },
      ),
      into("it recovers and still waits for its readiness", { ...unready, liveness: FAILING }, becameAlive, unready),
      ignored(unready, becameAlive),
    ],
    waiting: [
      into("what it waits for is updated and emitted", unready, waiting, { ...unready, reason: "GET :80/: HTTP 400" }, [
        emitted({ kind: "waiting", afterMs: 4000, reason: "GET :80/: HTTP 400" }),
      ]),
      ignored({ ...unready, liveness: FAILING }, waiting),
      ignored({ ...unready, reason: "GET :80/: HTTP 400" }, waiting),
    ],
  }),
  draining: row(draining, {
    spawned: [impossible(draining, spawned)],
    spawnFailed: [impossible(draining, spawnFailed)],
    limitReached: [
      ignored(draining, limitReached),
      into(
        "the hard limit kills the worker and cuts off its requests",
        draining,
        hardReached,
        stoppingBy(rolling, { deadline: undefined }),
        [
          emitted({ kind: "limit_reached", limit: "memory_hard", reason: "far too big" }),
          emitted({ kind: "drained", afterMs: 4000, cut: 2 }),
          emitted({ kind: "killed", pid: PID, reason: "far too big" }),
          killed(PID),
        ],
      ),
    ],
    inFlight: [into("the number of requests in flight is updated", draining, inFlight, { ...draining, inFlight: 5 })],
    drained: [
      into("after its last request the worker is sent the stop signal", draining, drained, stoppingBy(rolling), [
        emitted({ kind: "drained", afterMs: 4000, cut: 0 }),
        ...stopEffects(PID, rolling),
      ]),
    ],
    exited: [
      ...lastProcessExits(draining, exited, 0),
      into(
        "processes that it leaves behind are sent the stop signal",
        draining,
        exitedAlone,
        stoppingBy(rolling, { lastExit: CODE_3 }),
        [emitted({ ...exitEvent, planned: true }), ...stopEffects(PID, rolling)],
      ),
    ],
    deadline: [
      into(
        "at the drain limit the worker is sent the stop signal, and its requests are cut off",
        draining,
        deadline,
        stoppingBy(rolling),
        [emitted({ kind: "drained", afterMs: 4000, cut: 2 }), ...stopEffects(PID, rolling)],
      ),
    ],
    stop: [
      into("a final stop overrides the respawn", draining, stop, {
        ...draining,
        order: operator,
        reason: "asked",
      }),
      into(
        "a shutdown ends the drain, and the worker is sent the stop signal",
        draining,
        stopForShutdown,
        stoppingBy(shutdown),
        [emitted({ kind: "drained", afterMs: 4000, cut: 2 }), ...stopEffects(PID, shutdown)],
      ),
      ignored(draining, { ...stop, order: { ...operator, next: "respawn" } }),
    ],
    kill: [
      into(
        "it is killed and does not respawn",
        draining,
        kill,
        stoppingBy(rolling, { deadline: undefined, order: { ...rolling, next: "down" } }),
        [emitted({ kind: "killed", pid: PID, reason: "at once" }), killed(PID)],
      ),
    ],
  }),
  stopping: row(stopping, {
    spawned: [impossible(stopping, spawned)],
    spawnFailed: [impossible(stopping, spawnFailed)],
    extended: [
      into("it has longer to stop", stopping, extended, { ...stopping, deadline: instant(8000) }),
      ignored({ ...stopping, deadline: instant(9000) }, extended),
      ignored({ ...stopping, deadline: undefined }, extended),
    ],
    limitReached: [
      ignored(stopping, limitReached),
      into(
        "the hard limit ends the grace period",
        stopping,
        hardReached,
        { ...stopping, deadline: undefined, reason: "rolled" },
        [
          emitted({ kind: "limit_reached", limit: "memory_hard", reason: "far too big" }),
          emitted({ kind: "killed", pid: PID, reason: "far too big" }),
          killed(PID),
        ],
      ),
      ignored({ ...stopping, deadline: undefined }, hardReached),
    ],
    exited: [
      ...lastProcessExits(stopping, exited, 4000),
      into(
        "processes that left the group are signaled too, and the grace period continues",
        stopping,
        exitedAlone,
        {
          ...stopping,
          lastExit: CODE_3,
        },
        [emitted({ ...exitEvent, planned: true }), signal(PID, "escaped")],
      ),
      into(
        "after the kill, processes that left the group are killed too",
        { ...stopping, deadline: undefined },
        exitedAlone,
        {
          ...stopping,
          deadline: undefined,
          lastExit: CODE_3,
        },
        [emitted({ ...exitEvent, planned: true }), killed(PID)],
      ),
    ],
    vacated: lastProcessExits(stopping, vacated, 4000),
    deadline: [
      into(
        "at the end of the grace period the whole group is killed",
        stopping,
        deadline,
        {
          ...stopping,
          deadline: undefined,
          reason: "rolled",
        },
        [emitted({ kind: "killed", pid: PID, reason: "still running 4s after SIGTERM" }), killed(PID)],
      ),
    ],
    stop: [
      into("a final stop overrides the respawn", stopping, stopForShutdown, {
        ...stopping,
        order: shutdown,
        reason: "leaving",
      }),
      ignored({ ...stopping, order: operator }, stopForShutdown),
      ignored(stopping, { ...stop, order: { ...operator, next: "respawn" } }),
    ],
    kill: [
      into(
        "it is killed and does not respawn, and the stop keeps its start time",
        stopping,
        kill,
        {
          ...stopping,
          deadline: undefined,
          reason: "rolled",
          order: { ...rolling, next: "down" },
        },
        [emitted({ kind: "killed", pid: PID, reason: "at once" }), killed(PID)],
      ),
    ],
  }),
  backoff: row(backoff, {
    deadline: [into("after the backoff it spawns", backoff, deadline, { ...spawning, ...next4 }, [spawn4])],
    stop: [
      into("an operator's stop holds the slot", backoff, stop, {
        ...down,
        since: NOW,
        kind: "held",
        reason: "asked",
      }),
      into("a shutdown frees the slot", backoff, stopForShutdown, { ...down, since: NOW, reason: "leaving" }),
    ],
    kill: [
      into("there is no process to kill, and the slot is freed", backoff, kill, {
        ...down,
        since: NOW,
        reason: "at once",
      }),
    ],
  }),
};

for (const [phase, row] of Object.entries(CASES)) {
  test(`phase ${phase}: every event has the expected transition`, () => {
    for (const [kind, cases] of Object.entries(row)) {
      assert.ok(cases.length > 0, `${phase} × ${kind} has no case`);
      for (const { when, state, event, next, effects, spec = SPEC } of cases) {
        const name = `${phase} × ${kind}: ${when}`;
        assert.deepEqual([state.phase, event.kind], [phase, kind], `${name} is in the wrong cell`);
        if (next === undefined) {
          assert.throws(() => stepWorker(state, event, spec), InvariantError, name);
          continue;
        }
        const before = structuredClone(state);
        const result = stepWorker(state, event, spec);
        assert.deepEqual(result.state, next, name);
        assert.deepEqual(result.effects, effects, name);
        assert.deepEqual(state, before, `${name}: the old state was changed`);
      }
    }
  });
}

test("cells are named ignore or impossible exactly if their cases say so", () => {
  for (const phase of Object.keys(CASES) as Phase[]) {
    for (const kind of Object.keys(CASES[phase]) as WorkerEventKind[]) {
      const cases = CASES[phase][kind];
      const { name } = table[phase][kind];
      const says = (kinds: readonly string[]) => cases.every(({ when }) => kinds.includes(when));
      assert.equal(name === "ignore", says(["it is ignored"]), `${phase} × ${kind}: ${name}`);
      assert.equal(name === "impossible", says(["it is impossible"]), `${phase} × ${kind}: ${name}`);
    }
  }
});

test("the error for an impossible event shows the event and the state", () => {
  assert.throws(() => stepWorker(ready, spawned, SPEC), /impossible event \{"kind":"spawned".*"phase":"ready"/u);
});

test("in every phase an event of another incarnation is ignored", () => {
  const states = [down, queued, spawning, booting, ready, unready, draining, stopping, backoff];
  const events = [
    spawned,
    spawnFailed,
    becameReady,
    becameUnready,
    limitReached,
    drained,
    exited,
    exitedAlone,
    vacated,
  ];
  for (const state of states) {
    for (const event of events) {
      for (const incarnation of [2, 4]) {
        const stale = { ...event, incarnation } as WorkerEvent;
        assert.equal(isStale(state, stale), true);
        const result = stepWorker(state, stale, SPEC);
        assert.equal(result.state, state, `${state.phase} × ${event.kind}`);
        assert.deepEqual(result.effects, []);
      }
    }
  }
});

test("an event without incarnation is never stale, except for a deadline", () => {
  for (const event of [start, stop, kill]) assert.equal(isStale(ready, event), false);
  for (const state of [booting, ready, unready, draining, stopping, backoff]) {
    assert.equal(isStale({ ...state, deadline: NOW } as WorkerState, deadline), false);
    assert.equal(isStale({ ...state, deadline: instant(NOW + 1) } as WorkerState, deadline), true, state.phase);
  }
  for (const state of [down, spawning, { ...ready, deadline: undefined }]) assert.equal(isStale(state, deadline), true);
});

test("after a deadline event the deadline is cleared or in the future", () => {
  for (const state of [queued, { ...booting, deadline: NOW }, ready, unready, draining, stopping, backoff]) {
    const { deadline: next }: WorkerState = stepWorker(state, deadline, SPEC).state;
    assert.ok(next === undefined || next > NOW, state.phase);
  }
});

test("a new worker is a free slot without history", () => {
  assert.deepEqual(newWorker(1, BEFORE), {
    ...down,
    incarnation: 0,
    revision: 0,
    restarts: 0,
    reason: "not started yet",
  });
});

test("a probed worker that is not ready at its readiness deadline is stopped, and the reason says what it waited for", () => {
  const { state, effects } = stepWorker(spawning, spawned, PROBED);
  assert.deepEqual(state, {
    ...booting,
    pid: 88,
    spawnedAt: NOW,
    agesAt: instant(15_000),
    deadline: instant(8000),
  });
  assert.deepEqual(effects, [emitted({ kind: "spawned", pid: 88, revision: 1 })]);
  const answered = stepWorker(state, becameReady, PROBED);
  assert.equal(answered.state.phase, "ready");
  const late = stepWorker(state, { ...deadline, at: instant(8000) } as WorkerEvent, PROBED);
  assert.equal(late.state.phase === "stopping" && late.state.order.cause, "startup");
  assert.equal(late.state.reason, "not ready 3s after its start");
  const known = stepWorker(state, waiting, PROBED).state;
  const reasoned = stepWorker(known, { ...deadline, at: instant(8000) } as WorkerEvent, PROBED);
  assert.equal(reasoned.state.reason, "not ready 3s after its start: GET :80/: HTTP 400");
});

test("a probed worker without a readiness timeout has no deadline", () => {
  const spec = withLifespan(undefined, { readiness: { kind: "probed", timeoutMs: undefined } });
  assert.equal(stepWorker(spawning, spawned, spec).state.deadline, undefined);
});

/** A successor must listen for 700 ms before it is ready. A worker that never listens is ready after 9 s. */
const OBSERVED = withLifespan(undefined, {
  readiness: { kind: "observed", surviveMs: 9000 },
  rollout: { maxSurge: 1, maxUnavailable: 0, minReadyMs: 700 },
});

/** The worker after `spawned` at NOW. */
function bootingWith(changes: Partial<OfPhase<"booting">> = {}): OfPhase<"booting"> {
  return { ...booting, agesAt: undefined, pid: 88, spawnedAt: NOW, deadline: instant(14_000), ...changes };
}

test("a worker without probes is ready as soon as it listens, or when it has survived surviveMs", () => {
  const { state } = stepWorker(spawning, spawned, OBSERVED);
  assert.deepEqual(state, bootingWith());
  assert.equal(stepWorker(state, becameReady, OBSERVED).state.phase, "ready");
  const survived = stepWorker(state, { ...deadline, at: instant(14_000) } as WorkerEvent, OBSERVED);
  assert.equal(survived.state.phase, "ready");
  assert.deepEqual(survived.effects, [emitted({ kind: "ready", afterMs: 9000, evidence: "none" })]);
});

test("a successor without probes is ready when it has listened for min_ready", () => {
  const state = bootingWith({ settleMs: 700 });
  const seen = stepWorker(state, { ...becameReady, at: instant(6000) } as WorkerEvent, OBSERVED).state;
  assert.deepEqual(seen, { ...state, observedAt: instant(6000), deadline: instant(6700) });
  const again = { ...becameReady, at: instant(6500) } as WorkerEvent;
  assert.equal(stepWorker(seen, again, OBSERVED).state, seen, "a second observation does not restart the time");
  const settled = stepWorker(seen, { ...deadline, at: instant(6700) } as WorkerEvent, OBSERVED);
  assert.equal(settled.state.phase, "ready");
});

test("after a crash a worker without probes must listen for min_ready, and in a crash loop for twice its last uptime", () => {
  const readyAt = (streak: number, lastUptimeMs: number) => {
    const state = bootingWith({ crashes: { recent: [], streak, lastUptimeMs } });
    return stepWorker(state, { ...becameReady, at: instant(5100) } as WorkerEvent, OBSERVED).state.deadline;
  };
  assert.equal(readyAt(1, 4000), instant(5700));
  assert.equal(readyAt(2, 4000), instant(13_000));
  assert.equal(readyAt(2, 50), instant(5700));
  assert.equal(readyAt(9, 50_000), instant(65_000), "at most reset_after");
});

test("changes of liveness and readiness do not reset the lifespan", () => {
  const spec = withLifespan(10_000);
  let state: WorkerState = ready;
  for (const event of [livenessFailed, becameAlive, becameUnready, becameReady, livenessFailed, becameUnready])
    state = stepWorker(state, event, spec).state;
  assert.equal(state.deadline, ready.deadline);
  const aged = stepWorker(state, deadline, spec).state;
  assert.equal("due" in aged && aged.due?.cause, "lifespan");
  const recovered = [becameAlive, becameReady].reduce((each, event) => stepWorker(each, event, spec).state, aged);
  assert.deepEqual([recovered.phase, "due" in recovered && recovered.due?.cause], ["ready", "lifespan"]);
});

test("behind a proxy a planned stop drains first; a shutdown or the stop of a failed worker does not", () => {
  const spec = withLifespan(10_000, { drainMs: 2000 });
  const { state, effects } = stepWorker(ready, stop, spec);
  const { due: _, isStandby: __, ...rest } = ready;
  assert.deepEqual(state, {
    ...rest,
    phase: "draining",
    since: NOW,
    reason: "asked",
    deadline: instant(7000),
    order: operator,
    inFlight: 0,
  });
  assert.deepEqual(effects, [emitted({ kind: "draining", pid: PID, boundMs: 2000, reason: "asked" })]);
  for (const cause of ["shutdown", "liveness", "startup", "memory_hard"] as const) {
    const order: StopOrder = { cause, reason: "r", next: "down" };
    assert.equal(stepWorker(ready, { kind: "stop", at: NOW, order }, spec).state.phase, "stopping", cause);
  }
});

test("a spawn uses the revision that is current at that time", () => {
  const { state, effects } = stepWorker(backoff, deadline, { ...SPEC, revision: 7 });
  assert.equal(state.revision, 7);
  assert.deepEqual(effects, [{ kind: "spawn", slot: 1, incarnation: 4, revision: 7 }]);
});

// Exits that the controller did not request, and signals sent by others.

function restarting(changes: Partial<PoolSpec["restart"]>, more: Partial<PoolSpec> = {}): PoolSpec {
  const base = poolSpec();
  return poolSpec({ ...more, restart: { ...base.restart, ...changes } });
}

const EXIT_0 = { ...exited, status: { kind: "code", code: 0 } } as const satisfies WorkerEvent;

function kindsOf(effects: readonly WorkerEffect[]): string[] {
  return effects.map((effect) => (effect.kind === "emit" ? effect.event.kind : effect.kind));
}

test("after an expected exit the worker is restarted at once, which counts neither as a restart nor as a crash", () => {
  const spec = restarting({ expectedExitCodes: [0], maxRestarts: 0 });
  const { state, effects } = stepWorker({ ...ready, crashes: CRASHED_ONCE }, EXIT_0, spec);
  assert.deepEqual(
    [state.phase, state.incarnation, state.restarts, state.crashes],
    ["spawning", 4, 2, { ...CRASHED_ONCE, streak: 0 }],
  );
  assert.deepEqual(kindsOf(effects), ["exited", "starting", "spawn"]);
  const [first] = effects;
  assert.ok(first?.kind === "emit" && first.event.kind === "exited");
  assert.deepEqual([first.event.planned, first.event.cause], [true, "expected"]);
});

test("after an expected exit that leaves processes behind, the worker is restarted when they have exited", () => {
  const spec = restarting({ expectedExitCodes: [0] });
  const stopped = stepWorker(ready, { ...EXIT_0, survivors: true }, spec);
  assert.equal(stopped.state.phase === "stopping" && stopped.state.order.next, "respawn");
  const { state, effects } = stepWorker(stopped.state, vacated, spec);
  assert.deepEqual([state.phase, state.incarnation, state.restarts], ["spawning", 4, 2]);
  assert.deepEqual(kindsOf(effects), ["stopped", "spawn"]);
});

test("with restart policy on-failure, exit code 0 completes the worker, after survivors have exited", () => {
  const spec = restarting({ condition: "on-failure" });
  const { state, effects } = stepWorker(ready, EXIT_0, spec);
  assert.equal(state.phase === "down" && state.kind, "completed");
  assert.deepEqual(kindsOf(effects), ["exited", "ended"]);
  const stopped = stepWorker(ready, { ...EXIT_0, survivors: true }, spec);
  const last = stepWorker(stopped.state, vacated, spec);
  assert.equal(last.state.phase === "down" && last.state.kind, "completed");
  assert.deepEqual(kindsOf(last.effects), ["stopped", "ended"]);
});

test("with restart policy never, a failed exit, startup or spawn marks the worker as failed", () => {
  const spec = restarting({ condition: "never" });
  const failed = stepWorker(ready, exited, spec);
  assert.equal(failed.state.phase === "down" && failed.state.kind, "failed");
  const unspawned = stepWorker(spawning, spawnFailed, spec);
  assert.equal(unspawned.state.phase === "down" && unspawned.state.kind, "failed");
  const stuck = stepWorker(booting, startupFailed, spec);
  const ended = stepWorker(stuck.state, { ...exited, survivors: false }, spec);
  assert.equal(ended.state.phase === "down" && ended.state.kind, "failed");
});

test("a completed or failed worker can be started", () => {
  for (const kind of ["completed", "failed"] as const)
    assert.equal(stepWorker({ ...down, kind }, start, SPEC).state.phase, "spawning");
});

test("during the pre-stop delay a worker that exits by the stop signal is restarted, which does not count", () => {
  const status: ExitStatus = { kind: "signal", signal: "SIGTERM" };
  const { state, effects } = stepWorker(ready, { ...exited, status, isDuringShutdown: true }, withoutRestarts());
  assert.deepEqual([state.phase, state.incarnation, state.restarts], ["spawning", 4, 2]);
  assert.deepEqual(kindsOf(effects), ["exited", "starting", "spawn"]);
});

test("a worker that received the stop signal together with the controller is not sent a second one", () => {
  const hadSignal = { signal: "SIGTERM", at: instant(4000) };
  const order = { ...shutdown, hadSignal };
  const stopped = stepWorker(ready, { kind: "stop", at: NOW, order }, SPEC);
  assert.deepEqual(kindsOf(stopped.effects), ["stopping"]);
  assert.equal(stopped.state.deadline, instant(15_000), "the grace period is the same");
  // The processes it leaves behind received the signal too.
  assert.deepEqual(kindsOf(stepWorker(stopped.state, exitedAlone, SPEC).effects), ["exited"]);
  // SIGKILL is sent in any case.
  assert.deepEqual(kindsOf(stepWorker(stopped.state, { ...deadline, at: instant(15_000) }, SPEC).effects), [
    "killed",
    "kill",
  ]);
});

test("a worker that started after the group signal, or has another stop_signal, is sent its stop signal", () => {
  const stopWith = (signal: string, at: number) => {
    const order = { ...shutdown, hadSignal: { signal, at: instant(at) } };
    return kindsOf(stepWorker(ready, { kind: "stop", at: NOW, order }, SPEC).effects);
  };
  assert.deepEqual(stopWith("SIGTERM", BEFORE), ["stopping", "signal"]);
  assert.deepEqual(stopWith("SIGINT", 4000), ["stopping", "signal"]);
});

test("with stop_signal_target leader, the stop signal is sent to the leader, and after its exit to the remaining processes", () => {
  const spec = withLifespan(10_000, { stopSignalTarget: "leader" });
  const scopes = (effects: readonly WorkerEffect[]) =>
    effects.flatMap((effect) => (effect.kind === "signal" ? [effect.scope] : []));
  const stopped = stepWorker(ready, stop, spec);
  assert.deepEqual(scopes(stopped.effects), ["leader"]);
  assert.deepEqual(scopes(stepWorker(stopped.state, exitedAlone, spec).effects), ["group"]);
  // A leader that crashed cannot stop its children.
  assert.deepEqual(scopes(stepWorker(ready, exitedAlone, spec).effects), ["group"]);
});

test("a worker whose turn has come waits until it is admitted, and keeps why it starts", () => {
  const restarted = stepOnce(backoff, deadline, SPEC);
  assert.deepEqual(restarted, {
    state: { ...waitingToStart, since: NOW, settleMs: 0, isRestart: true },
    effects: [],
  });
  const started = stepOnce({ ...queued, settleMs: 300 }, deadline, SPEC);
  assert.deepEqual(started.state, { ...waitingToStart, since: NOW });
  assert.deepEqual(stepOnce(waitingToStart, stop, SPEC).state.phase, "down");
});

test("a run of a oneshot pool is never reported as ready, and fails if it exceeds its hard memory limit", () => {
  const spec = poolSpec({ type: "oneshot" });
  const { state, effects } = stepWorker(spawning, spawned, spec);
  assert.deepEqual([state.phase, kindsOf(effects)], ["ready", ["spawned"]]);
  const killed = stepWorker(ready, { kind: "limitReached", ...mine, limit: "memory_hard", reason: "too big" }, spec);
  assert.ok("order" in killed.state && killed.state.order.next === "restart");
});
