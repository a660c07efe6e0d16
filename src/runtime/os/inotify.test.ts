import assert from "node:assert/strict";
import { test } from "node:test";
import { ControllerError } from "../../base/errors.ts";
import { requireInotify } from "./inotify.ts";

test("too few inotify instances cause an error that names the limit and how to raise it", () => {
  requireInotify(4, undefined, () => 4);
  requireInotify(0);
  assert.throws(
    () => requireInotify(8, undefined, () => 3),
    (error) =>
      error instanceof ControllerError &&
      error.code === "INOTIFY_EXHAUSTED" &&
      /needs 8 more inotify instances, but uid \d+ has 3 left of the \d+ of fs\.inotify\.max_user_instances/u.test(
        error.message,
      ) &&
      error.hint?.includes("sysctl") === true,
  );
});
