import assert from "node:assert/strict";
import { test } from "node:test";
import { parseNotifyMessage } from "./notifyMessage.ts";

const NOTHING = { isReady: false, isStopping: false, watchdog: undefined, status: undefined, extendMs: undefined };

test("a message may report several things", () => {
  assert.deepEqual(parseNotifyMessage("READY=1\nSTATUS=serving on 4 threads\nWATCHDOG=1\n"), {
    ...NOTHING,
    isReady: true,
    watchdog: "alive",
    status: "serving on 4 threads",
  });
  assert.deepEqual(parseNotifyMessage("STOPPING=1\nEXTEND_TIMEOUT_USEC=2500000"), {
    ...NOTHING,
    isStopping: true,
    extendMs: 2500,
  });
  assert.deepEqual(parseNotifyMessage("WATCHDOG=trigger"), { ...NOTHING, watchdog: "failed" });
});

test("unknown names, other values and text without a name are ignored", () => {
  for (const text of ["", "READY", "READY=0", "=1", "RELOADING=1\nMAINPID=1\nFDSTORE=1", "WATCHDOG=0", "ready=1"])
    assert.deepEqual(parseNotifyMessage(text), NOTHING);
  for (const extension of ["", "-1", "1e9", "9999999999999999", " 5"])
    assert.deepEqual(parseNotifyMessage(`EXTEND_TIMEOUT_USEC=${extension}`), NOTHING);
});

test("of a repeated name the last line counts, and a value may contain an equals sign", () => {
  assert.equal(parseNotifyMessage("STATUS=a=1\nSTATUS=b=2").status, "b=2");
});

test("a status is made printable and bounded, and an empty one clears it", () => {
  assert.equal(parseNotifyMessage("STATUS=").status, "");
  assert.doesNotMatch(parseNotifyMessage("STATUS=\u001b[31mred").status ?? "", /\u001b/u);
  assert.equal(parseNotifyMessage(`STATUS=${"x".repeat(5000)}`).status?.length, 200);
});

test("an extension is limited to a day", () => {
  assert.equal(parseNotifyMessage("EXTEND_TIMEOUT_USEC=999999999999999").extendMs, 86_400_000);
});
