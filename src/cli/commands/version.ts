/** `monoceros version`: prints the version of this build. */

import { REVISION, VERSION } from "../../base/version.ts";
import type { Command } from "../command.ts";

export const version: Command = {
  name: "version",
  summary: "Print the version of this program and of the runtime inside it",
  flags: {},
  arguments: [],
  examples: [{ command: "monoceros version --json", doc: "As JSON, for scripts" }],
  async run({ terminal, isSet }) {
    const node = process.versions.node;
    const text = isSet("json")
      ? JSON.stringify({ version: VERSION, revision: REVISION, node })
      : `monoceros ${VERSION} (revision ${REVISION}, Node.js ${node})`;
    await terminal.write("stdout", `${text}\n`);
    return 0;
  },
};
