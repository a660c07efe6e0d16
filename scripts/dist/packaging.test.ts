import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync, globSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { parseConfig } from "../../src/config/load.ts";
import { ENVOY_VERSION, MANIFEST, NODE_VERSION } from "./release.ts";
import { pythonVersion } from "./wheel.ts";

test("versions of package.json are written as Python writes them", () => {
  assert.equal(pythonVersion("1.20.3"), "1.20.3");
  assert.equal(pythonVersion("1.2.0-rc.3"), "1.2.0rc3");
  assert.equal(pythonVersion("1.2.0-beta.1"), "1.2.0b1");
  assert.throws(() => pythonVersion("1.2.0-next"), /Python has no version like 1\.2\.0-next/u);
});

test("the versions of Node.js and Envoy come from where they are pinned", () => {
  assert.equal(NODE_VERSION, MANIFEST.devDependencies["node"]);
  assert.match(ENVOY_VERSION, /^\d+\.\d+\.\d+$/u);
  assert.match(readFileSync("scripts/foreignRuntime.sh", "utf8"), new RegExp(`^version=${NODE_VERSION}$`, "mu"));
});

test("the example configuration of the packages is valid", () => {
  const file = "packaging/etc/monoceros.yaml.example";
  const parsed = parseConfig(readFileSync(file, "utf8"), file, {});
  assert.ok(parsed.ok, JSON.stringify(parsed));
});

test("scripts of packages start nothing, and succeed without systemd", () => {
  for (const file of globSync("packaging/scripts/*.sh")) {
    assert.doesNotMatch(readFileSync(file, "utf8"), /^ *systemctl .*\b(?:re|try-re)?(?:start|enable)\b/mu, file);
    // The scripts do nothing more where systemd does not run.
    if (existsSync("/run/systemd/system")) continue;
    for (const argument of ["remove", "upgrade", "configure", "0", "1"])
      assert.equal(spawnSync("sh", [file, argument]).status, 0, `${file} ${argument}`);
  }
});
