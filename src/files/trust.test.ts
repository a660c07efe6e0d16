import assert from "node:assert/strict";
import { test } from "node:test";
import { type FileKind, findDistrust, type PathStep, type Population } from "./trust.ts";

const ROOT = 0;
const US = 1000;
const APP = 10_001;
const ATTACKER = 10_002;

/** Any user may have processes. The attacker is a member of group 50; the group of a user has only that user. */
const MACHINE: Population = {
  users: "any",
  isMapped: () => true,
  membersOf: (gid) => (gid === 50 ? [APP, ATTACKER] : gid === 0 ? [] : [gid]),
};

/** A container in which only these users have processes. */
function container(...users: number[]): Population {
  return { ...MACHINE, users: new Set(users) };
}

function step(path: string, kind: FileKind, uid: number, mode: number, gid = uid): PathStep {
  return { path, kind, uid, gid, mode };
}

const TOP = step("/", "directory", ROOT, 0o755);
const TMP = step("/tmp", "directory", ROOT, 0o1777);

function reasonOf(steps: readonly PathStep[], owners: readonly number[], population = MACHINE): string | undefined {
  return findDistrust([TOP, ...steps], new Set(owners), population)?.reason;
}

test("a path that only root and the controller's user can change is trusted", () => {
  const file = step("/opt/envoy", "file", ROOT, 0o755);
  assert.equal(reasonOf([step("/opt", "directory", ROOT, 0o755), file], [ROOT, US]), undefined);
  assert.equal(reasonOf([step("/home/us", "directory", US, 0o700), { ...file, uid: US }], [ROOT, US]), undefined);
});

test("a path is not trusted if another user owns or may write to any of its components", () => {
  const steps = [
    step("/srv", "directory", ROOT, 0o755),
    step("/srv/bin", "directory", ROOT, 0o755),
    step("/srv/bin/envoy", "file", ROOT, 0o755),
  ];
  for (const [index, { path }] of steps.entries()) {
    const changed = (change: Partial<PathStep>) =>
      steps.map((each, at) => (at === index ? { ...each, ...change } : each));
    assert.match(
      reasonOf(changed({ uid: ATTACKER }), [ROOT, US]) ?? "",
      new RegExp(`user 10002 owns the .*"${path}"`, "u"),
    );
    assert.match(
      reasonOf(changed({ mode: 0o777 }), [ROOT, US]) ?? "",
      new RegExp(`every user may write.*"${path}"`, "u"),
    );
    const shared = reasonOf(changed({ mode: 0o775, gid: 50 }), [ROOT, US]);
    assert.match(shared ?? "", new RegExp(`user 10001 of group 50 may write.*"${path}"`, "u"));
    assert.equal(reasonOf(changed({ mode: 0o775, gid: US }), [ROOT, US]), undefined, "a group of our own");
    assert.equal(reasonOf(changed({ mode: 0o775, gid: 0 }), [ROOT, US]), undefined, "a group without members");
  }
});

test("in a sticky directory only the owner of the next component matters", () => {
  assert.equal(reasonOf([TMP, step("/tmp/m", "directory", US, 0o700)], [ROOT, US]), undefined);
  assert.match(reasonOf([TMP, step("/tmp/m", "directory", ATTACKER, 0o755)], [ROOT, US]) ?? "", /user 10002 owns/u);
  assert.match(
    reasonOf([TMP, step("/tmp/m", "symlink", ATTACKER, 0o777)], [ROOT, US]) ?? "",
    /symbolic link "\/tmp\/m"/u,
  );
  assert.equal(reasonOf([TMP], [ROOT, US]), undefined, "a directory to create a file in");
});

test("a trusted user's symbolic link is judged by its target, and a socket by its owner", () => {
  const link = step("/usr/bin/envoy", "symlink", ROOT, 0o777);
  assert.equal(reasonOf([link, step("/opt/envoy", "file", ROOT, 0o755)], [ROOT]), undefined);
  assert.match(reasonOf([link, step("/opt/envoy", "file", ROOT, 0o757)], [ROOT]) ?? "", /"\/opt\/envoy"/u);
  assert.equal(reasonOf([step("/run/c.sock", "socket", ROOT, 0o666)], [ROOT]), undefined);
  assert.match(reasonOf([step("/run/c.sock", "socket", ATTACKER, 0o600)], [ROOT]) ?? "", /owns the socket/u);
});

test("a program may belong to the user it runs as", () => {
  const venv = [step("/srv/venv", "directory", APP, 0o755), step("/srv/venv/py-spy", "file", APP, 0o755)];
  assert.match(reasonOf(venv, [ROOT, US]) ?? "", /user 10001 owns/u);
  assert.equal(reasonOf(venv, [ROOT, US, APP]), undefined);
});

test("in a container a world-writable directory is distrusted only if another user has processes there", () => {
  const emptyDir = [step("/run", "directory", ROOT, 0o777), step("/run/monoceros", "directory", APP, 0o711)];
  assert.equal(reasonOf(emptyDir, [ROOT, APP], container(APP)), undefined);
  assert.equal(reasonOf(emptyDir, [ROOT, APP], container(ROOT, APP)), undefined);
  assert.match(reasonOf(emptyDir, [ROOT], container(ROOT, APP)) ?? "", /every user may write/u);
  assert.match(reasonOf(emptyDir, [ROOT, APP]) ?? "", /every user may write/u);
  const image = [step("/app/envoy", "file", 1001, 0o755)];
  assert.equal(
    reasonOf(image, [ROOT, APP], container(APP)),
    undefined,
    "the image's files belong to a user without processes",
  );
});

test("an owner outside the user namespace is trusted because no process here can have that uid", () => {
  const rootless: Population = { ...MACHINE, isMapped: (uid) => uid < 10_000 };
  assert.equal(reasonOf([step("/usr/envoy", "file", 65_534, 0o755)], [ROOT], rootless), undefined);
  assert.match(reasonOf([step("/usr/envoy", "file", US, 0o755)], [ROOT], rootless) ?? "", /user 1000 owns/u);
});
