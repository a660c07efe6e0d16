/** The page docs/metrics.md, generated from the catalog. */
import { CATALOG } from "./catalog.ts";
import type { CatalogMetric } from "./scrape.ts";

const INTRODUCTION = `# Metrics

This page is generated from \`src/metrics/catalog.ts\`; do not edit it.

\`/metrics\` answers in the Prometheus text format 0.0.4, or in OpenMetrics 1.0 if the \`Accept\` header prefers it.

- Metrics marked **original** have the name and meaning of the predecessor, so its dashboards and alerts keep working.
- Counters are totals since the controller started; a worker restart never resets them. The exceptions are the metrics of
  processes and process trees, which restart with each new process.
- \`worker\` is the stable id of a slot (\`web-0\`), whichever process runs in it, so the number of series is bounded.
- Metrics of processes and process trees exist for live workers only. A worker that exits during the scrape has none.
- \`monoceros_workerpool_process_*\` describe one process, the leader of the worker. \`monoceros_worker_tree_*\` describe all
  its processes: under \`npm start\`, a shell or gunicorn the leader only waits for the process that works.
- A metric without values is not printed.
- The proxy of pool \`web\` is a pool of its own, \`web-proxy\`, with the worker \`web-proxy-0\`. \`monoceros_proxy_*\` and
  \`monoceros_workerpool_restarts_total\` (with \`worker_type\`) carry the name of the pool behind the proxy instead.
- Envoy's numbers are read once a second.
- The spread of a pool compares what its workers did in about the last minute, in samples 15 s apart. Workers that became
  ready only recently are left out. \`monoceros balance\` shows the same with advice.
`;

const OWN_METRICS = `
## The workers' own metrics

\`/metrics/workers\` merges the metrics of all workers in pools with \`metrics\`, as if one program that never exits exposed
them. Scrape it instead of the workers, whose counters restart with each process.

- Counters, histograms and summaries are summed over the workers of a pool, including what exited processes counted, and
  have the label \`pool\`. They never decrease while the controller runs. Quantiles of summaries cannot be summed and are left out.
- Gauges, and metrics without a type, also have the label \`worker\` (\`web-0\`), and exist for workers that answered.
  A program's own labels with these names become \`exported_pool\` and \`exported_worker\`.
- A worker is scraped at \`metrics.path\` of its own port or socket, or at \`metrics.port\` plus its slot (which it finds in
  \`MONOCEROS_METRICS_PORT\`).
- Workers are scraped on request, concurrently, within one second, and at most once a second. Behind a proxy, a worker that
  is about to be replaced is scraped once more. Counts between the last scrape and a crash are lost, as they are if
  Prometheus scrapes workers directly.
- The listener at that address must belong to the worker's process tree, with \`metrics.scope: pool\` to any worker of the pool.
  If another process listens there, it is not scraped: a warning names it, and \`monoceros_worker_metrics_scrapes_total\` counts
  it as \`foreign\`. If the owner cannot be determined, the worker is scraped.
- If workers disagree about the type of a metric, the first type wins. If they disagree about the buckets of a histogram,
  the merged histogram has all bounds.
- At most 20,000 lines of a worker are read, and the sums of a pool have at most 20,000 lines.
  \`monoceros_worker_metrics_dropped_samples_total\` counts what is left out.
`;

/** The whole page, with a newline at the end. */
export function metricsPage(): string {
  const rows = CATALOG.map((metric) => `| ${cells(metric).join(" | ")} |`);
  return `${[INTRODUCTION, "| Name | Type | Labels | Original | Meaning |", "|---|---|---|---|---|", ...rows].join("\n")}\n${OWN_METRICS}`;
}

function cells({ name, type, labels, isOriginal, help }: CatalogMetric): readonly string[] {
  const names = labels.map((label) => `\`${label}\``).join(", ");
  return [`\`${name}\``, type, names, isOriginal === true ? "original" : "", help.replaceAll("|", "\\|")];
}
