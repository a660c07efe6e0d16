/** Messages of sd_notify(3): what a worker reports about itself. Pure. */
import { printable } from "../../base/printable.ts";

/** The parts of a message that the controller acts on. A message may have several. */
export interface NotifyMessage {
  readonly isReady: boolean;
  readonly isStopping: boolean;
  /** `alive`: WATCHDOG=1. `failed`: WATCHDOG=trigger, the worker asks to be replaced. */
  readonly watchdog: "alive" | "failed" | undefined;
  /** Free text about the state, printable and bounded; empty clears it. */
  readonly status: string | undefined;
  /** EXTEND_TIMEOUT_USEC: the worker needs this much longer to start or to stop, from now on. */
  readonly extendMs: number | undefined;
}

/** Maximum length of a status in characters. */
const MAX_STATUS = 200;

/** Maximum extension: a day. A typing error in microseconds must not last forever. */
const MAX_EXTENSION_MS = 86_400_000;

const MICROSECONDS = /^\d{1,15}$/u;

/**
 * Parses a datagram: lines `NAME=value`. Unknown names are ignored, as sd_notify(3) requires; of a repeated name the last
 * line counts.
 */
export function parseNotifyMessage(text: string): NotifyMessage {
  const values = new Map<string, string>();
  for (const line of text.split("\n")) {
    const at = line.indexOf("=");
    if (at > 0) values.set(line.slice(0, at), line.slice(at + 1));
  }
  const watchdog = values.get("WATCHDOG");
  const extension = values.get("EXTEND_TIMEOUT_USEC") ?? "";
  return {
    isReady: values.get("READY") === "1",
    isStopping: values.get("STOPPING") === "1",
    watchdog: watchdog === "1" ? "alive" : watchdog === "trigger" ? "failed" : undefined,
    status: shorten(values.get("STATUS")),
    extendMs: MICROSECONDS.test(extension) ? Math.min(Number(extension) / 1000, MAX_EXTENSION_MS) : undefined,
  };
}

function shorten(status: string | undefined): string | undefined {
  if (status === undefined) return undefined;
  const text = printable(status.trim());
  return text.length > MAX_STATUS ? `${text.slice(0, MAX_STATUS - 1)}…` : text;
}
