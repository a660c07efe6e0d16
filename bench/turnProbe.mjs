/**
 * Preloaded into a controller by turns.ts. Appends each long turn of the event loop to the file TURNS_FILE, as
 * `<milliseconds since 1970> <milliseconds of thread CPU>`. A turn is the time between two callbacks of setImmediate.
 */
import { appendFileSync } from "node:fs";

/** Shorter turns are not written. */
const MIN_MS = 5;

const file = process.env["TURNS_FILE"];
let last = cpuMs();

function cpuMs() {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

function turn() {
  const now = cpuMs();
  const tookMs = now - last;
  // The time for writing the file is not part of a turn.
  if (tookMs >= MIN_MS) appendFileSync(file, `${Date.now()} ${tookMs}\n`);
  last = tookMs >= MIN_MS ? cpuMs() : now;
  setImmediate(turn).unref();
}

if (file !== undefined) setImmediate(turn).unref();
