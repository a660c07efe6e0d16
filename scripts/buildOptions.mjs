/** Options of the executables that scripts/build.mjs and bench/turns.ts share. Plain ESM for any Node.js >= 20. */

/**
 * V8's heap settings. A semi-space of 2 MB: with 1 MB a scrape of 500 workers takes 17 instead of 12 ms and leaves 17 MB
 * more in the old generation; with the default of 16 MB the garbage of a log flood stays longer. It has that size from the
 * start, so that a command finishes before the first collection (5 ms for the status of 500 workers). An idle controller
 * uses the same memory. One V8 helper thread instead of four saves 0.3 MB.
 */
export const HEAP_FLAGS = ["--min-semi-space-size=2", "--max-semi-space-size=2", "--v8-pool-size=1"];

/** esbuild options of a bundle for the pinned runtime. */
export const BUNDLE_OPTIONS = {
  bundle: true,
  platform: "node",
  format: "cjs",
  target: "node26",
  // A script without a module loader cannot import(), so a lazy import of a bundled file becomes a lazy require.
  supported: { "dynamic-import": false },
};
