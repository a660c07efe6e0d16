/**
 * Full-screen output for commands that refresh continuously. It uses the alternate screen, so that the previous content
 * comes back afterwards, and overwrites without clearing, which avoids flicker. Escape sequences: console_codes(4), and
 * those of xterm for the alternate screen (1049) and for disabling line wrap (7).
 */
import { writeSync } from "node:fs";
import { isatty, ReadStream } from "node:tty";

const ENTER = "\u001b[?1049h\u001b[?25l\u001b[?7l";
const LEAVE = "\u001b[?7h\u001b[?25h\u001b[?1049l";
const HOME = "\u001b[H";
const END_OF_LINE = "\u001b[K";
const END_OF_SCREEN = "\u001b[J";

const ENDING_KEYS: ReadonlySet<string> = new Set(["q", "Q", "\u0003", "\u0004", "\u001b"]);

/** Used if the terminal does not report its size. */
const USUAL_LINES = 24;

/** The screen, active until disposed. */
export interface Screen extends Disposable {
  /** Number of lines that fit. */
  readonly lines: number;
  /** Calls `listener` for each key that does not end the screen; one listener at a time. */
  onKey(listener: (key: string) => void): void;
  /** Aborted on q, Escape, Ctrl-C, Ctrl-D, a signal, or when the terminal closes. */
  readonly ended: AbortSignal;
  /** Replaces the content with these lines; lines that are too long are cut off. */
  draw(lines: readonly string[]): void;
}

/** The frame that overwrites the previous one with `lines`. */
export function frameOf(lines: readonly string[]): string {
  return HOME + lines.map((line) => line + END_OF_LINE).join("\r\n") + END_OF_SCREEN;
}

/** Takes control of this process's terminal; undefined if stdin or stdout is not a terminal. */
export function openScreen(env: Readonly<Record<string, string | undefined>>): Screen | undefined {
  if (!isatty(0) || !isatty(1) || env["TERM"] === "dumb") return undefined;
  const input = new ReadStream(0);
  const end = new AbortController();
  const close = () => end.abort();
  let listener: (key: string) => void = () => {};
  const onKeys = (keys: Buffer) => {
    const text = keys.toString("latin1");
    if (ENDING_KEYS.has(text) || [...text].some((key) => key !== "\u001b" && ENDING_KEYS.has(key))) close();
    // Ignore escape sequences, such as those of the arrow keys.
    else if (!text.startsWith("\u001b")) for (const key of text) listener(key);
  };
  input.setRawMode(true);
  input.on("data", onKeys).on("end", close).on("error", close);
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, close);
  write(ENTER);
  return {
    get lines() {
      // The kernel reports 0 if the terminal's size was never set.
      const { rows } = process.stdout;
      return rows === undefined || rows === 0 ? USUAL_LINES : rows;
    },
    ended: end.signal,
    onKey: (added) => {
      listener = added;
    },
    draw: (lines) => write(frameOf(lines)),
    [Symbol.dispose]: () => {
      for (const signal of signals) process.off(signal, close);
      write(LEAVE);
      try {
        input.setRawMode(false);
      } catch {
        // The terminal is closed.
      }
      input.destroy();
    },
  };
}

/** Writes synchronously and in one piece to avoid flicker. If the terminal closes, a signal ends the command. */
function write(text: string): void {
  try {
    writeSync(1, text);
  } catch {
    // EIO, EPIPE, or EAGAIN because the terminal is not being read: skip this frame, the next one follows soon.
  }
}
