import assert from "node:assert/strict";
import { test } from "node:test";
import { poolSpec } from "../../../test/support/poolSpec.ts";
import { InvariantError } from "../../base/errors.ts";
import { instant } from "../../base/time.ts";
import type { WorkerLifecycleEvent } from "../event.ts";
import type { ExitStatus } from "../exit.ts";
import type { PoolSpec } from "../spec.ts";
import type { WorkerEffect, WorkerEvent, WorkerEventKind, WorkerEventOf } from "./event.ts";
import { newWorker, type StopOrder, type WorkerState } from "./state.ts";
import { isStale, stepWorker, table } from "./table.ts";

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

const SPEC = withLifespan(10_000);

function withLifespan(lifespanMs: number | undefined, changes: Partial<PoolSpec> = {}): PoolSpec {
  const base = poolSpec();
  return poolSpec({ limits: { ...base.limits, lifespanMs, jitterRatio: 0.1 }, ...changes });
}

function budgetOfNone(): PoolSpec {
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
const queued: OfPhase<"queued"> = { ...common, phase: "queued", deadline: NOW, settleMs: 0 };
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
const missing: WorkerEvent = { kind: "waiting", ...mine, reason: "GET :80/: HTTP 400" };
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

function told(event: Body<WorkerLifecycleEvent>, incarnation = 3): WorkerEffect {
  return { kind: "tell", event: { pool: "web", slot: 1, incarnation, ...event } };
}

const spawn4: WorkerEffect = { kind: "spawn", slot: 1, incarnation: 4, revision: 1 };

function killed(pid: number): WorkerEffect {
  return { kind: "kill", slot: 1, incarnation: 3, pid };
}

function signalled(pid: number, scope: "group" | "escaped"): WorkerEffect {
  return { kind: "signal", slot: 1, incarnation: 3, pid, signal: "SIGTERM", scope };
}

/** What the machine says when it asks a live process to stop. */
function asked(pid: number, order: { cause: StopOrder["cause"]; reason: string }): readonly WorkerEffect[] {
  const { cause, reason } = order;
  return [told({ kind: "stopping", pid, signal: "SIGTERM", graceMs: 10_000, cause, reason }), signalled(pid, "group")];
}

function stoppingBy(order: StopOrder, changes: Partial<OfPhase<"stopping">> = {}): OfPhase<"stopping"> {
  const { reason } = order;
  return { ...stopping, since: NOW, reason, deadline: instant(15_000), order, ...changes };
}

const exitTold = { kind: "exited", pid: PID, status: CODE_3, uptimeMs: 4000 } as const;
const next4 = { since: NOW, incarnation: 4 } as const;
const FIRST = "first crash: restart at once";
const TOO_MANY = "1 unplanned exit within 1s, allowed are 0";

interface Case {
  readonly when: string;
  readonly state: WorkerState;
  readonly event: WorkerEvent;
  readonly spec?: PoolSpec;
  /** undefined where the event is impossible. */
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

/** The worker tells of its crash and runs again at once. */
function restarted(state: OfPhase<"booting" | "ready" | "unready">): Case {
  const reason = `exited with code 3; ${FIRST}`;
  const next: WorkerState = {
    ...spawning,
    ...next4,
    crashes: CRASHED_ONCE,
    restarts: 3,
    lastExit: CODE_3,
    reason,
  };
  return into("a first crash respawns at once and is counted", state, exited, next, [
    told({ ...exitTold, planned: false }),
    told({ kind: "backing_off", delayMs: 0, reason }),
    spawn4,
  ]);
}

function restartedLater(state: OfPhase<"ready" | "unready">): Case {
  const again = { ...state, crashes: { recent: [BEFORE], streak: 1, lastUptimeMs: 5 } };
  const reason = "exited with code 3; crash 2 in a row: wait 100ms";
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
  return into("a second crash in a row backs off", again, exited, next, [
    told({ ...exitTold, planned: false }),
    told({ kind: "backing_off", delayMs: 100, reason }),
  ]);
}

function givenUp(state: OfPhase<"ready" | "unready">): Case {
  const reason = `exited with code 3; ${TOO_MANY}`;
  const next: WorkerState = {
    ...down,
    since: NOW,
    kind: "gave-up",
    crashes: CRASHED_ONCE,
    lastExit: CODE_3,
    reason,
  };
  const effects = [told({ ...exitTold, planned: false }), told({ kind: "gave_up", reason })];
  return into("a crash beyond the budget gives up", state, exited, next, effects, budgetOfNone());
}

function survivorsStopped(state: OfPhase<"ready" | "unready">): Case {
  const reason = "exited with code 3, processes of its group are left";
  const order: StopOrder = { cause: "survivors", reason, next: "restart" };
  return into(
    "a crash that leaves processes stops them before the slot is used again",
    state,
    exitedAlone,
    stoppingBy(order, { lastExit: CODE_3 }),
    [told({ ...exitTold, planned: false }), ...asked(PID, order)],
  );
}

const hardTold: readonly WorkerEffect[] = [
  told({ kind: "limit_reached", limit: "memory_hard", reason: "far too big" }),
  told({
    kind: "stopping",
    pid: PID,
    signal: "SIGKILL",
    graceMs: 0,
    cause: "memory_hard",
    reason: "far too big",
  }),
];

function due(state: OfPhase<"ready" | "unready">): readonly Case[] {
  const limit = {
    ...state,
    deadline: undefined,
    due: { cause: "memory", reason: "memory limit: too big", at: NOW },
  } as const;
  const already = { ...state, due: { cause: "lifespan", reason: "old", at: BEFORE } } as const;
  const hard: StopOrder = { cause: "memory_hard", reason: "far too big", next: "respawn" };
  return [
    into("it becomes due, once", state, limitReached, limit, [
      told({ kind: "limit_reached", limit: "memory", reason: "too big" }),
    ]),
    into("what is due already stays due since then", already, limitReached, already),
    into("the hard limit kills at once, planned", state, hardReached, stoppingBy(hard, { deadline: undefined }), [
      ...hardTold,
      killed(PID),
    ]),
  ];
}

const FAILING = { reason: "hangs", at: NOW } as const;

function hung(state: OfPhase<"ready" | "unready">): readonly Case[] {
  const readiness = state.phase === "ready" ? "passing" : state.readiness;
  const out: OfPhase<"unready"> = { ...unready, since: NOW, reason: "hangs", readiness, liveness: FAILING };
  const due = { cause: "lifespan", reason: "old", at: BEFORE } as const;
  return [
    into("it is removed from load balancing at once, and its age goes on", state, livenessFailed, out, [
      told({ kind: "unready", reason: "hangs" }),
    ]),
    into("what was due stays due", { ...state, due }, livenessFailed, { ...out, due }, [
      told({ kind: "unready", reason: "hangs" }),
    ]),
    ...(state.phase === "unready" ? [ignored({ ...unready, liveness: FAILING }, livenessFailed)] : []),
  ];
}

function aged(state: OfPhase<"ready" | "unready">): Case {
  const next = {
    ...state,
    deadline: undefined,
    due: { cause: "lifespan", reason: "lifespan limit: lived 4s", at: NOW },
  } as const;
  return into("its lifespan is over: due", state, deadline, next, [
    told({ kind: "limit_reached", limit: "lifespan", reason: "lived 4s" }),
  ]);
}

function stopped(state: OfPhase<"ready" | "unready">): readonly Case[] {
  const hasty = withLifespan(10_000, { signalTimeoutMs: 0 });
  return [
    into("it is asked to stop and gets its grace", state, stop, stoppingBy(operator), asked(PID, operator)),
    into(
      "without grace it is killed at once",
      state,
      stop,
      stoppingBy(operator, { deadline: undefined }),
      [
        told({ kind: "stopping", pid: PID, signal: "SIGKILL", graceMs: 0, cause: "operator", reason: "asked" }),
        killed(PID),
      ],
      hasty,
    ),
  ];
}

function killedRunning(state: WorkerState): Case {
  const order: StopOrder = { cause: "shutdown", reason: "at once", next: "down" };
  return into("it is killed", state, kill, stoppingBy(order, { deadline: undefined }), [
    told({ kind: "killed", pid: PID, reason: "at once" }),
    killed(PID),
  ]);
}

/** What follows when the last process of a stop is gone; `durationMs` and the told exit depend on the way there. */
function emptied(state: OfPhase<"stopping" | "draining">, event: WorkerEvent, durationMs: number): readonly Case[] {
  const left = event.kind === "exited" ? CODE_3 : undefined;
  const exit = event.kind === "exited" ? [told({ ...exitTold, planned: true })] : [];
  const over = (next: "respawn" | "stay down") => [...exit, told({ kind: "stopped", durationMs, next })];
  // While it drains the stop begins only now, so the process has lived until now.
  const scarred = { ...state, crashes: { recent: [BEFORE], streak: 4, lastUptimeMs: 5 } };
  const rested = { ...scarred, spawnedAt: instant(-100_000) };
  const restart: StopOrder = { cause: "survivors", reason: "left", next: "restart" };
  const reason = `left; ${FIRST}`;
  return [
    into(
      "a planned stop respawns uncounted and forgets old crashes",
      scarred,
      event,
      {
        ...spawning,
        ...next4,
        lastExit: left,
        reason: "replaced: rolled",
      },
      [...over("respawn"), spawn4],
    ),
    into(
      "a final stop leaves the slot free",
      { ...state, order: shutdown },
      event,
      {
        ...down,
        since: NOW,
        lastExit: left,
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
        lastExit: left,
        kind: "held",
        reason: "asked",
      },
      over("stay down"),
    ),
    into(
      "the survivors of a crash are gone: the restart is decided by the uptime of the leader",
      {
        ...rested,
        order: restart,
      },
      event,
      {
        ...spawning,
        ...next4,
        crashes: crashedOnce(state.phase === "draining" ? 105_000 : 101_000),
        restarts: 3,
        lastExit: left,
        reason,
      },
      [
        ...(event.kind === "exited" ? [told({ ...exitTold, planned: true, uptimeMs: 105_000 })] : []),
        told({ kind: "stopped", durationMs, next: "respawn" }),
        told({ kind: "backing_off", delayMs: 0, reason }),
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

const EVENTS: { readonly [K in WorkerEventKind]: WorkerEventOf<K> } = {
  start,
  spawned,
  spawnFailed,
  answered,
  becameReady,
  becameUnready,
  limitReached,
  startupFailed,
  livenessFailed,
  becameAlive,
  waiting: missing,
  replace,
  inFlight,
  drained,
  exited,
  vacated,
  release,
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

/** Another lifespan counts from the spawn, unless the worker is due anyway. */
function relimited(state: OfPhase<"ready" | "unready">): Case[] {
  return [
    into("another lifespan counts from its spawn", state, relimit, { ...state, deadline: instant(11_500) }),
    ignored({ ...state, deadline: undefined, due: { cause: "memory", reason: "too big", at: BEFORE } }, relimit),
  ];
}

/** Every cell of the table. */
const CASES: Readonly<Record<Phase, Row>> = {
  down: row(down, {
    release: [
      into("the slot is free, for the same reason", { ...down, kind: "gave-up" }, release, down),
      into(
        "the slot is free, for another reason",
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
        "it spawns at once",
        { ...down, crashes: CRASHED_ONCE },
        start,
        { ...spawning, ...next4, reason: "wanted" },
        [told({ kind: "starting", delayMs: 0, reason: "wanted" }, 4), spawn4],
      ),
      into(
        "it waits for its turn, and the incarnation with it",
        { ...down, kind: "held" },
        { ...start, delayMs: 500 },
        { ...queued, since: NOW, deadline: instant(5500), reason: "wanted" },
        [told({ kind: "starting", delayMs: 500, reason: "wanted" }, 4)],
      ),
      into(
        "what gave up starts with a clean history",
        { ...down, kind: "gave-up", crashes: CRASHED_ONCE },
        start,
        {
          ...spawning,
          ...next4,
          reason: "wanted",
        },
        [told({ kind: "starting", delayMs: 0, reason: "wanted" }, 4), spawn4],
      ),
    ],
    deadline: [impossible(down, deadline)],
  }),
  queued: row(queued, {
    deadline: [into("its turn has come", queued, deadline, { ...spawning, ...next4 }, [spawn4])],
    stop: [
      into("there is no process to stop", queued, stop, { ...down, since: NOW, kind: "held", reason: "asked" }),
      into("a shutdown leaves the slot free", queued, stopForShutdown, { ...down, since: NOW, reason: "leaving" }),
    ],
    kill: [into("there is no process to kill", queued, kill, { ...down, since: NOW, reason: "at once" })],
  }),
  spawning: row(spawning, {
    spawned: [
      into("it is ready at once, its lifespan begins", spawning, spawned, spawnReady, [
        told({ kind: "spawned", pid: 88, revision: 1 }),
        told({ kind: "ready", afterMs: 0, evidence: "none" }),
      ]),
      into(
        "without a limit it has no deadline",
        spawning,
        spawned,
        { ...spawnReady, deadline: undefined },
        [told({ kind: "spawned", pid: 88, revision: 1 }), told({ kind: "ready", afterMs: 0, evidence: "none" })],
        withLifespan(undefined),
      ),
      into(
        "chance moves the end of its life",
        spawning,
        { ...spawned, random: 1 },
        {
          ...spawnReady,
          deadline: instant(16_000),
        },
        [told({ kind: "spawned", pid: 88, revision: 1 }), told({ kind: "ready", afterMs: 0, evidence: "none" })],
      ),
      into(
        "a stop that came meanwhile is carried out",
        { ...spawning, pendingStop: operator },
        spawned,
        stoppingBy(operator, { pid: 88, spawnedAt: NOW }),
        [told({ kind: "spawned", pid: 88, revision: 1 }), ...asked(88, operator)],
      ),
    ],
    spawnFailed: [
      into(
        "it counts as a crash",
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
          told({ kind: "spawn_failed", reason: "EAGAIN" }),
          told({ kind: "backing_off", delayMs: 0, reason: `EAGAIN; ${FIRST}` }),
          spawn4,
        ],
      ),
      into(
        "beyond the budget it gives up",
        spawning,
        spawnFailed,
        { ...down, since: NOW, kind: "gave-up", crashes: crashedOnce(0), reason: `EAGAIN; ${TOO_MANY}` },
        [told({ kind: "spawn_failed", reason: "EAGAIN" }), told({ kind: "gave_up", reason: `EAGAIN; ${TOO_MANY}` })],
        budgetOfNone(),
      ),
      into(
        "a pending final stop is done",
        { ...spawning, pendingStop: operator },
        spawnFailed,
        {
          ...down,
          since: NOW,
          kind: "held",
          reason: "asked",
        },
        [told({ kind: "spawn_failed", reason: "EAGAIN" })],
      ),
      into(
        "a pending planned respawn is decided as a crash",
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
          told({ kind: "spawn_failed", reason: "EAGAIN" }),
          told({ kind: "backing_off", delayMs: 0, reason: `EAGAIN; ${FIRST}` }),
          spawn4,
        ],
      ),
    ],
    exited: [impossible(spawning, exited)],
    deadline: [impossible(spawning, deadline)],
    stop: [into("a stop during the spawn is kept for later", spawning, stop, { ...spawning, pendingStop: operator })],
    kill: [
      into("a kill during the spawn is kept for later", spawning, kill, {
        ...spawning,
        pendingStop: { cause: "shutdown", reason: "at once", next: "down" },
      }),
    ],
  }),
  booting: row(booting, {
    spawned: [impossible(booting, spawned)],
    spawnFailed: [impossible(booting, spawnFailed)],
    answered: [
      into("its proxy may balance over it", booting, answered, { ...booting, answeredAt: NOW }),
      ignored({ ...booting, answeredAt: BEFORE }, answered),
    ],
    becameUnready: [
      into("its proxy may no longer balance over it", { ...booting, answeredAt: BEFORE }, becameUnready, booting),
      ignored(booting, becameUnready),
    ],
    becameReady: [
      into("it is seen serving, and its lifespan began at its spawn", booting, becameReady, seenReady, [
        told({ kind: "ready", afterMs: 4000, evidence: "listening" }),
      ]),
    ],
    limitReached: [
      ignored(booting, limitReached),
      into(
        "above the hard limit before it was ready it is killed, which counts as a crash",
        booting,
        hardReached,
        stoppingBy({ cause: "memory_hard", reason: "far too big", next: "restart" }, { deadline: undefined }),
        [...hardTold, killed(PID)],
      ),
    ],
    startupFailed: [
      into(
        "it will not become ready: it is stopped, which counts as a crash",
        booting,
        startupFailed,
        stoppingBy({ cause: "startup", reason: "refused", next: "restart" }),
        [told({ kind: "unready", reason: "refused" }), ...asked(PID, { cause: "startup", reason: "refused" })],
      ),
    ],
    waiting: [
      into("what it waits for is known", booting, missing, { ...booting, waitsFor: "GET :80/: HTTP 400" }, [
        told({ kind: "waiting", afterMs: 4000, reason: "GET :80/: HTTP 400" }),
      ]),
    ],
    relimit: [
      into("another lifespan counts from its spawn", booting, relimit, { ...booting, agesAt: instant(11_500) }),
      into(
        "without a lifespan it does not age",
        booting,
        relimit,
        { ...booting, agesAt: undefined },
        [],
        withLifespan(undefined),
      ),
    ],
    exited: [restarted(booting)],
    deadline: [
      into("it has run long enough to count as ready", { ...booting, deadline: NOW }, deadline, seenReady, [
        told({ kind: "ready", afterMs: 4000, evidence: "none" }),
      ]),
    ],
    stop: [into("its process is stopped", booting, stop, stoppingBy(operator), asked(PID, operator))],
    kill: [killedRunning(booting)],
  }),
  ready: row(ready, {
    spawned: [impossible(ready, spawned)],
    spawnFailed: [impossible(ready, spawnFailed)],
    becameUnready: [
      into("it serves no more and lives on", ready, becameUnready, { ...unready, since: NOW, reason: "probe failed" }, [
        told({ kind: "unready", reason: "probe failed" }),
      ]),
    ],
    limitReached: due(ready),
    relimit: relimited(ready),
    reprieve: [
      into(
        "it gets another lifespan from now on",
        { ...ready, deadline: undefined, due: { cause: "rollout", reason: "asked", at: BEFORE } },
        reprieve,
        { ...ready, deadline: instant(15_500) },
      ),
    ],
    promote: [
      ignored(ready, promote),
      into("it serves", { ...ready, isStandby: true }, promote, ready, [told({ kind: "enlisted", reason: "needed" })]),
    ],
    demote: [into("it serves no longer", ready, demote, { ...ready, isStandby: true })],
    livenessFailed: hung(ready),
    replace: [
      into("a rollout wants another one in its place", ready, replace, {
        ...ready,
        deadline: undefined,
        due: { cause: "rollout", reason: "asked", at: NOW },
      }),
      ignored({ ...ready, due: { cause: "memory", reason: "too big", at: BEFORE } }, replace),
    ],
    exited: [restarted(ready), restartedLater(ready), givenUp(ready), survivorsStopped(ready)],
    deadline: [aged(ready)],
    stop: stopped(ready),
    kill: [killedRunning(ready)],
  }),
  unready: row(unready, {
    spawned: [impossible(unready, spawned)],
    spawnFailed: [impossible(unready, spawnFailed)],
    answered: [
      into("its proxy may balance over it again", unready, answered, { ...unready, answeredAt: NOW }),
      ignored({ ...unready, answeredAt: BEFORE }, answered),
    ],
    becameReady: [
      into("readiness alone does not bring back what hangs", { ...unready, liveness: FAILING }, becameReady, {
        ...unready,
        liveness: FAILING,
        readiness: "passing",
      }),
      into("it serves again and keeps the end of its life", unready, becameReady, {
        ...ready,
        since: NOW,
        reason: "running",
      }),
    ],
    becameUnready: [
      into(
        "it would not serve if it were alive either",
        { ...unready, readiness: "passing", liveness: FAILING },
        becameUnready,
        { ...unready, liveness: FAILING },
      ),
      ignored(unready, becameUnready),
    ],
    limitReached: due(unready),
    relimit: relimited(unready),
    reprieve: [
      into(
        "it gets another lifespan from now on",
        { ...unready, deadline: undefined, due: { cause: "rollout", reason: "asked", at: BEFORE } },
        reprieve,
        { ...unready, deadline: instant(15_500) },
      ),
    ],
    livenessFailed: hung(unready),
    becameAlive: [
      into(
        "it recovered before its turn came, serves again and is as old as before",
        { ...unready, liveness: FAILING, readiness: "passing" },
        becameAlive,
        { ...ready, since: NOW, reason: "running" },
      ),
      into(
        "it recovered, and is still due for another reason",
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
      into("alive again, it waits for its readiness", { ...unready, liveness: FAILING }, becameAlive, unready),
      ignored(unready, becameAlive),
    ],
    waiting: [
      into("what it waits for is known better", unready, missing, { ...unready, reason: "GET :80/: HTTP 400" }, [
        told({ kind: "waiting", afterMs: 4000, reason: "GET :80/: HTTP 400" }),
      ]),
      ignored({ ...unready, liveness: FAILING }, missing),
      ignored({ ...unready, reason: "GET :80/: HTTP 400" }, missing),
    ],
    replace: [
      into("a rollout wants another one in its place", unready, replace, {
        ...unready,
        deadline: undefined,
        due: { cause: "rollout", reason: "asked", at: NOW },
      }),
      ignored({ ...unready, due: { cause: "memory", reason: "too big", at: BEFORE } }, replace),
    ],
    exited: [restarted(unready), restartedLater(unready), givenUp(unready), survivorsStopped(unready)],
    deadline: [aged(unready)],
    stop: stopped(unready),
    kill: [killedRunning(unready)],
  }),
  draining: row(draining, {
    spawned: [impossible(draining, spawned)],
    spawnFailed: [impossible(draining, spawnFailed)],
    limitReached: [
      ignored(draining, limitReached),
      into(
        "the hard limit does not wait for requests: killed, and what is cut off is told",
        draining,
        hardReached,
        stoppingBy(rolling, { deadline: undefined }),
        [
          told({ kind: "limit_reached", limit: "memory_hard", reason: "far too big" }),
          told({ kind: "drained", afterMs: 4000, cut: 2 }),
          told({ kind: "killed", pid: PID, reason: "far too big" }),
          killed(PID),
        ],
      ),
    ],
    inFlight: [into("what it still works on is known", draining, inFlight, { ...draining, inFlight: 5 })],
    drained: [
      into("the last request is done: it is asked", draining, drained, stoppingBy(rolling), [
        told({ kind: "drained", afterMs: 4000, cut: 0 }),
        ...asked(PID, rolling),
      ]),
    ],
    exited: [
      ...emptied(draining, exited, 0),
      into("what it leaves is stopped", draining, exitedAlone, stoppingBy(rolling, { lastExit: CODE_3 }), [
        told({ ...exitTold, planned: true }),
        ...asked(PID, rolling),
      ]),
    ],
    deadline: [
      into("the drain is over: it is asked, and what is cut off is told", draining, deadline, stoppingBy(rolling), [
        told({ kind: "drained", afterMs: 4000, cut: 2 }),
        ...asked(PID, rolling),
      ]),
    ],
    stop: [
      into("a final stop overrules the respawn", draining, stop, { ...draining, order: operator, reason: "asked" }),
      into("at a shutdown traffic has ended: it is asked", draining, stopForShutdown, stoppingBy(shutdown), [
        told({ kind: "drained", afterMs: 4000, cut: 2 }),
        ...asked(PID, shutdown),
      ]),
      ignored(draining, { ...stop, order: { ...operator, next: "respawn" } }),
    ],
    kill: [
      into(
        "it is killed and stays down",
        draining,
        kill,
        stoppingBy(rolling, { deadline: undefined, order: { ...rolling, next: "down" } }),
        [told({ kind: "killed", pid: PID, reason: "at once" }), killed(PID)],
      ),
    ],
  }),
  stopping: row(stopping, {
    spawned: [impossible(stopping, spawned)],
    spawnFailed: [impossible(stopping, spawnFailed)],
    limitReached: [
      ignored(stopping, limitReached),
      into(
        "the hard limit ends its grace",
        stopping,
        hardReached,
        { ...stopping, deadline: undefined, reason: "rolled" },
        [
          told({ kind: "limit_reached", limit: "memory_hard", reason: "far too big" }),
          told({ kind: "killed", pid: PID, reason: "far too big" }),
          killed(PID),
        ],
      ),
      ignored({ ...stopping, deadline: undefined }, hardReached),
    ],
    exited: [
      ...emptied(stopping, exited, 4000),
      into(
        "what left the group gets the signal too, the grace runs on",
        stopping,
        exitedAlone,
        {
          ...stopping,
          lastExit: CODE_3,
        },
        [told({ ...exitTold, planned: true }), signalled(PID, "escaped")],
      ),
      into(
        "after the kill what left the group is killed too",
        { ...stopping, deadline: undefined },
        exitedAlone,
        {
          ...stopping,
          deadline: undefined,
          lastExit: CODE_3,
        },
        [told({ ...exitTold, planned: true }), killed(PID)],
      ),
    ],
    vacated: emptied(stopping, vacated, 4000),
    deadline: [
      into(
        "the grace is over: the whole group is killed, the order stays",
        stopping,
        deadline,
        {
          ...stopping,
          deadline: undefined,
          reason: "rolled",
        },
        [told({ kind: "killed", pid: PID, reason: "still running 4s after SIGTERM" }), killed(PID)],
      ),
    ],
    stop: [
      into("a final stop overrules the respawn", stopping, stopForShutdown, {
        ...stopping,
        order: shutdown,
        reason: "leaving",
      }),
      ignored({ ...stopping, order: operator }, stopForShutdown),
      ignored(stopping, { ...stop, order: { ...operator, next: "respawn" } }),
    ],
    kill: [
      into(
        "it is killed and stays down; the stop goes on since its begin",
        stopping,
        kill,
        {
          ...stopping,
          deadline: undefined,
          reason: "rolled",
          order: { ...rolling, next: "down" },
        },
        [told({ kind: "killed", pid: PID, reason: "at once" }), killed(PID)],
      ),
    ],
  }),
  backoff: row(backoff, {
    deadline: [into("the wait is over", backoff, deadline, { ...spawning, ...next4 }, [spawn4])],
    stop: [
      into("an operator's stop holds the slot", backoff, stop, { ...down, since: NOW, kind: "held", reason: "asked" }),
      into("a shutdown leaves it free", backoff, stopForShutdown, { ...down, since: NOW, reason: "leaving" }),
    ],
    kill: [into("nothing has to be killed", backoff, kill, { ...down, since: NOW, reason: "at once" })],
  }),
};

for (const [phase, row] of Object.entries(CASES)) {
  test(`a worker that is ${phase} answers every event as the table says`, () => {
    for (const [kind, cases] of Object.entries(row)) {
      assert.ok(cases.length > 0, `${phase} × ${kind} has no case`);
      for (const { when, state, event, next, effects, spec = SPEC } of cases) {
        const name = `${phase} × ${kind}: ${when}`;
        assert.deepEqual([state.phase, event.kind], [phase, kind], `${name} stands in the wrong cell`);
        if (next === undefined) {
          assert.throws(() => stepWorker(state, event, spec), InvariantError, name);
          continue;
        }
        const before = structuredClone(state);
        const transition = stepWorker(state, event, spec);
        assert.deepEqual(transition.state, next, name);
        assert.deepEqual(transition.effects, effects, name);
        assert.deepEqual(state, before, `${name}: the old state was changed`);
      }
    }
  });
}

test("the cells that are called ignore or impossible are the ones whose cases say so", () => {
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

test("an impossible event names state and event", () => {
  assert.throws(() => stepWorker(down, deadline, SPEC), /impossible event \{"kind":"deadline".*"phase":"down"/u);
});

test("news of another incarnation changes nothing, in any phase", () => {
  const states = [down, queued, spawning, booting, ready, unready, draining, stopping, backoff];
  const news = [spawned, spawnFailed, becameReady, becameUnready, limitReached, drained, exited, exitedAlone, vacated];
  for (const state of states) {
    for (const event of news) {
      for (const incarnation of [2, 4]) {
        const stale = { ...event, incarnation } as WorkerEvent;
        assert.equal(isStale(state, stale), true);
        const transition = stepWorker(state, stale, SPEC);
        assert.equal(transition.state, state, `${state.phase} × ${event.kind}`);
        assert.deepEqual(transition.effects, []);
      }
    }
  }
});

test("an event without incarnation is never stale", () => {
  for (const event of [start, deadline, stop, kill]) assert.equal(isStale(ready, event), false);
});

test("handling a deadline moves or clears it", () => {
  for (const state of [queued, { ...booting, deadline: NOW }, ready, unready, draining, stopping, backoff]) {
    const { deadline: next }: WorkerState = stepWorker(state, deadline, SPEC).state;
    assert.ok(next === undefined || next > NOW, state.phase);
  }
});

test("a new worker is an empty slot that nothing has lived in", () => {
  assert.deepEqual(newWorker(1, BEFORE), {
    ...down,
    incarnation: 0,
    revision: 0,
    restarts: 0,
    reason: "not started yet",
  });
});

const PROBED = withLifespan(10_000, { readiness: { kind: "probed", timeoutMs: 3000 } });

test("a worker that is asked whether it is ready has until its deadline", () => {
  const { state, effects } = stepWorker(spawning, spawned, PROBED);
  assert.deepEqual(state, {
    ...booting,
    pid: 88,
    spawnedAt: NOW,
    agesAt: instant(15_000),
    deadline: instant(8000),
  });
  assert.deepEqual(effects, [told({ kind: "spawned", pid: 88, revision: 1 })]);
  const answered = stepWorker(state, becameReady, PROBED);
  assert.equal(answered.state.phase, "ready");
  const late = stepWorker(state, { ...deadline, at: instant(8000) } as WorkerEvent, PROBED);
  assert.equal(late.state.phase === "stopping" && late.state.order.cause, "startup");
  assert.equal(late.state.reason, "not ready 3s after its start");
  const known = stepWorker(state, missing, PROBED).state;
  const reasoned = stepWorker(known, { ...deadline, at: instant(8000) } as WorkerEvent, PROBED);
  assert.equal(reasoned.state.reason, "not ready 3s after its start: GET :80/: HTTP 400");
});

test("a worker that may take indefinitely to become ready has no deadline", () => {
  const spec = withLifespan(undefined, { readiness: { kind: "probed", timeoutMs: undefined } });
  assert.equal(stepWorker(spawning, spawned, spec).state.deadline, undefined);
});

/** Ready after 700 ms of serving where it is a successor, after 9 s where it is never seen to serve. */
const OBSERVED = withLifespan(undefined, {
  readiness: { kind: "observed", surviveMs: 9000 },
  rollout: { maxSurge: 1, maxUnavailable: 0, settleMs: 700 },
});

/** The worker after `spawned` at NOW. */
function bootingSince(changes: Partial<OfPhase<"booting">> = {}): OfPhase<"booting"> {
  return { ...booting, agesAt: undefined, pid: 88, spawnedAt: NOW, deadline: instant(14_000), ...changes };
}

test("without probes a worker that is seen serving is ready at once, any other after it has survived", () => {
  const { state } = stepWorker(spawning, spawned, OBSERVED);
  assert.deepEqual(state, bootingSince());
  assert.equal(stepWorker(state, becameReady, OBSERVED).state.phase, "ready");
  const survived = stepWorker(state, { ...deadline, at: instant(14_000) } as WorkerEvent, OBSERVED);
  assert.equal(survived.state.phase, "ready");
  assert.deepEqual(survived.effects, [told({ kind: "ready", afterMs: 9000, evidence: "none" })]);
});

test("a successor without probes must serve for min_ready before it is ready", () => {
  const state = bootingSince({ settleMs: 700 });
  const seen = stepWorker(state, { ...becameReady, at: instant(6000) } as WorkerEvent, OBSERVED).state;
  assert.deepEqual(seen, { ...state, observedAt: instant(6000), deadline: instant(6700) });
  const again = { ...becameReady, at: instant(6500) } as WorkerEvent;
  assert.equal(stepWorker(seen, again, OBSERVED).state, seen, "seen again it does not start anew");
  const settled = stepWorker(seen, { ...deadline, at: instant(6700) } as WorkerEvent, OBSERVED);
  assert.equal(settled.state.phase, "ready");
});

test("after a crash a worker without probes is never ready at once, and in a crash loop only after twice its last uptime", () => {
  const readyAt = (streak: number, lastUptimeMs: number) => {
    const state = bootingSince({ crashes: { recent: [], streak, lastUptimeMs } });
    return stepWorker(state, { ...becameReady, at: instant(5100) } as WorkerEvent, OBSERVED).state.deadline;
  };
  assert.equal(readyAt(1, 4000), instant(5700));
  assert.equal(readyAt(2, 4000), instant(13_000));
  assert.equal(readyAt(2, 50), instant(5700));
  assert.equal(readyAt(9, 50_000), instant(65_000), "at most reset_after");
});

test("no flap of liveness or readiness makes a worker younger", () => {
  const spec = withLifespan(10_000);
  let state: WorkerState = ready;
  for (const event of [livenessFailed, becameAlive, becameUnready, becameReady, livenessFailed, becameUnready])
    state = stepWorker(state, event, spec).state;
  assert.equal(state.deadline, ready.deadline);
  const aged = stepWorker(state, deadline, spec).state;
  assert.equal("due" in aged && aged.due?.cause, "lifespan");
  const well = [becameAlive, becameReady].reduce((each, event) => stepWorker(each, event, spec).state, aged);
  assert.deepEqual([well.phase, "due" in well && well.due?.cause], ["ready", "lifespan"]);
});

test("behind a proxy a planned stop drains first, a broken worker does not", () => {
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
  assert.deepEqual(effects, [told({ kind: "draining", pid: PID, boundMs: 2000, reason: "asked" })]);
  for (const cause of ["shutdown", "liveness", "startup", "memory_hard"] as const) {
    const order: StopOrder = { cause, reason: "r", next: "down" };
    assert.equal(stepWorker(ready, { kind: "stop", at: NOW, order }, spec).state.phase, "stopping", cause);
  }
});

test("what is spawned has the revision that is desired then", () => {
  const { state, effects } = stepWorker(backoff, deadline, { ...SPEC, revision: 7 });
  assert.equal(state.revision, 7);
  assert.deepEqual(effects, [{ kind: "spawn", slot: 1, incarnation: 4, revision: 7 }]);
});

// Exits of their own accord, and signals that others have sent.

function restarting(changes: Partial<PoolSpec["restart"]>, more: Partial<PoolSpec> = {}): PoolSpec {
  const base = poolSpec();
  return poolSpec({ ...more, restart: { ...base.restart, ...changes } });
}

const EXIT_0 = { ...exited, status: { kind: "code", code: 0 } } as const satisfies WorkerEvent;

function kindsOf(effects: readonly WorkerEffect[]): string[] {
  return effects.map((effect) => (effect.kind === "tell" ? effect.event.kind : effect.kind));
}

test("an expected exit is replaced at once and counts neither as a restart nor as a crash", () => {
  const spec = restarting({ expectedExitCodes: [0], maxRestarts: 0 });
  const { state, effects } = stepWorker({ ...ready, crashes: CRASHED_ONCE }, EXIT_0, spec);
  assert.deepEqual(
    [state.phase, state.incarnation, state.restarts, state.crashes],
    ["spawning", 4, 2, { ...CRASHED_ONCE, streak: 0 }],
  );
  assert.deepEqual(kindsOf(effects), ["exited", "starting", "spawn"]);
  const [first] = effects;
  assert.ok(first?.kind === "tell" && first.event.kind === "exited");
  assert.deepEqual([first.event.planned, first.event.cause], [true, "expected"]);
});

test("an expected exit with survivors is replaced after they have exited", () => {
  const spec = restarting({ expectedExitCodes: [0] });
  const stopped = stepWorker(ready, { ...EXIT_0, survivors: true }, spec);
  assert.equal(stopped.state.phase === "stopping" && stopped.state.order.next, "respawn");
  const { state, effects } = stepWorker(stopped.state, vacated, spec);
  assert.deepEqual([state.phase, state.incarnation, state.restarts], ["spawning", 4, 2]);
  assert.deepEqual(kindsOf(effects), ["stopped", "spawn"]);
});

test("on-failure: exit code 0 leaves the slot down as completed, also when survivors have to go first", () => {
  const spec = restarting({ condition: "on-failure" });
  const { state, effects } = stepWorker(ready, EXIT_0, spec);
  assert.equal(state.phase === "down" && state.kind, "completed");
  assert.deepEqual(kindsOf(effects), ["exited", "ended"]);
  const stopped = stepWorker(ready, { ...EXIT_0, survivors: true }, spec);
  const last = stepWorker(stopped.state, vacated, spec);
  assert.equal(last.state.phase === "down" && last.state.kind, "completed");
  assert.deepEqual(kindsOf(last.effects), ["stopped", "ended"]);
});

test("never: a failed exit, start or spawn leaves the slot down as failed", () => {
  const spec = restarting({ condition: "never" });
  const failed = stepWorker(ready, exited, spec);
  assert.equal(failed.state.phase === "down" && failed.state.kind, "failed");
  const unspawned = stepWorker(spawning, spawnFailed, spec);
  assert.equal(unspawned.state.phase === "down" && unspawned.state.kind, "failed");
  const stuck = stepWorker(booting, startupFailed, spec);
  const gone = stepWorker(stuck.state, { ...exited, survivors: false }, spec);
  assert.equal(gone.state.phase === "down" && gone.state.kind, "failed");
});

test("a completed or failed slot starts again on request", () => {
  for (const kind of ["completed", "failed"] as const)
    assert.equal(stepWorker({ ...down, kind }, start, SPEC).state.phase, "spawning");
});

test("during a shutdown a worker that exited by the stop signal is replaced without counting, while it should serve", () => {
  const status: ExitStatus = { kind: "signal", signal: "SIGTERM" };
  const { state, effects } = stepWorker(ready, { ...exited, status, isDuringShutdown: true }, budgetOfNone());
  assert.deepEqual([state.phase, state.incarnation, state.restarts], ["spawning", 4, 2]);
  assert.deepEqual(kindsOf(effects), ["exited", "starting", "spawn"]);
});

test("a worker that received the stop signal together with the controller is sent no second one", () => {
  const hadSignal = { signal: "SIGTERM", at: instant(4000) };
  const order = { ...shutdown, hadSignal };
  const stopped = stepWorker(ready, { kind: "stop", at: NOW, order }, SPEC);
  assert.deepEqual(kindsOf(stopped.effects), ["stopping"]);
  assert.equal(stopped.state.deadline, instant(15_000), "and its grace period all the same");
  // What it leaves behind was signaled too.
  assert.deepEqual(kindsOf(stepWorker(stopped.state, exitedAlone, SPEC).effects), ["exited"]);
  // SIGKILL comes in any case.
  assert.deepEqual(kindsOf(stepWorker(stopped.state, { ...deadline, at: instant(15_000) }, SPEC).effects), [
    "killed",
    "kill",
  ]);
});

test("a worker that started after the signal, or has another stop signal, is sent its stop signal", () => {
  const stopWith = (signal: string, at: number) => {
    const order = { ...shutdown, hadSignal: { signal, at: instant(at) } };
    return kindsOf(stepWorker(ready, { kind: "stop", at: NOW, order }, SPEC).effects);
  };
  assert.deepEqual(stopWith("SIGTERM", BEFORE), ["stopping", "signal"]);
  assert.deepEqual(stopWith("SIGINT", 4000), ["stopping", "signal"]);
});

test("stop_signal_target leader: only the leader is sent the stop signal, then the processes it left behind", () => {
  const spec = withLifespan(10_000, { stopSignalTarget: "leader" });
  const scopes = (effects: readonly WorkerEffect[]) =>
    effects.flatMap((effect) => (effect.kind === "signal" ? [effect.scope] : []));
  const stopped = stepWorker(ready, stop, spec);
  assert.deepEqual(scopes(stopped.effects), ["leader"]);
  assert.deepEqual(scopes(stepWorker(stopped.state, exitedAlone, spec).effects), ["group"]);
  // A leader that crashed cannot stop its children.
  assert.deepEqual(scopes(stepWorker(ready, exitedAlone, spec).effects), ["group"]);
});
