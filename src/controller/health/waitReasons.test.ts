import assert from "node:assert/strict";
import { test } from "node:test";
import type { ProbePolicy } from "../../core/policy/probe.ts";
import type { ReadinessPolicy } from "../../core/spec.ts";
import { firstReason } from "./waitReasons.ts";

const OBSERVED: ReadinessPolicy = { kind: "observed", surviveMs: 10_000 };
const PROBED: ReadinessPolicy = { kind: "probed", timeoutMs: 60_000 };
const POLICY: ProbePolicy = {
  initialDelayMs: 0,
  firstPeriodMs: 1000,
  periodMs: 1000,
  timeoutMs: 1000,
  failureThreshold: 3,
  successThreshold: 1,
};
const TARGET = {
  address: { port: 80 },
  owner: { leader: 100 },
  startup: undefined,
  readiness: undefined,
  readinessChannel: undefined,
};

test("a new worker waits for what makes it ready", () => {
  const http = { method: { kind: "http", path: "/up", port: undefined }, policy: POLICY } as const;
  const tcp = { method: { kind: "tcp", port: 81 }, policy: POLICY } as const;
  const shared = { leader: 100, shared: new Set(["1"]) };
  const readinessChannel = { through: "NOTIFY_SOCKET", listen: () => {}, [Symbol.dispose]: () => {} };
  const survives = ", and it has run for less than 10s";
  for (const [changes, readiness, expected] of [
    [{}, OBSERVED, `none of its processes listens yet${survives}`],
    [{ owner: shared }, OBSERVED, `none of its processes waits on a socket of the pool yet${survives}`],
    [{ readiness: "notify", readinessChannel }, PROBED, "it has not reported ready through NOTIFY_SOCKET yet"],
    [{ readiness: http }, PROBED, "GET http://127.0.0.1:80/up: no answer yet"],
    [{ startup: tcp, readiness: http }, PROBED, "connection to 127.0.0.1:81: no answer yet"],
    [{ startup: http, address: undefined }, PROBED, "it has not answered yet"],
  ] as const)
    assert.equal(firstReason({ ...TARGET, ...changes }, readiness), expected);
});
