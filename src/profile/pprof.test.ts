import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { gzipSync } from "node:zlib";
import { encodePprof, type Frame, type Profile } from "./pprof.ts";

const HAS_GO = spawnSync("go", ["version"]).status === 0;
const MAIN: Frame = { name: "main", file: "app.py", line: 3 };

const PROFILE: Profile = {
  origin: "web-0",
  valueTypes: [
    { type: "samples", unit: "count" },
    { type: "cpu", unit: "nanoseconds" },
  ],
  shownType: "cpu",
  stacks: [
    { frames: [MAIN, { name: "größe; (x)", file: "/a b/spin.py", line: 300 }], values: [40, 4_000_000_000_000] },
    { frames: [MAIN, { name: "largo", file: "", line: 0 }], values: [2, 20_000_000] },
    { frames: [{ ...MAIN, line: 4 }], values: [0, 0] },
  ],
  periodType: { type: "cpu", unit: "nanoseconds" },
  period: 10_000_000,
  startedAtMs: Date.UTC(2026, 0, 2, 3, 4, 5, 678),
  durationMs: 4200.5,
  comments: ["engine: py-spy", "the worker ended meanwhile"],
};

/** What `go tool pprof` says about a profile. */
function pprof(profile: Profile, ...args: readonly string[]): string {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-pprof-"));
  try {
    const file = join(directory, "profile.pb.gz");
    writeFileSync(file, gzipSync(encodePprof(profile)));
    const { stdout, stderr, status } = spawnSync("go", ["tool", "pprof", ...args, file], {
      encoding: "utf8",
      env: { ...process.env, PPROF_TMPDIR: directory, TZ: "UTC" },
    });
    assert.equal(status, 0, stderr);
    return stdout;
  } finally {
    rmSync(directory, { recursive: true });
  }
}

test("go tool pprof reads each stack, location, value, time and comment", { skip: !HAS_GO }, () => {
  const raw = pprof(PROFILE, "-raw");
  assert.match(raw, /^Comment: engine: py-spy$/mu);
  assert.match(raw, /^Comment: the worker ended meanwhile$/mu);
  assert.match(raw, /PeriodType: cpu nanoseconds\nPeriod: 10000000\nTime: 2026-01-02 03:04:05\.678/u);
  assert.match(raw, /Duration: 4\.2/u);
  assert.match(raw, /samples\/count cpu\/nanoseconds\[dflt\]/u);
  assert.match(raw, /^\s+40 4000000000000: 2 1 $/mu);
  assert.match(raw, /^\s+2 {3}20000000: 3 1 $/mu);
  assert.match(raw, /^\s+1: 0x0 M=1 main app\.py:3(?::0)? s=0/mu);
  assert.match(raw, /^\s+2: 0x0 M=1 größe; \(x\) \/a b\/spin\.py:300(?::0)? s=0/mu);
  assert.match(raw, /^\s+4: 0x0 M=1 main app\.py:4(?::0)? s=0/mu);
  assert.match(raw, /web-0/u);
});

test("a profile without stacks is valid", { skip: !HAS_GO }, () => {
  assert.match(pprof({ ...PROFILE, stacks: [], comments: [] }, "-raw"), /Samples:\nsamples\/count/u);
});

test("go tool pprof shows the hot function first", { skip: !HAS_GO }, () => {
  const top = pprof(PROFILE, "-top");
  assert.match(top, /File: web-0\n(?:.*\n)*Type: cpu\n/u);
  assert.match(top, /cum%\n.*% {2}größe; \(x\)\n/u);
});

test("functions and locations are written once, however many stacks contain them", () => {
  const [stack] = PROFILE.stacks;
  assert.ok(stack !== undefined);
  const once = encodePprof({ ...PROFILE, stacks: [stack] }).length;
  const often = encodePprof({ ...PROFILE, stacks: Array.from({ length: 101 }, () => stack) }).length;
  assert.ok(often - once < 100 * 20, `${once}, ${often}`);
});
