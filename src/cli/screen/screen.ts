/**
 * The whole terminal for a command that shows something over and over: on the alternate screen, so that what was there
 * comes back afterwards, and drawn over without clearing, so that nothing flickers. Escape sequences: console_codes(4),
 * and xterm's for the alternate screen (1049) and for no wrapping of long lines (7).
 */
import { writeSync } from "node:fs";
import { isatty, ReadStream } from "node:tty";

const ENTER = "\u001b[?1049h\u001b[?25l\u001b[?7l";
const LEAVE = "\u001b[?7h\u001b[?25h\u001b[?1049l";
const HOME = "\u001b[H";
const END_OF_LINE = "\u001b[K";
const END_OF_SCREEN = "\u001b[J";

const ENDING_KEYS: ReadonlySet<string> = new Set(["q", "Q", "\u0003", "\u0004", "\u001b"]);

/** Where nobody knows better. */
const USUAL_LINES = 24;

/** The screen, until it is disposed. */
export interface Screen extends Disposable {
  /** Lines that fit. */
  readonly lines: number;
  /** Calls back with each key that is pressed and does not end it; one listener at a time. */
  onKey(listener: (key: string) => void): void;
  /** Aborted when the user wants no more: q, Escape, Ctrl-C, Ctrl-D, a signal, or a terminal that is gone. */
  readonly ended: AbortSignal;
  /** Shows these lines and nothing else; longer ones than fit are cut. */
  draw(lines: readonly string[]): void;
}

/** The frame that shows `lines` over whatever was drawn before. */
export function frameOf(lines: readonly string[]): string {
  return HOME + lines.map((line) => line + END_OF_LINE).join("\r\n") + END_OF_SCREEN;
}

/** Takes the terminal of this process; undefined where stdin or stdout is none. */
export function openScreen(env: Readonly<Record<string, string | undefined>>): Screen | undefined {
  if (!isatty(0) || !isatty(1) || env["TERM"] === "dumb") return undefined;
  const input = new ReadStream(0);
  const end = new AbortController();
  const close = () => end.abort();
  let listener: (key: string) => void = () => {};
  const onKeys = (keys: Buffer) => {
    const text = keys.toString("latin1");
    if (ENDING_KEYS.has(text) || [...text].some((key) => key !== "\u001b" && ENDING_KEYS.has(key))) close();
    // A sequence such as that of an arrow is no letter.
    else if (!text.startsWith("\u001b")) for (const key of text) listener(key);
  };
  input.setRawMode(true);
  input.on("data", onKeys).on("end", close).on("error", close);
  const signals = ["SIGINT", "SIGTERM", "SIGHUP"] as const;
  for (const signal of signals) process.on(signal, close);
  write(ENTER);
  return {
    get lines() {
      // 0 is a terminal that was never told its size.
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
        // The terminal is gone.
      }
      input.destroy();
    },
  };
}

/** At once and as a whole: half a frame would flicker. A terminal that is gone ends the command by its signal. */
function write(text: string): void {
  try {
    writeSync(1, text);
  } catch {
    // EIO, EPIPE, or EAGAIN of a terminal that nobody reads: the next frame comes soon.
  }
}
