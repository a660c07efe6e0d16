/**
 * Preloaded into a controller by turns.ts: writes each turn of the event loop that takes long to the file TURNS_FILE, as
 * `<milliseconds since 1970> <milliseconds of thread CPU>`. A turn is what runs between two calls of setImmediate.
 */
import { appendFileSync } from "node:fs";

/** Turns below this are not written. */
const LEAST_MS = 5;

const file = process.env["TURNS_FILE"];
let last = cpuMs();

function cpuMs() {
  const { user, system } = process.threadCpuUsage();
  return (user + system) / 1000;
}

function turn() {
  const now = cpuMs();
  const tookMs = now - last;
  // What the file costs belongs to no turn.
  if (tookMs >= LEAST_MS) appendFileSync(file, `${Date.now()} ${tookMs}\n`);
  last = tookMs >= LEAST_MS ? cpuMs() : now;
  setImmediate(turn).unref();
}

if (file !== undefined) setImmediate(turn).unref();
