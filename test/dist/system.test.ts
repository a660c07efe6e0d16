import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, globSync, mkdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { RELEASE, runIn, sh, VERSION } from "./installation.ts";
import { rootTest } from "./roots.ts";
import { smoke } from "./smoke.ts";

/** What a deb or rpm must install besides the program. */
const FILES = [
  "etc/monoceros/monoceros.yaml.example",
  "usr/lib/systemd/system/monoceros.service",
  "usr/share/bash-completion/completions/monoceros",
  "usr/share/fish/vendor_completions.d/monoceros.fish",
];

rootTest("debs install on a minimal Debian, serve through Envoy, and are upgraded under load", async (root) => {
  const debs = globSync(`${RELEASE}/*_amd64.deb`);
  mkdirSync(join(root, "opt/debs"));
  for (const deb of debs) cpSync(deb, join(root, "opt/debs", basename(deb)));
  const installation = { root, program: "/usr/bin/monoceros", hasEnvoy: true };
  const dpkg = (...args: string[]) => {
    const { code, stdout, stderr } = runIn(installation, join(root, "opt/debs"), ["dpkg", ...args]);
    assert.equal(code, 0, stdout + stderr);
  };
  const files = debs.map((deb) => `/opt/debs/${basename(deb)}`);
  dpkg("-i", ...files);
  for (const file of [...FILES, "usr/share/zsh/vendor-completions/_monoceros"])
    assert.ok(existsSync(join(root, file)), file);
  const copyright = (name: string) => readFileSync(join(root, "usr/share/doc", name, "copyright"), "utf8");
  assert.match(copyright("monoceros"), /GCC RUNTIME LIBRARY EXCEPTION/u);
  assert.match(copyright("monoceros-envoy"), /Envoy Project Authors/u);

  // The same version again: dpkg replaces all files and runs the scripts of an upgrade.
  await smoke(installation, async (controller) => {
    await controller.run(["dpkg", "-i", ...files]);
  });
  dpkg("--purge", "monoceros", "monoceros-envoy");
  assert.deepEqual(globSync(`${root}/usr/{bin,lib,share}/monoceros*`), []);
});

rootTest("rpms install without libatomic, serve through Envoy, and are upgraded under load", async (root, context) => {
  if (spawnSync("rpm", ["--version"]).status !== 0) return context.skip("rpm is missing, see scripts/distTools.sh");
  const rpms = globSync(`${RELEASE}/*.x86_64.rpm`);
  // The root has Debian's libraries, which the database of rpm does not know.
  const flags = ["--root", root, "--force-debian"];
  sh("rpm", [...flags, "--nodeps", "-i", ...rpms]);
  for (const file of [
    ...FILES,
    "usr/share/zsh/site-functions/_monoceros",
    "usr/share/licenses/monoceros/licenses/node.txt",
  ])
    assert.ok(existsSync(join(root, file)), file);
  assert.equal(sh("rpm", [...flags, "-q", "monoceros"]).trim(), `monoceros-${VERSION}-1.x86_64`);
  await smoke({ root, program: "/usr/bin/monoceros", hasEnvoy: true }, async () => {
    sh("rpm", [...flags, "--nodeps", "--force", "-U", ...rpms]);
  });
  sh("rpm", [...flags, "-e", "monoceros", "monoceros-envoy"]);
  assert.deepEqual(globSync(`${root}/usr/{bin,lib}/monoceros*`), []);
});

rootTest("tarballs of program and Envoy work after unpacking, without libatomic", async (root) => {
  for (const file of globSync(`${RELEASE}/*-linux-x64.tar.gz`))
    sh("tar", ["-xzf", file, "-C", join(root, "usr/local"), "--strip-components=1"]);
  assert.match(readFileSync(join(root, "usr/local/share/doc/monoceros/monoceros.service"), "utf8"), /^\[Unit\]$/mu);
  await smoke({ root, program: "/usr/local/bin/monoceros", hasEnvoy: true });
});
