/** The block `logs` of a pool. */
import { block, key } from "../field.ts";
import { oneOf, size } from "../scalars.ts";

export const logs = block({
  mode: key("mode", oneOf(["annotate", "inherit"]), {
    change: "launch",
    default: "annotate",
    doc: "`annotate` adds the worker's id to each line; `inherit` passes the controller's stdout and stderr to workers, at no cost.",
  }),
  // The controller creates the records, so workers are not affected.
  maxLineBytes: key("max_line", size(1024, 64 * 1024 * 1024), {
    change: "policy",
    default: 1024 * 1024,
    doc: "Maximum length of a line. Longer lines are split into records that are marked as parts.",
  }),
  stderrLevel: key("stderr_level", oneOf(["debug", "info", "warn", "error", "fatal"]), {
    change: "policy",
    default: "info",
    doc: "Level of text lines on stderr that state none. The formats of common logging libraries are recognised.",
  }),
});
