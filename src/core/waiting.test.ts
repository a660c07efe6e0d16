import assert from "node:assert/strict";
import { test } from "node:test";
import { instant } from "../base/time.ts";
import { isReportDue } from "./waiting.ts";

/** Seconds at which a wait that begins at 0 is reported, where `textAt` says what it waits for. */
function reportsOf(textAt: (second: number) => string, seconds: number): number[] {
  const at: number[] = [];
  let reported: { text: string; at: ReturnType<typeof instant> } | undefined;
  for (let second = 0; second <= seconds; second++) {
    const now = instant(second * 1000);
    const text = textAt(second);
    if (!isReportDue({ since: instant(0), reported }, text, now)) continue;
    at.push(second);
    reported = { text, at: now };
  }
  return at;
}

test("a wait is reported after a second, once more when it is long, and not again while nothing changes", () => {
  assert.deepEqual(
    reportsOf(() => "refused", 100),
    [1, 10],
  );
});

test("changes are reported every second at first and every ten seconds later", () => {
  assert.deepEqual(reportsOf(String, 40), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 40]);
});
