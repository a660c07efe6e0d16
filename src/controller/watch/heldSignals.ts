/** Signals received while the controller starts. A separate module, because it is needed before others are loaded. */

/** Signals that request a graceful shutdown: SIGPWR is how LXC and some init systems stop a container. */
export const STOP_SIGNALS = ["SIGTERM", "SIGINT", "SIGQUIT", "SIGPWR"] as const;

/** Signals with an effect on a running controller, and signals that it ignores; unhandled they would end it. */
const LATER_SIGNALS = ["SIGHUP", "SIGUSR1", "SIGUSR2", "SIGTTIN", "SIGTTOU"] as const;
export const IGNORED_SIGNALS = ["SIGALRM", "SIGVTALRM", "SIGIO", "SIGSTKFLT", "SIGXCPU", "SIGXFSZ"] as const;

/** Signals received during the start. */
export interface EarlySignals {
  /** The first request to stop; undefined if none came. */
  readonly stop: string | undefined;
  /** Whether a reload was requested: the configuration may have been read before it. */
  readonly isReloadDue: boolean;
}

export interface HeldSignals {
  /** Resolves with the first signal that requests a stop. */
  readonly stopped: Promise<string>;
  /** Returns the signals received so far and stops handling signals. */
  readonly release: () => EarlySignals;
}

/**
 * Keeps a stop request that arrives before anything can be stopped: the kernel delivers to PID 1 only signals that have
 * a handler. The other signals do not end a starting controller.
 */
export function holdSignals(): HeldSignals {
  let stop: string | undefined;
  let isReloadDue = false;
  const { promise: stopped, resolve } = Promise.withResolvers<string>();
  const note = (signal: string) => {
    if ((STOP_SIGNALS as readonly string[]).includes(signal)) {
      stop ??= signal;
      resolve(stop);
    }
    if (signal === "SIGHUP") isReloadDue = true;
  };
  const signals = [...STOP_SIGNALS, ...LATER_SIGNALS, ...IGNORED_SIGNALS];
  for (const signal of signals) process.on(signal, note);
  return {
    stopped,
    release: () => {
      for (const signal of signals) process.off(signal, note);
      return { stop, isReloadDue };
    },
  };
}
