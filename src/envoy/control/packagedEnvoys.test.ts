import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { packagedEnvoys } from "./packagedEnvoys.ts";

const prefix = mkdtempSync(join(tmpdir(), "monoceros-packaged-"));
after(() => rmSync(prefix, { recursive: true }));

test("Envoy of a package is expected beside the library of the executable", () => {
  assert.deepEqual(packagedEnvoys("/usr/bin", "x64").slice(0, 1), ["/usr/lib/monoceros/envoy"]);
});

test("Envoy of a Python environment is expected in the packages of each interpreter, newest first", () => {
  for (const directory of ["lib/python3.9", "lib/python3.14", "lib/python2.7", "lib/pythonX", "lib64/python3.14"])
    mkdirSync(join(prefix, directory), { recursive: true });
  const envoy = "envoy/_bin/envoy";
  assert.deepEqual(
    packagedEnvoys(join(prefix, "bin"), "x64").slice(1),
    [
      `lib/python3.14/site-packages/${envoy}`,
      `lib/python3.14/dist-packages/${envoy}`,
      `lib/python3.9/site-packages/${envoy}`,
      `lib/python3.9/dist-packages/${envoy}`,
      `lib64/python3.14/site-packages/${envoy}`,
      `lib64/python3.14/dist-packages/${envoy}`,
    ].map((path) => join(prefix, path)),
  );
  // Only the directory of an environment's programs has one beside it.
  assert.equal(packagedEnvoys(join(prefix, "dist"), "x64").length, 1);
});

test("Envoy of a Node.js project is expected where Node.js would look for the package", () => {
  const envoy = "node_modules/@monoceros/envoy-linux-arm64/bin/envoy";
  assert.deepEqual(packagedEnvoys("/app/node_modules/@monoceros/linux-arm64/bin", "arm64").slice(1), [
    `/app/node_modules/@monoceros/linux-arm64/bin/${envoy}`,
    `/app/node_modules/@monoceros/linux-arm64/${envoy}`,
    `/app/node_modules/@monoceros/${envoy}`,
    `/app/${envoy}`,
  ]);
  const store = "/app/node_modules/.pnpm/@monoceros+linux-arm64@1.0.0/node_modules/@monoceros/linux-arm64/bin";
  assert.ok(packagedEnvoys(store, "arm64").includes(`/app/node_modules/.pnpm/${envoy}`), "pnpm hoists packages there");
  assert.deepEqual(packagedEnvoys("/opt/monoceros/bin", "arm64").slice(1), []);
});
