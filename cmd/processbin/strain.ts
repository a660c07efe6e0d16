/** Misbehaviour on demand: deadlock, endless loop, blocking work, memory growth. */

/** Blocks the main thread for good without using CPU, as a deadlock does. Signals are no longer handled. */
export function hang(): never {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  throw new Error("the wait ended, although no other thread has the buffer");
}

/** Blocks the main thread for good with an endless loop. */
export function spin(): never {
  for (;;);
}

/**
 * Blocks the main thread for `ms` milliseconds, like a server that waits for its database before it accepts the next
 * request. It uses no CPU, so that the effect of many blocked workers differs from that of too few processors.
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
