/**
 * The files of prometheus_client's multiprocess mode. Each process has one file per kind of metric, named by its pid or
 * by an identifier of the application: `counter_123.db`, `gauge_livesum_web-0.db`. A worker exposes all files merged.
 */

const LIVE_GAUGE = /^gauge_live[a-z]*_(.+)\.db$/u;

/**
 * The files among `names` with live gauges of processes that `isDead` reports as exited; prometheus_client's
 * mark_process_dead removes the same files. All other files are part of the totals and stay.
 */
export function deadGaugeFiles(names: readonly string[], isDead: (identifier: string) => boolean): readonly string[] {
  return names.filter((name) => {
    const identifier = LIVE_GAUGE.exec(name)?.[1];
    return identifier !== undefined && isDead(identifier);
  });
}
