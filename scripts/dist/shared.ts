/** Files beside the programs in packages for a whole system: manual pages and completions. */
import { gzipSync } from "node:zlib";
import { Content, type Entry } from "./content.ts";
import type { Payload } from "./payload.ts";

/** `zshDirectory` differs between distributions. Paths are relative to a prefix such as /usr. */
export function sharedFiles(payload: Payload, zshDirectory = "share/zsh/site-functions"): Entry[] {
  const { bash, zsh, fish } = payload.completions;
  return [
    { path: "share/bash-completion/completions/monoceros", content: bash },
    { path: `${zshDirectory}/_monoceros`, content: zsh },
    { path: "share/fish/vendor_completions.d/monoceros.fish", content: fish },
    ...payload.manuals.map(({ path, content }) => ({
      path: `share/man/man1/${path}.gz`,
      content: new Content(withoutOrigin(gzipSync(content.bytes, { level: 9 }))),
    })),
  ];
}

/** Names no operating system in the header, so that the bytes do not depend on the machine. */
function withoutOrigin(bytes: Buffer): Buffer {
  bytes[9] = 3;
  return bytes;
}
