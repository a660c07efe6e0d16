/** Ways to be a bad process: deadlock, endless loop, work that blocks, growing memory. */

/** Blocks the main thread for good without using CPU, as a deadlock does. Signals are not handled any more. */
export function hang(): never {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  throw new Error("woken although nobody can");
}

/** Blocks the main thread for good with an endless loop. */
export function spin(): never {
  for (;;);
}

/**
 * Blocks the main thread for `ms` milliseconds, as a server does that waits for its database before it takes the next
 * request. It uses no CPU, so that many such workers can be told apart from too few processors.
 */
export function block(ms: number): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, ms);
}

const KEPT: Buffer[] = [];

/** Keeps `bytes` more memory (touched, so resident). */
export function grow(bytes: number): void {
  KEPT.push(Buffer.alloc(bytes, 1));
}

/** Keeps `bytesPerSecond` more memory (touched, so resident) every second. */
export function startLeak(bytesPerSecond: number): void {
  setInterval(() => grow(Math.ceil(bytesPerSecond / 10)), 100);
}
