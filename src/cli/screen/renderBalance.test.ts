import assert from "node:assert/strict";
import { test } from "node:test";
import { statusOf, workerDetail, workerStatus } from "../../../test/support/fakeController.ts";
import type { PoolBalance, PoolStatus, WorkerStatus } from "../../admin/api.ts";
import { renderBalance } from "./renderBalance.ts";

const PLAIN = { hasColours: false };

const BALANCE: PoolBalance = {
  mode: "proxy",
  algorithm: "LEAST_REQUEST",
  window_s: 62,
  cpu_spread: 1.5,
  requests_spread: 1.333,
  verdict: "uneven",
  advice: "do something",
};

function pool(balance: PoolBalance | undefined, ...workers: readonly WorkerStatus[]): PoolStatus {
  const [found] = statusOf(...workers).pools;
  assert.ok(found !== undefined);
  return balance === undefined ? found : { ...found, balance };
}

test("a balance shows load and share of each ready worker, the spread and the advice", () => {
  const web = pool(
    BALANCE,
    workerStatus({ detail: workerDetail({ cpu_ratio: 0.75, requests_per_second: 20 }) }),
    workerStatus({ id: "web-1", detail: workerDetail({ requests_in_flight: 0 }) }),
    workerStatus({ id: "web-2", phase: "starting", detail: workerDetail() }),
  );
  assert.equal(
    renderBalance([web], PLAIN),
    `web: balanced by the proxy (LEAST_REQUEST), last 1m2s
  WORKER     CPU   SHARE  REQUESTS/S   SHARE  IN FLIGHT
  web-0   75.0 %  75.0 %        20.0  66.7 %          2
  web-1   25.0 %  25.0 %        10.0  33.3 %          0
  spread (maximum / mean): CPU 1.50, requests 1.33
  do something
`,
  );
});

test("unknown values are dashes", () => {
  const unknown = workerDetail({ cpu_ratio: null, requests_per_second: null, requests_in_flight: null });
  const balance: PoolBalance = {
    ...BALANCE,
    mode: "supervisor",
    algorithm: null,
    window_s: 0,
    cpu_spread: null,
    requests_spread: null,
    verdict: "unknown",
  };
  assert.equal(
    renderBalance([pool(balance, workerStatus({ detail: unknown }), workerStatus({ id: "web-1" }))], PLAIN),
    `web: balanced by the kernel (supervisor mode)
  WORKER  CPU  SHARE  REQUESTS/S  SHARE  IN FLIGHT
  web-0     -      -           -      -          -
  web-1     -      -           -      -          -
  spread (maximum / mean): CPU -, requests -
  do something
`,
  );
});

test("the advice has the colour of its verdict, and a proxy pool has no balance", () => {
  const text = renderBalance([pool(BALANCE, workerStatus()), pool(undefined, workerStatus())], { hasColours: true });
  assert.ok(text.includes("\u001b[33mdo something\u001b[0m"));
  assert.equal(text.match(/WORKER/gu)?.length, 1);
});
