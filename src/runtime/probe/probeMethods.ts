/** Turns the method of a probe into attempts, and into text that says what was requested and what came back. */
import { formatDuration } from "../../base/units.ts";
import type { AttemptOutcome } from "../../core/policy/probe.ts";
import type { HelperControl } from "../process/helpers.ts";
import type { Ownership, SocketOwners } from "../socket/socketOwners.ts";
import { formatAddress, type ProbeAddress, type Settle } from "./attempt.ts";
import { attemptExec } from "./execProbe.ts";
import { methodOf, type NetworkProbe } from "./networkMethods.ts";
import type { AttemptStarter, Probe, ProbeMethod, ProbeTarget } from "./prober.ts";

const NOTHING: Disposable = { [Symbol.dispose]: () => {} };

const SUCCESS: AttemptOutcome = { kind: "success" };

/** Called if the owner of a socket cannot be determined, so that the probe alone decides. */
export type OnUnknownOwner = (target: ProbeTarget, reason: Extract<Ownership, { kind: "unknown" }>["reason"]) => void;

/** Starts attempts of every kind; `helpers` runs the commands, `owners` finds the owner of a listening socket. */
export function probeStarter(
  helpers: HelperControl,
  owners: SocketOwners,
  onUnknownOwner: OnUnknownOwner,
): AttemptStarter {
  const start = (probe: Probe, target: ProbeTarget, settle: Settle, release: () => void): Disposable => {
    const { method, policy } = probe;
    switch (method.kind) {
      case "exec": {
        const { pool, slot, incarnation, revision, pid: workerPid } = target;
        const { file, argv } = method;
        const request = { pool, slot, incarnation, revision, workerPid, file, argv };
        return attemptExec(helpers, request, policy.timeoutMs, settle, release);
      }
      case "watchdog":
        settle(checkWatchdog(method, target));
        release();
        return NOTHING;
      case "serving":
        return abandonable(lookAt(method, target), settle, release);
      default:
        return connect(method, target, policy.timeoutMs, settle, release);
    }
  };

  const lookAt = async (
    { sockets }: Extract<ProbeMethod, { kind: "serving" }>,
    target: ProbeTarget,
  ): Promise<AttemptOutcome> => {
    const serving = await owners.isServing(target.owner);
    if (serving === "serving") return SUCCESS;
    const what = sockets.map(({ name, address }) => `socket "${name}" (${address})`).join(" or ");
    const reason =
      serving === "refused"
        ? "cannot tell whether it serves: the controller may not inspect its processes (needs CAP_SYS_PTRACE)"
        : `none of its processes waits on ${what}`;
    return { kind: "failure", reason };
  };

  const verify = async (addresses: readonly ProbeAddress[], target: ProbeTarget): Promise<AttemptOutcome> => {
    for (const address of addresses) {
      const ownership = await owners.judge(target.owner, address);
      if (ownership.kind === "unknown") onUnknownOwner(target, ownership.reason);
      const reason = whyNotOwned(address, ownership);
      if (reason !== undefined) return { kind: "failure", reason };
    }
    return SUCCESS;
  };

  return (probe, target, settle, release) => {
    const what = describeMethod(probe.method, target);
    let verification: Disposable | undefined;
    let isVerifying = false;
    const settleWithTarget: Settle = (outcome) => {
      if (outcome.kind === "success") {
        const addresses = probe.verify?.() ?? [];
        isVerifying = addresses.length > 0;
        if (isVerifying) verification = abandonable(verify(addresses, target), settle, release);
        else settle(outcome);
        return;
      }
      settle(what === undefined ? outcome : { ...outcome, reason: `${what}: ${outcome.reason}` });
    };
    const attempt = start(probe, target, settleWithTarget, () => {
      if (!isVerifying) release();
    });
    return {
      [Symbol.dispose]: () => {
        attempt[Symbol.dispose]();
        verification?.[Symbol.dispose]();
      },
    };
  };
}

/** Wraps a promise as an attempt; disposal discards the result. */
function abandonable(work: Promise<AttemptOutcome>, settle: Settle, release: () => void): Disposable {
  let isOver = false;
  const end = (act: () => void) => {
    if (isOver) return;
    isOver = true;
    act();
    release();
  };
  work.then(
    (outcome) => end(() => settle(outcome)),
    (error: unknown) => end(() => settle({ kind: "error", reason: String(error) })),
  );
  return { [Symbol.dispose]: () => end(() => {}) };
}

/** Why the listener at an address is not the worker's; undefined if it is, or if this cannot be determined. */
export function whyNotOwned(address: ProbeAddress, ownership: Ownership): string | undefined {
  const where = formatAddress(address);
  switch (ownership.kind) {
    case "owned":
    case "unknown":
      return undefined;
    case "none":
      return `nothing listens on ${where}`;
    case "foreign":
      return `${ownership.holder} listens on ${where} and is not a process of this worker`;
  }
}

function checkWatchdog({ periodMs }: { readonly periodMs: number }, { notifySocket }: ProbeTarget): AttemptOutcome {
  switch (notifySocket?.takeWatchdog()) {
    case "failed":
      return { kind: "failure", reason: "the worker requested its replacement (WATCHDOG=trigger)" };
    case "silent":
      return { kind: "failure", reason: `no WATCHDOG=1 within ${formatDuration(periodMs)}`, how: "timeout" };
    default:
      return SUCCESS;
  }
}

/** What an attempt requests, such as `GET http://127.0.0.1:80/healthz`; undefined if it sends no request. */
export function describeMethod(method: ProbeMethod, target: Pick<ProbeTarget, "address">): string | undefined {
  if (method.kind === "serving" || method.kind === "watchdog") return undefined;
  if (method.kind === "exec") return `command "${method.argv[0]}"`;
  const address = addressOf(method, target);
  return address && methodOf(method).describe(formatAddress(address), method);
}

function addressOf({ port }: NetworkProbe, target: Pick<ProbeTarget, "address">): ProbeAddress | undefined {
  return port === undefined ? target.address : { port };
}

function connect(
  method: NetworkProbe,
  target: ProbeTarget,
  timeoutMs: number,
  settle: Settle,
  release: () => void,
): Disposable {
  const address = addressOf(method, target);
  if (address === undefined) {
    settle({ kind: "error", reason: "the worker has no port of its own, so the probe needs one" });
    release();
    return NOTHING;
  }
  const attempt = methodOf(method).attempt(address, method, timeoutMs, (outcome) => {
    settle(outcome);
    release();
  });
  return {
    [Symbol.dispose]: () => {
      attempt[Symbol.dispose]();
      release();
    },
  };
}
