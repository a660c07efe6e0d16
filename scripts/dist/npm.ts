/**
 * The npm packages. `monoceros` is a small script, and has the executable of each platform as an optional dependency; npm
 * installs the one that fits by `os`, `cpu` and `libc`, so no install script is needed. `@monoceros/envoy` brings Envoy in
 * the same way.
 */
import { join } from "node:path";
import { below, Content, type Entry, sorted } from "./content.ts";
import { type Payload, programFiles } from "./payload.ts";
import { ARCHITECTURES, type Arch, ENVOY_VERSION, ROOT, SUMMARY, VERSION } from "./release.ts";
import { gzip, tar } from "./tar.ts";

/** The version in which process.execve() appeared. */
const ENGINES = { node: ">=22.15" };

type Manifest = Readonly<Record<string, unknown>> & { readonly name: string; readonly license: string };
export type NamedFile = readonly [name: string, content: Buffer];

/** The packages that are the same for all platforms. */
export async function commonNpmPackages({ licenses, manuals }: Payload): Promise<NamedFile[]> {
  const shim = Content.read(join(ROOT, "packaging", "npm", "monoceros.cjs"));
  const own = licenses.filter(({ path }) => path === "LICENSE");
  const program = {
    name: "monoceros",
    description: SUMMARY,
    license: "Apache-2.0",
    bin: { monoceros: "bin/monoceros.cjs" },
    ...(manuals.length === 0 ? {} : { man: manuals.map(({ path }) => `man/${path}`) }),
    engines: ENGINES,
    optionalDependencies: forEachPlatform((platform) => `@monoceros/${platform}`),
  };
  const envoy = {
    name: "@monoceros/envoy",
    description: `Envoy ${ENVOY_VERSION} for monoceros`,
    license: "Apache-2.0",
    optionalDependencies: forEachPlatform((platform) => `@monoceros/envoy-${platform}`),
  };
  return Promise.all([
    pack(program, [...own, ...below("man", manuals), { path: "bin/monoceros.cjs", mode: 0o755, content: shim }]),
    pack(envoy, own),
  ]);
}

/** The packages with the binaries of one platform. */
export async function platformNpmPackages(payload: Payload): Promise<NamedFile[]> {
  const { arch } = payload;
  const platform = `linux-${arch}`;
  const limits = { os: ["linux"], cpu: [arch], libc: ["glibc"], preferUnplugged: true };
  const program = {
    name: `@monoceros/${platform}`,
    description: `The executable of monoceros for ${platform}`,
    license: "Apache-2.0 AND MIT AND ISC AND GPL-3.0-or-later WITH GCC-exception-3.1",
    ...limits,
  };
  const envoy = {
    name: `@monoceros/envoy-${platform}`,
    description: `Envoy ${ENVOY_VERSION} for monoceros, for ${platform}`,
    license: "Apache-2.0",
    ...limits,
  };
  return Promise.all([
    pack(program, [...programFiles(payload), ...payload.licenses]),
    pack(envoy, [...payload.envoyLicenses, { path: "bin/envoy", mode: 0o755, content: payload.envoy }]),
  ]);
}

function forEachPlatform(nameOf: (platform: string) => string): Record<string, string> {
  return Object.fromEntries(Object.keys(ARCHITECTURES).map((arch) => [nameOf(`linux-${arch as Arch}`), VERSION]));
}

/** As `npm pack` would name it. */
async function pack(manifest: Manifest, entries: readonly Entry[]): Promise<NamedFile> {
  const { name, ...rest } = manifest;
  const json = `${JSON.stringify({ name, version: VERSION, ...rest }, undefined, 2)}\n`;
  const files = sorted([
    ...entries,
    { path: "package.json", content: new Content(json) },
    { path: "README.md", content: readme(name) },
  ]);
  const content = await gzip(tar(below("package", files)));
  return [`${name.replace("@", "").replace("/", "-")}-${VERSION}.tgz`, content];
}

function readme(name: string): Content {
  if (name === "monoceros") return Content.read(join(ROOT, "packaging", "README.md"));
  return new Content(`# ${name}\n\nA part of the package monoceros.\n`);
}
