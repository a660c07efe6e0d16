/** The files that packages install, below a prefix such as /usr or the root of a Python environment. */
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { Content, type Entry } from "./content.ts";
import { envoyLicenses, monocerosLicenses } from "./licenses.ts";
import { type Arch, distOf, OWN_ARCH, ROOT } from "./release.ts";

export interface Payload {
  readonly arch: Arch;
  readonly executable: Content;
  readonly libatomic: Content;
  readonly envoy: Content;
  /** Manual pages in section 1 by file name; empty if dist/man does not exist. */
  readonly manuals: readonly Entry[];
  readonly completions: Readonly<Record<Shell, Content>>;
  /** Licence texts by path, ours as LICENSE. */
  readonly licenses: readonly Entry[];
  readonly envoyLicenses: readonly Entry[];
}

export type Shell = "bash" | "zsh" | "fish";

/** Reads what `make build envoy` made, and what the executable of this machine prints. */
export async function readPayload(arch: Arch): Promise<Payload> {
  const dist = distOf(arch);
  const completion = (shell: Shell) =>
    new Content(execFileSync(join(distOf(OWN_ARCH), "monoceros"), ["completion", shell]));
  return {
    arch,
    executable: Content.read(join(dist, "monoceros")),
    libatomic: Content.read(join(dist, "libatomic.so.1")),
    envoy: Content.read(join(dist, "envoy")),
    manuals: readManuals(join(ROOT, "dist", "man")),
    completions: { bash: completion("bash"), zsh: completion("zsh"), fish: completion("fish") },
    licenses: await monocerosLicenses(),
    envoyLicenses: envoyLicenses(),
  };
}

function readManuals(directory: string): Entry[] {
  if (!existsSync(directory)) return [];
  const pages = readdirSync(directory).filter((name) => name.endsWith(".1"));
  return pages.sort().map((path) => ({ path, content: Content.read(join(directory, path)) }));
}

/** The executable, and its library where its run path leads. */
export function programFiles({ executable, libatomic }: Payload): Entry[] {
  return [
    { path: "bin/monoceros", mode: 0o755, content: executable },
    { path: "lib/monoceros/libatomic.so.1", content: libatomic },
  ];
}

/** Envoy where the executable looks first. */
export function envoyFiles({ envoy }: Payload): Entry[] {
  return [{ path: "lib/monoceros/envoy", mode: 0o755, content: envoy }];
}
