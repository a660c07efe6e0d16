import assert from "node:assert/strict";
import { test } from "node:test";
import { formatDuration, formatRoundSize, formatSize, parseDuration, parseSize } from "./units.ts";

test("parseDuration accepts the durations that Go accepts", () => {
  const expected: Readonly<Record<string, number | undefined>> = {
    "0": 0,
    "+0": 0,
    "500ms": 500,
    "15s": 15_000,
    "1h30m": 5_400_000,
    "1.5h": 5_400_000,
    ".5s": 500,
    "1.s": 1000,
    "-2m": -120_000,
    "+2m": 120_000,
    "100us": 0.1,
    "100µs": 0.1,
    "100μs": 0.1,
    "250000ns": 0.25,
    "1m1m": 120_000,
    "": undefined,
    "5": undefined,
    s: undefined,
    ".s": undefined,
    "1d": undefined,
    "1 s": undefined,
    "1e3s": undefined,
    "--1s": undefined,
    "1S": undefined,
    "1s ": undefined,
  };
  for (const [text, ms] of Object.entries(expected)) assert.equal(parseDuration(text), ms, JSON.stringify(text));
});

test("formatDuration rounds, and carries full units over to the next larger one", () => {
  const expected: readonly (readonly [number, string])[] = [
    [0, "0s"],
    [0.25, "250µs"],
    [0.9999, "1ms"],
    [1, "1ms"],
    [1.25, "1.3ms"],
    [9.96, "10ms"],
    [12.34, "12ms"],
    [999.4, "999ms"],
    [999.6, "1s"],
    [1500, "1.5s"],
    [1234.4, "1.234s"],
    [59_999.6, "1m"],
    [90_000, "1m30s"],
    [3_600_000, "1h"],
    [3_661_500, "1h1m1.5s"],
    [-1500, "-1.5s"],
  ];
  for (const [ms, text] of expected) assert.equal(formatDuration(ms), text, String(ms));
});

test("parseDuration reads what formatDuration writes", () => {
  for (const ms of [0, 1, 250, 1500, 60_000, 90_000, 3_600_000, 86_400_000])
    assert.equal(parseDuration(formatDuration(ms)), ms);
});

test("parseSize accepts decimal and binary units", () => {
  const expected: Readonly<Record<string, number | undefined>> = {
    "0": 0,
    "1024": 1024,
    "7B": 7,
    "1KB": 1000,
    "1KiB": 1024,
    "512MiB": 536_870_912,
    "1GB": 1_000_000_000,
    "1.5GiB": 1_610_612_736,
    "2TB": 2e12,
    "1TiB": 2 ** 40,
    "1 MiB": 1_048_576,
    "": undefined,
    "-1": undefined,
    "1k": undefined,
    "512Mi": 536_870_912,
    "1Ki": 1024,
    "512M": undefined,
    "1i": undefined,
    MiB: undefined,
    "1e3": undefined,
    "99999999TiB": undefined,
  };
  for (const [text, bytes] of Object.entries(expected)) assert.equal(parseSize(text), bytes, JSON.stringify(text));
});

test("formatSize uses the largest binary unit that is exact", () => {
  const expected: readonly (readonly [number, string])[] = [
    [0, "0B"],
    [1500, "1500B"],
    [1024, "1KiB"],
    [1_048_576, "1MiB"],
    [1_572_864, "1536KiB"],
    [2 ** 30, "1GiB"],
    [2 ** 40, "1TiB"],
  ];
  for (const [bytes, text] of expected) assert.equal(formatSize(bytes), text);
});

test("formatRoundSize rounds to a tenth of the largest unit", () => {
  assert.equal(formatRoundSize(642_000_000), "612.3 MiB");
  assert.equal(formatRoundSize(2 ** 30), "1 GiB");
  assert.equal(formatRoundSize(2.75 * 2 ** 30), "2.8 GiB");
  assert.equal(formatRoundSize(1023), "1 KiB");
  assert.equal(formatRoundSize(900), "900 B");
});
