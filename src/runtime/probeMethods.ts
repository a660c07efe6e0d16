/** From what a probe asks for to the attempt that does it. */
import type { AttemptOutcome } from "../core/probe.ts";
import type { ProbeAddress } from "./attempt.ts";
import { attemptExec } from "./execProbe.ts";
import { attemptHttp, attemptTcp } from "./networkProbe.ts";
import type { AttemptStarter, ProbeMethod, ProbeTarget } from "./prober.ts";
import type { HelperControl } from "./processes.ts";

type Settle = (outcome: AttemptOutcome) => void;

const NOTHING: Disposable = { [Symbol.dispose]: () => {} };

/** Starts attempts of every kind; `helpers` runs the commands. */
export function probeStarter(helpers: HelperControl): AttemptStarter {
  return ({ method, policy: { timeoutMs } }, target, settle, release) => {
    if (method.kind === "exec") {
      const { pool, slot, incarnation, revision, pid: workerPid } = target;
      const { file, argv } = method;
      return attemptExec(
        helpers,
        { pool, slot, incarnation, revision, workerPid, file, argv },
        timeoutMs,
        settle,
        release,
      );
    }
    const address = addressOf(method, target);
    if (address === undefined) {
      settle({ kind: "error", reason: "the worker has no port of its own, so the probe needs one" });
      release();
      return NOTHING;
    }
    const settleAndRelease: Settle = (outcome) => {
      settle(outcome);
      release();
    };
    const attempt = connectingAttempt(method, address, timeoutMs, settleAndRelease);
    return {
      [Symbol.dispose]: () => {
        attempt[Symbol.dispose]();
        release();
      },
    };
  };
}

function addressOf({ port }: Exclude<ProbeMethod, { kind: "exec" }>, target: ProbeTarget): ProbeAddress | undefined {
  return port === undefined ? target.address : { port };
}

function connectingAttempt(
  method: Exclude<ProbeMethod, { kind: "exec" }>,
  address: ProbeAddress,
  timeoutMs: number,
  settle: Settle,
): Disposable {
  switch (method.kind) {
    case "http":
      return attemptHttp(address, method.path, timeoutMs, settle, method.headers);
    case "tcp":
      return attemptTcp(address, timeoutMs, settle);
    case "grpc":
      return attemptGrpcLazily(address, method.service, timeoutMs, settle);
  }
}

/** HTTP/2 is loaded only by whoever asks in gRPC. */
function attemptGrpcLazily(
  address: ProbeAddress,
  service: string | undefined,
  timeoutMs: number,
  settle: Settle,
): Disposable {
  let attempt: Disposable | undefined;
  let isDisposed = false;
  import("./grpcProbe.ts").then(
    ({ attemptGrpc }) => {
      if (!isDisposed) attempt = attemptGrpc(address, service, timeoutMs, settle);
    },
    (error: unknown) => {
      if (!isDisposed) settle({ kind: "error", reason: String(error) });
    },
  );
  return {
    [Symbol.dispose]: () => {
      isDisposed = true;
      attempt?.[Symbol.dispose]();
    },
  };
}
