/**
 * The standard streams as commands see them. They are opened at the first write: `run` writes by its own means and shall
 * not pay for them. Writing waits until the system has the bytes; a reader that is gone is the caller's decision.
 */
import { isatty } from "node:tty";
import { printableLines } from "../../base/printable.ts";
import { openScreen, type Screen } from "./screen.ts";

export type StreamName = "stdout" | "stderr";

/** Where a command prints. */
export interface Terminal {
  /**
   * Writes lines of `text`, unprintable characters as their escapes; resolves when nothing of it is left in this process,
   * also where it cannot be written.
   */
  write(stream: StreamName, text: string): Promise<void>;
  /** The same for text that was made printable and then got colours and other sequences of ours. */
  writePainted(stream: StreamName, text: string): Promise<void>;
  /** Whether stdout shows colours. */
  readonly hasColours: boolean;
  /** Whether stdout is a screen on which text can be replaced. */
  readonly isInteractive: boolean;
  /** Calls `listener` at Ctrl-C, which then does not end the process, until disposed. */
  onInterrupt(listener: () => void): Disposable;
  /** Takes the whole terminal; undefined where there is none, as in a pipe. */
  openScreen(): Screen | undefined;
}

/** The terminal of this process. `onBroken` is told when stdout cannot be written to (EPIPE: its reader is gone). */
export function processTerminal(
  env: Readonly<Record<string, string | undefined>>,
  onBroken: (error: NodeJS.ErrnoException) => void,
): Terminal {
  const opened = new Set<StreamName>();
  // Looked up once: a table asks for each of its rows.
  let hasColours: boolean | undefined;
  function writePainted(name: StreamName, text: string): Promise<void> {
    const stream = process[name];
    if (!opened.has(name)) {
      opened.add(name);
      // If stderr is closed, there is no reader to report it to.
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
