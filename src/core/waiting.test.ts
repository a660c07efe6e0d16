import assert from "node:assert/strict";
import { test } from "node:test";
import { instant } from "../base/time.ts";
import { describeListening, isReportDue } from "./waiting.ts";

/** Seconds at which a wait that begins at 0 is reported. `textAt` returns what the worker waits for. */
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

test("an unchanged wait is reported after 1 s and after 10 s, and then no more", () => {
  assert.deepEqual(
    reportsOf(() => "refused", 100),
    [1, 10],
  );
});

test("changes of a wait are reported every second at first and every ten seconds later", () => {
  assert.deepEqual(reportsOf(String, 40), [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 20, 30, 40]);
});

test("the description of where a worker listens is consistent with the result of its last probe", () => {
  const refused = "GET http://127.0.0.1:80/healthz: connection refused (ECONNREFUSED)";
  const opened = (address: string) => `; its process opened its listener on ${address} after this attempt`;
  for (const address of ["127.0.0.1:80", "0.0.0.0:80", "[::]:80"])
    assert.equal(describeListening(refused, ["127.0.0.2:9", address]), opened(address));
  const missing = "GET / on /run/web.sock: no such file or directory (ENOENT)";
  assert.equal(describeListening(missing, ["/run/web.sock"]), opened("/run/web.sock"));
  assert.equal(describeListening("nothing listens on 127.0.0.1:80", ["127.0.0.1:80"]), opened("127.0.0.1:80"));
  for (const other of ["127.0.0.2:80", "127.0.0.1:8080", "127.0.0.1:8"])
    assert.equal(describeListening(refused, [other]), `; its processes listen on ${other}`);
  assert.equal(describeListening(refused, []), "; none of its processes is listening");
  const answered = "GET http://127.0.0.1:80/healthz: HTTP 503";
  assert.equal(describeListening(answered, ["127.0.0.1:80"]), "; its processes listen on 127.0.0.1:80");
});
