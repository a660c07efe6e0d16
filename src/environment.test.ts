import assert from "node:assert/strict";
import { test } from "node:test";
import { decideEnvironment } from "./environment.ts";

/** The environment after a restart and the removals, and what the program sees. */
function settle(env: Readonly<Record<string, string>>, hasChannel = false) {
  let own: Readonly<Record<string, string | undefined>> = env;
  let decision = decideEnvironment(own, hasChannel, true);
  const isRestarted = decision.kind === "restart";
  if (decision.kind === "restart") {
    own = decision.env;
    decision = decideEnvironment(own, false, true);
  }
  assert.ok(decision.kind === "run", "no second restart");
  const { remove, env: seen } = decision;
  return { isRestarted, own: Object.fromEntries(Object.entries(own).filter(([name]) => !remove.includes(name))), seen };
}

test("an ordinary environment needs no restart and stays unchanged", () => {
  const env = { PATH: "/bin", NODE_ENV: "production", NODE_OPTIONS: "--inspect", NODE_EXTRA_CA_CERTS: "/ca.pem" };
  assert.deepEqual(settle(env), { isRestarted: false, own: env, seen: env });
});

test("variables that the runtime reads at its start are removed by a restart, and remain visible to the program", () => {
  for (const name of ["NODE_UNIQUE_ID", "NODE_V8_COVERAGE", "NODE_DEBUG", "NODE_DEBUG_NATIVE", "NODE_COMPILE_CACHE"]) {
    const env = { PATH: "/bin", [name]: 'a "value"', UV_THREADPOOL_SIZE: "1" };
    assert.deepEqual(settle(env), { isRestarted: true, own: { PATH: "/bin" }, seen: env }, name);
  }
});

test("variables that libuv reads later are removed without a restart, and remain visible to the program", () => {
  const env = { PATH: "/bin", UV_THREADPOOL_SIZE: "1", UV_USE_IO_URING: "1" };
  assert.deepEqual(settle(env), { isRestarted: false, own: { PATH: "/bin" }, seen: env });
});

test("a restart closes the channel of a Node.js parent", () => {
  assert.deepEqual(settle({ PATH: "/bin" }, true), {
    isRestarted: true,
    own: { PATH: "/bin" },
    seen: { PATH: "/bin" },
  });
});

test("a carrier variable from another program is harmless and is not passed on", () => {
  for (const text of ["", "{", "7", "null", '["x"]', '{"A": 1}']) {
    const { isRestarted, own, seen } = settle({ NODE_DEBUG: "net", MONOCEROS_ENVIRONMENT: text });
    assert.deepEqual(
      [isRestarted, "MONOCEROS_ENVIRONMENT" in own, "MONOCEROS_ENVIRONMENT" in seen],
      [false, false, false],
    );
  }
});

test("without an executable of its own it runs on", () => {
  const decision = decideEnvironment({ NODE_DEBUG: "net" }, false, false);
  assert.equal(decision.kind, "run");
});
