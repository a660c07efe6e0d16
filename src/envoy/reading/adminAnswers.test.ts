import assert from "node:assert/strict";
import { test } from "node:test";
import { numberOf, parseClusters, parseHistograms, parseListenerError, parseStats } from "./adminAnswers.ts";

const CLUSTERS = JSON.stringify({
  cluster_statuses: [
    { name: "other", host_statuses: [{ address: { pipe: { path: "/x" } } }] },
    {
      name: "workers",
      host_statuses: [
        {
          address: { socket_address: { address: "127.0.0.1", port_value: 9101 } },
          stats: [
            { name: "rq_total", value: "12345678901" },
            { name: "rq_error", value: "3" },
            { name: "cx_connect_fail" },
            { type: "GAUGE", name: "rq_active", value: "2" },
            { type: "GAUGE", name: "rq_pending_active", value: "1" },
            { type: "GAUGE", name: "cx_active", value: "4" },
          ],
          health_status: { eds_health_status: "HEALTHY", failed_active_health_check: true },
        },
        { address: { pipe: { path: "/run/web-1.sock" } }, stats: [{ name: "rq_total", value: "many" }] },
        { address: { envoy_internal_address: {} } },
      ],
    },
  ],
});

test("the workers of the cluster are parsed with their numbers, and missing numbers are 0", () => {
  const nothing = { requestsActive: 0, requestsPending: 0, requestsTotal: 0, requestsFailed: 0, connectionsActive: 0 };
  assert.deepEqual(parseClusters(CLUSTERS), [
    {
      address: "127.0.0.1:9101",
      failedActiveCheck: true,
      requestsActive: 2,
      requestsPending: 1,
      requestsTotal: 12_345_678_901,
      requestsFailed: 3,
      connectionsActive: 4,
    },
    { ...nothing, address: "/run/web-1.sock", failedActiveCheck: false },
  ]);
});

test("a truncated or unrelated response contains no workers", () => {
  for (const text of ["", "{", "[]", "null", '{"cluster_statuses":7}', CLUSTERS.slice(0, 400)])
    assert.deepEqual(parseClusters(text), []);
});

test("statistics are numbers or texts, and histograms are skipped", () => {
  const stats = parseStats('a.b: 7\nc.version_text: "12"\nd: P0(nan,1) P25(nan,2)\ne: No recorded values\nrubbish\n');
  assert.deepEqual(
    [...stats],
    [
      ["a.b", 7],
      ["c.version_text", "12"],
    ],
  );
  assert.equal(numberOf(stats, "a.b"), 7);
  assert.equal(numberOf(stats, "c.version_text"), 0);
  assert.equal(numberOf(stats, "z"), 0);
});

test("histograms are parsed with their buckets", () => {
  const text = `# TYPE envoy_x histogram
envoy_x_bucket{envoy_cluster_name="workers",le="0.5"} 1
envoy_x_bucket{envoy_cluster_name="workers",le="100"} 4
envoy_x_bucket{envoy_cluster_name="workers",le="+Inf"} 5
envoy_x_sum{envoy_cluster_name="workers"} 3860.6492477132906060433015227318
envoy_x_count{envoy_cluster_name="workers"} 5
envoy_y_count{} NaN
`;
  assert.deepEqual(
    [...parseHistograms(text)],
    [
      [
        "envoy_x",
        {
          buckets: [
            { upperBound: 0.5, count: 1 },
            { upperBound: 100, count: 4 },
          ],
          sum: 3860.6492477132906,
          count: 5,
        },
      ],
    ],
  );
});

test("the reason for a rejected listener is found if there is one", () => {
  const dump = { configs: [{ name: "ingress" }, { error_state: { details: "cannot bind" } }] };
  assert.equal(parseListenerError(JSON.stringify(dump)), "cannot bind");
  assert.equal(parseListenerError('{"configs":[{}]}'), undefined);
  assert.equal(parseListenerError("<html>"), undefined);
});
