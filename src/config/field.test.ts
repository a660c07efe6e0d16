import assert from "node:assert/strict";
import { test } from "node:test";
import { block, key, type Launched, section, type Values } from "./field.ts";
import { integer, text } from "./scalars.ts";

test("a key without a change class, or with a default of another type, does not compile", () => {
  // @ts-expect-error no change class
  key("nice", integer(0), { doc: "Priority." });
  // @ts-expect-error unknown change class
  key("nice", integer(0), { change: "later", doc: "Priority." });
  // @ts-expect-error default of another type
  key("nice", integer(0), { change: "launch", default: "0", doc: "Priority." });
  const { change } = key("protocol", text(), { change: ["launch", "proxy"], doc: "Protocol." });
  assert.deepEqual(change, ["launch", "proxy"]);
});

test("the types of values and revisions are inferred from the keys", () => {
  const inner = {
    size: key("size", integer(1), { change: "policy", default: 1, doc: "Size." }),
    mode: key("mode", text(), { change: ["launch", "proxy"], doc: "Mode." }),
  };
  const keys = {
    name: key("name", text(), { change: [], required: true, doc: "Name." }),
    path: key("path", text(), { change: "refused", doc: "Path." }),
    limit: key("limit", integer(1), { change: ["policy", "proxy"], default: 1, doc: "Limit." }),
    logs: section("logs", block(inner), "Logs."),
  };
  const value: Values<typeof keys> = { name: "a", path: undefined, limit: 1, logs: { size: 1, mode: undefined } };
  const launched: Launched<typeof keys> = value;
  assert.deepEqual([launched.name, launched.path, launched.logs.mode], ["a", undefined, undefined]);
  // @ts-expect-error a reload changes it at once
  assert.equal(launched.limit, 1);
  // @ts-expect-error a reload changes it at once
  assert.equal(launched.logs.size, 1);
});
