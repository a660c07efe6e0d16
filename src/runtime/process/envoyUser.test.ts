import assert from "node:assert/strict";
import { test } from "node:test";
import { ControllerError } from "../../base/errors.ts";
import { chooseEnvoyUser, decideEnvoyUser, type EnvoyUserRequest, type IdentityFacts } from "./envoyUser.ts";

const ALL = (1n << 41n) - 1n;
const without = (...numbers: readonly number[]) => numbers.reduce((set, number) => set & ~(1n << BigInt(number)), ALL);

const ROOT: IdentityFacts = { uid: 0, capabilities: ALL, isNamed: () => false, isMapped: () => true };

function decide(request: Partial<EnvoyUserRequest>, facts: Partial<IdentityFacts> = {}) {
  const full = { pool: "web", configured: undefined, workerUid: 1000, uids: new Set([1000]), ...request };
  return decideEnvoyUser(full, { ...ROOT, ...facts });
}

const idOf = (request: Partial<EnvoyUserRequest>, facts: Partial<IdentityFacts> = {}) =>
  decide(request, facts).credentials?.uid;

const other = { uid: 7, gid: 8, groups: [8, 9] };

test("under root, Envoy gets the first mapped id that no account and no pool uses", () => {
  assert.deepEqual(decide({}).credentials, { uid: 65_520, gid: 65_520, groups: [65_520], ambient: [10] });
  assert.equal(idOf({ uids: new Set([65_520]) }), 65_521);
  assert.equal(idOf({}, { isNamed: (id) => id < 65_523 }), 65_523);
  assert.equal(idOf({}, { isMapped: (id) => id === 65_533 }), 65_533);
  const none = decide({}, { isMapped: () => false });
  assert.equal(none.credentials, undefined);
  assert.match(none.warning ?? "", /runs as root: no id .* is free and mapped; set server\.user/u);
});

test("Envoy runs as root if its workers do, with a note, unless server.user names another user", () => {
  const { credentials, note, warning } = decide({ workerUid: 0 });
  assert.deepEqual([credentials, warning], [undefined, undefined]);
  assert.match(note ?? "", /"web" runs as root, because its workers do; set "user"/u);
  assert.deepEqual(decide({ workerUid: 0, configured: other }).credentials, { ...other, ambient: [10] });
  assert.deepEqual(decide({ configured: { uid: 0, gid: 0, groups: [0] } }), { credentials: undefined, mayLink: true });
});

test("root without a required capability runs Envoy as root with a warning, or refuses server.user", () => {
  for (const [number, name] of [
    [0, "CAP_CHOWN"],
    [1, "CAP_DAC_OVERRIDE"],
    [3, "CAP_FOWNER"],
    [5, "CAP_KILL"],
    [6, "CAP_SETGID"],
    [7, "CAP_SETUID"],
  ] as const) {
    const { credentials, warning, mayLink } = decide({}, { capabilities: without(number) });
    assert.deepEqual([credentials, mayLink], [undefined, false]);
    assert.equal(warning, `the proxy of pool "web" runs as root: the controller has no ${name}`);
    assert.throws(
      () => decide({ configured: other }, { capabilities: without(number) }),
      (error: unknown) => error instanceof ControllerError && error.message.endsWith(`has no ${name}`),
    );
  }
  assert.deepEqual(decide({}, { capabilities: without(10) }).credentials?.ambient, [], "it gives on what it has");
});

test("a controller that is not root runs Envoy as its own user and refuses another server.user", () => {
  assert.deepEqual(decide({}, { uid: 1000, capabilities: 0n }), { credentials: undefined, mayLink: false });
  const own = { uid: 1000, gid: 1000, groups: [1000] };
  assert.equal(idOf({ configured: own }, { uid: 1000, capabilities: 0n }), undefined);
  assert.throws(
    () => decide({ configured: other }, { uid: 1000, capabilities: 0n }),
    (error: unknown) =>
      error instanceof ControllerError &&
      error.code === "PERMISSION_REQUIRED" &&
      error.message.endsWith("as uid 7: the controller runs as uid 1000, expected root"),
  );
});

test("a server.user that workers share is used with a warning", () => {
  const { credentials, warning } = decide({ configured: { uid: 1000, gid: 1000, groups: [] } });
  assert.equal(credentials?.uid, 1000);
  assert.match(warning ?? "", /workers with uid 1000 may signal and trace the proxy of pool "web"/u);
});

test("an unknown server.user is refused", () => {
  const wish = { pool: "web", user: "nobody-has-this-name", file: "/bin/sh", workerUid: 0, uids: new Set<number>() };
  assert.throws(
    () => chooseEnvoyUser(wish),
    (error: unknown) => error instanceof ControllerError && error.code === "USER_NOT_FOUND",
  );
});
