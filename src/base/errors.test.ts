import assert from "node:assert/strict";
import { test } from "node:test";
import { ControllerError, ERROR_CODES } from "./errors.ts";

test("a ControllerError carries its code, exit code, hint and cause", () => {
  const cause = new Error("EADDRINUSE");
  const error = new ControllerError("PORT_IN_USE", 'Cannot listen on "9000"', { cause, hint: "Set admin.port." });
  assert.equal(error.name, "ControllerError");
  assert.equal(error.code, "PORT_IN_USE");
  assert.equal(error.exitCode, 1);
  assert.equal(error.hint, "Set admin.port.");
  assert.equal(error.cause, cause);
});

test("a ControllerError created without hint and cause has no such properties", () => {
  const error = new ControllerError("CONFIG_INVALID", "Cannot read the configuration");
  assert.equal(error.hint, undefined);
  assert.equal("cause" in error, false);
  assert.equal(error.exitCode, 78);
});

test("every error code has a one-sentence meaning and a documented exit code", () => {
  for (const [code, { exitCode, meaning }] of Object.entries(ERROR_CODES)) {
    assert.match(meaning, /^[A-Z].*\.$/u, code);
    assert.ok([1, 2, 69, 78].includes(exitCode), code);
  }
});
