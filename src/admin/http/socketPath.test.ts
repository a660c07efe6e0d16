import assert from "node:assert/strict";
import { test } from "node:test";
import { defaultSocketCandidates } from "./socketPath.ts";

const USUAL = ["/run/monoceros/monoceros.sock", "/tmp/monoceros-7/monoceros.sock"];

test("without environment variables the socket is in /run or in the user's temporary directory", () => {
  assert.deepEqual(defaultSocketCandidates({}, 7, "/tmp"), USUAL);
  assert.deepEqual(defaultSocketCandidates({ MONOCEROS_SOCKET: "", XDG_RUNTIME_DIR: "" }, 7, "/tmp"), USUAL);
});

test("the user's runtime directory comes first, unless it is relative", () => {
  assert.deepEqual(defaultSocketCandidates({ XDG_RUNTIME_DIR: "/run/user/7" }, 7, "/tmp"), [
    "/run/user/7/monoceros/monoceros.sock",
    ...USUAL,
  ]);
  assert.deepEqual(defaultSocketCandidates({ XDG_RUNTIME_DIR: "run" }, 7, "/tmp"), USUAL);
});

test("MONOCEROS_SOCKET overrides all other paths", () => {
  const env = { MONOCEROS_SOCKET: "/a.sock", XDG_RUNTIME_DIR: "/run/user/7" };
  assert.deepEqual(defaultSocketCandidates(env, 7, "/tmp"), ["/a.sock"]);
});
