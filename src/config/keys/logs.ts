/** The block `logs` of a pool. */
import { block, key } from "../field.ts";
import { boolean, integer, oneOf, path, size, sizeOr } from "../scalars.ts";

/** Highest number of a rotated file; longer numbers are dates of logrotate. */
const MAX_KEPT_FILES = 999;

const file = block({
  path: key("path", path, {
    change: "policy",
    required: true,
    doc: "Path of the file, relative to the controller's working directory. The controller opens it as its own user, with mode 0640 less its umask. The directory must exist, and no other user may control it.",
  }),
  maxBytes: key("max_size", sizeOr("unlimited", 65_536), {
    change: "policy",
    default: 100 * 1024 * 1024,
    doc: "Size at which the file is rotated, always between two records; `unlimited` leaves it to logrotate.",
  }),
  keep: key("keep", integer(0, MAX_KEPT_FILES), {
    change: "policy",
    default: 5,
    doc: "Number of rotated files to keep, `<path>.1` (the newest) to `<path>.<keep>`.",
  }),
  compress: key("compress", oneOf(["none", "gzip"]), {
    change: "policy",
    default: "none",
    doc: "`gzip` compresses rotated files in the background, with a fifth of one CPU; their names end with `.gz`.",
  }),
  isOnly: key("only", boolean, {
    change: "policy",
    default: false,
    doc: "Whether lines go only to the file, and not also to the controller's stdout and stderr.",
  }),
  onError: key("on_error", oneOf(["discard", "block"]), {
    change: "policy",
    default: "discard",
    doc: "What happens while the file cannot be written, on a full disk for example. `discard`: workers that write wait for up to 10 seconds, then lines are discarded and counted. `block`: they wait until the file can be written.",
  }),
});

export const logs = block(
  {
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
    file: key("file", file, {
      change: "policy",
      doc: "File that receives all lines of the pool's workers ([operation.md](operation.md#log-files)).",
    }),
  },
  {
    check: ({ mode }, context) => {
      if (mode === "inherit" && context.has("file"))
        context.problem(
          "file",
          "requires logs.mode annotate, because with inherit the controller does not see the lines",
        );
    },
  },
);
