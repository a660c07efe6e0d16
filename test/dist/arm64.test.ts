import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { test } from "node:test";
import { RELEASE, sh, VERSION } from "./installation.ts";

const TOOLS = resolve("node_modules/.tools/arm64");

test("programs of the arm64 tarballs start in an emulator", async (context) => {
  if (!existsSync(TOOLS)) {
    process.stderr.write("SKIPPED, packages for arm64 are not run: see scripts/arm64Tools.sh\n");
    return context.skip("there is no emulator");
  }
  await using directory = await mkdtempDisposable(join(tmpdir(), "monoceros-arm64-"));
  for (const name of ["monoceros", "monoceros-envoy"]) {
    const archive = `${RELEASE}/${name}-${VERSION}-linux-arm64.tar.gz`;
    sh("tar", ["-xzf", archive, "-C", directory.path, "--strip-components=1"]);
  }
  const run = (...command: string[]) => sh(`${TOOLS}/qemu`, ["-L", `${TOOLS}/root`, ...command]);
  const program = `${directory.path}/bin/monoceros`;
  assert.match(run(program, "version"), new RegExp(`^monoceros ${VERSION} `, "u"));
  // The code of the controller, which is in another bundle than that of its clients.
  assert.match(run(program, "run", "--help"), /^Usage: monoceros run/mu);
  assert.match(run(`${directory.path}/lib/monoceros/envoy`, "--version"), /version: /u);
});
