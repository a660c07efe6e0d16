/**
 * The standard streams for commands. They are opened on the first write, because `run` has its own writer and should
 * not pay for them. Each write waits until the system has the bytes. The caller handles a closed reader.
 */
import { isatty } from "node:tty";
import { printableLines } from "../../base/printable.ts";
import { openScreen, type Screen } from "./screen.ts";

export type StreamName = "stdout" | "stderr";

/** Where a command prints. */
export interface Terminal {
  /**
   * Writes lines of `text` with unprintable characters escaped. Resolves when none of it is buffered in this process,
   * even if the write failed.
   */
  write(stream: StreamName, text: string): Promise<void>;
  /** The same for text that is already printable and contains our own colour and control sequences. */
  writePainted(stream: StreamName, text: string): Promise<void>;
  /** Whether to colour stdout. */
  readonly hasColours: boolean;
  /** Whether stdout is a terminal on which text can be replaced. */
  readonly isInteractive: boolean;
  /** Calls `listener` on Ctrl-C instead of ending the process, until disposed. */
  onInterrupt(listener: () => void): Disposable;
  /** Takes control of the whole terminal; undefined if there is none, for example in a pipe. */
  openScreen(): Screen | undefined;
}

/** The terminal of this process. Calls `onBroken` when writing to stdout fails (EPIPE: its reader closed it). */
export function processTerminal(
  env: Readonly<Record<string, string | undefined>>,
  onBroken: (error: NodeJS.ErrnoException) => void,
): Terminal {
  const opened = new Set<StreamName>();
  // Cached, because a table reads it for each row.
  let hasColours: boolean | undefined;
  function writePainted(name: StreamName, text: string): Promise<void> {
    const stream = process[name];
    if (!opened.has(name)) {
      opened.add(name);
      // A failure of stderr cannot be reported anywhere.
      stream.on("error", name === "stdout" ? onBroken : () => {});
    }
    return new Promise((resolve) => stream.write(text, () => resolve()));
  }
  return {
    write: (name, text) => writePainted(name, printableLines(text)),
    writePainted,
    onInterrupt(listener) {
      process.on("SIGINT", listener);
      return { [Symbol.dispose]: () => process.off("SIGINT", listener) };
    },
    openScreen: () => openScreen(env),
    get isInteractive() {
      return isatty(1) && env["TERM"] !== "dumb";
    },
    get hasColours() {
      hasColours ??= (env["NO_COLOR"] ?? "") === "" && env["TERM"] !== "dumb" && isatty(1);
      return hasColours;
    },
  };
}
