import assert from "node:assert/strict";
import { test } from "node:test";
import { deadGaugeFiles } from "./multiproc.ts";

test("only live gauges of exited processes are removed", () => {
  const names = [
    "counter_7.db",
    "histogram_7.db",
    "gauge_all_7.db",
    "gauge_mostrecent_7.db",
    "gauge_liveall_7.db",
    "gauge_livesum_7.db",
    "gauge_livemostrecent_7.db",
    "gauge_livemax_8.db",
    "gauge_liveall_web-0.db",
    "gauge_liveall_my_web-0.db",
    "gauge_liveall_.db",
    "gauge_liveall_7.db.lock",
    "notes.txt",
  ];
  assert.deepEqual(
    deadGaugeFiles(names, (id) => id === "7"),
    ["gauge_liveall_7.db", "gauge_livesum_7.db", "gauge_livemostrecent_7.db"],
  );
  assert.deepEqual(
    deadGaugeFiles(names, (id) => id.endsWith("web-0")),
    ["gauge_liveall_web-0.db", "gauge_liveall_my_web-0.db"],
  );
});
