import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { metricsPage } from "./docs.ts";

test("docs/metrics.md matches the catalog", () => {
  const page = readFileSync(new URL("../../docs/metrics.md", import.meta.url), "utf8");
  assert.equal(page, metricsPage(), "docs/metrics.md is stale: npm run docs:write");
});
