/** Archives to unpack anywhere, for example with `tar -xzf FILE -C /usr/local --strip-components=1`. */
import { join } from "node:path";
import { below, Content, sorted } from "./content.ts";
import type { NamedFile } from "./npm.ts";
import { envoyFiles, type Payload, programFiles } from "./payload.ts";
import { ROOT, VERSION } from "./release.ts";
import { sharedFiles } from "./shared.ts";
import { gzip, tar } from "./tar.ts";

/** The archive of the program, and one that adds Envoy to the same directory. */
export function tarballs(payload: Payload): Promise<NamedFile[]> {
  const documents = "share/doc/monoceros";
  const program = [
    ...programFiles(payload),
    ...sharedFiles(payload),
    ...below(documents, payload.licenses),
    { path: `${documents}/README.md`, content: Content.read(join(ROOT, "packaging", "README.md")) },
    {
      path: `${documents}/monoceros.service`,
      content: Content.read(join(ROOT, "packaging", "systemd", "monoceros.service")),
    },
  ];
  const envoy = [...envoyFiles(payload), ...below("share/doc/monoceros-envoy", payload.envoyLicenses)];
  return Promise.all(
    [["monoceros", program] as const, ["monoceros-envoy", envoy] as const].map(async ([name, files]) => {
      const directory = `${name}-${VERSION}-linux-${payload.arch}`;
      return [`${directory}.tar.gz`, await gzip(tar(sorted(below(directory, files))))] as const;
    }),
  );
}
