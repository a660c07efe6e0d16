/** Compresses a file with gzip in the background: off the main thread, and with a bounded share of one CPU. */
import type { FileHandle } from "node:fs/promises";
import { setTimeout as pause } from "node:timers/promises";
import { monotonicMs } from "../../base/monotonic.ts";

const CHUNK_BYTES = 128 * 1024;

export interface Pace {
  /** Pause after each chunk, as a multiple of the time that the chunk took. */
  readonly restRatio: number;
  /** Stops between two chunks. */
  readonly signal: AbortSignal;
}

/** Appends the compressed content of `source` to `target`. Rejects if the signal aborts. */
export async function compressFile(source: FileHandle, target: FileHandle, { restRatio, signal }: Pace): Promise<void> {
  const { createGzip } = await import("node:zlib");
  const gzip = createGzip();
  const compressed: Buffer[] = [];
  gzip.on("data", (bytes: Buffer) => compressed.push(bytes));
  try {
    const chunk = Buffer.allocUnsafeSlow(CHUNK_BYTES);
    for (;;) {
      signal.throwIfAborted();
      const startMs = monotonicMs();
      const { bytesRead } = await source.read(chunk, 0, CHUNK_BYTES, null);
      await new Promise<void>((resolve, reject) => {
        gzip.once("error", reject);
        const done = () => {
          gzip.off("error", reject);
          resolve();
        };
        if (bytesRead > 0) gzip.write(chunk.subarray(0, bytesRead), done);
        else gzip.once("end", done).end();
      });
      for (const bytes of compressed.splice(0)) await target.appendFile(bytes);
      if (bytesRead === 0) return;
      await pause((monotonicMs() - startMs) * restRatio);
    }
  } finally {
    gzip.close();
  }
}
