/** `monoceros version`: prints the version of this build. */

import { REVISION, VERSION } from "../../base/version.ts";
import type { Command } from "../command.ts";

export const version: Command = {
  name: "version",
  summary: "Print the version of Monoceros and of its Node.js runtime",
  flags: {},
  arguments: [],
  examples: [{ command: "monoceros version --json", doc: "Print it as JSON" }],
  async run({ terminal, isSet }) {
    const node = process.versions.node;
    const text = isSet("json")
      ? JSON.stringify({ version: VERSION, revision: REVISION, node })
      : `monoceros ${VERSION} (revision ${REVISION}, Node.js ${node})`;
    await terminal.write("stdout", `${text}\n`);
    return 0;
  },
};
