/** Signals that come while the controller starts. Apart, because it is needed before everything else is loaded. */

export interface HeldSignals {
  /** Which stop signal came first, undefined where none did; from then on they are left to others. */
  readonly release: () => string | undefined;
}

/**
 * Keeps a request to stop that comes before anything can be stopped: to PID 1 the kernel delivers only signals that it
 * listens to. `release` tells which one came, and leaves signals to others.
 */
export function holdStopSignals(): HeldSignals {
  let first: string | undefined;
  const signals = ["SIGTERM", "SIGINT"] as const;
  const note = (signal: string) => {
    first ??= signal;
  };
  for (const signal of signals) process.on(signal, note);
  return {
    release: () => {
      for (const signal of signals) process.off(signal, note);
      return first;
    },
  };
}
