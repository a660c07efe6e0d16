import assert from "node:assert/strict";
import { test } from "node:test";
import { parseEphemeralPorts, readEphemeralPorts } from "./ephemeralPorts.ts";

test("the range and the reserved ports are parsed in the kernel's format", () => {
  assert.deepEqual(parseEphemeralPorts("32768\t60999\n", "\n"), { from: 32_768, to: 60_999, reserved: [] });
  assert.deepEqual(parseEphemeralPorts("1024 65535", "8080,9000-9100\n")?.reserved, [
    { from: 8080, to: 8080 },
    { from: 9000, to: 9100 },
  ]);
  assert.equal(parseEphemeralPorts("", ""), undefined);
});

test("without /proc the range is unknown", () => {
  assert.equal(readEphemeralPorts("/nonexistent"), undefined);
  const here = readEphemeralPorts();
  assert.ok(here === undefined || here.from <= here.to);
});
