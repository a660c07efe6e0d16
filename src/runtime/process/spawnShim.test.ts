import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeReports, encodeSettings } from "./spawnShim.ts";

test("settings drop privileges last: priorities and limits first, then groups, then the user", () => {
  const text = encodeSettings(
    {
      credentials: { uid: 10, gid: 20, groups: [20, 30] },
      umask: 0o027,
      rlimits: new Map([
        ["nofile", { soft: 300, hard: undefined }],
        ["core", { soft: 0, hard: "unlimited" }],
      ]),
      nice: -5,
      oomScoreAdj: { value: 500, isRelative: true },
      hasListenPid: true,
      diesWithController: true,
    },
    7,
  );
  assert.equal(text, "n-5;O500;m23;p;l7,300,;l4,0,18446744073709551615;G20,30;g20;u10;d7;");
});

test("ambient capabilities are set before the ids change", () => {
  const credentials = { uid: 10, gid: 20, groups: [20], ambient: [10, 5] };
  assert.equal(encodeSettings({ credentials }, 7), "a10,5;G20;g20;u10;");
  assert.equal(encodeSettings({ credentials: { ...credentials, ambient: [] } }, 7), "G20;g20;u10;");
});

test("a process without settings needs no shim", () => {
  const settings = { credentials: undefined, rlimits: new Map(), hasListenPid: false, diesWithController: false };
  assert.equal(encodeSettings(settings, 7), "");
});

test("an absolute oom_score_adj, no groups and user 0 are settings too", () => {
  const settings = { credentials: { uid: 0, gid: 0, groups: [] }, oomScoreAdj: { value: 0, isRelative: false } };
  assert.equal(encodeSettings(settings, 7), "o0;G;g0;u0;");
});

test("reports name the setting in the configuration's terms, or the failed system call", () => {
  const record = (letter: string, resource: number, errno: number) => {
    const bytes = Buffer.alloc(8);
    bytes.write(letter, 0, "latin1");
    bytes.writeUInt8(resource, 1);
    bytes.writeInt32LE(errno, 4);
    return bytes;
  };
  assert.deepEqual(
    decodeReports(Buffer.concat([record("l", 7, 1), record("o", 0, 13), record("x", 0, 2), Buffer.alloc(3)])),
    [
      { isFatal: false, what: "rlimit nofile", errno: 1 },
      { isFatal: false, what: "oom_score_adj", errno: 13 },
      { isFatal: true, what: "execve", errno: 2 },
    ],
  );
});
