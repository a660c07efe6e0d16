/** The page docs/metrics.md, generated from the catalog. */
import { CATALOG, type CatalogMetric } from "./catalog.ts";

const INTRODUCTION = `# Metrics

This page is generated from \`src/metrics/catalog.ts\`; do not edit it.

\`/metrics\` answers in the text format of Prometheus 0.0.4, or in OpenMetrics 1.0 where the \`Accept\` header prefers it.

- Metrics marked **original** keep name and meaning of the predecessor, so its dashboards and alerts go on working.
- Counters are totals since the controller started; a restart of a worker never takes one back. The exceptions are the metrics of
  processes and process trees, which start again with each new process.
- \`worker\` is the stable id of a slot (\`web-0\`), whichever process lives in it, so the number of series is bounded.
- Metrics of processes and process trees exist for live workers only; a worker that exits during the scrape has none.
- \`monoceros_workerpool_process_*\` are about one process, the leader of the worker. \`monoceros_worker_tree_*\` are about all
  its processes: under \`npm start\`, a shell or gunicorn the leader only waits for the process that works.
- A metric without any value is not printed at all.
- The proxy of a pool \`web\` is a pool \`web-proxy\` with the worker \`web-proxy-0\` of its own; metrics whose name begins with
  \`monoceros_proxy_\`, and \`monoceros_workerpool_restarts_total\` with its \`worker_type\`, are told under the name of the pool
  it serves. Envoy's numbers are read once a second.
- The spread of a pool compares workers that have been ready for a while by what they did in the last minute or so, in
  samples that are 15 s apart; \`monoceros balance\` shows the same with advice.
`;

const OWN_METRICS = `
## The workers' own metrics

\`/metrics/workers\` answers with what the workers of all pools with \`metrics\` show themselves, as one program that never
ends: scrape it instead of the workers, whose counters begin again with each process.

- Counters, histograms and summaries are summed over the workers of a pool, with what dead processes counted, and have the
  label \`pool\`. They never go down while the controller runs. Quantiles of summaries have no sum and are left out.
- Gauges, and metrics without a type, have the label \`worker\` (\`web-0\`) too, and are there for workers that answered.
  Labels of these names that a program uses itself become \`exported_pool\` and \`exported_worker\`.
- A worker is asked at \`metrics.path\` of its own port or socket, or at \`metrics.port\` + its slot (which it finds in
  \`MONOCEROS_METRICS_PORT\`), when somebody scrapes; all at once, for a second at most, and not more often than once a
  second. A worker that is to be replaced behind a proxy is asked once more first. What one counted between the last scrape
  and a crash is lost, as it is where Prometheus asks workers directly.
- The listener at that address must belong to the worker's process tree, with \`metrics.scope: pool\` to any worker of the pool.
  If another process listens there, it is not scraped: a warning names it, and \`monoceros_worker_metrics_scrapes_total\` counts
  it as \`foreign\`. If the owner cannot be determined, the worker is scraped.
- Where workers disagree about the type of a metric, the one that was there first wins; where they disagree about the buckets
  of a histogram, all bounds are shown. At most 20,000 lines of a worker are read, and the sums of a pool have at most 20,000
  lines: \`monoceros_worker_metrics_dropped_samples_total\` counts what is left out.
`;

/** The whole page, with a newline at the end. */
export function metricsPage(): string {
  const rows = CATALOG.map((metric) => `| ${cells(metric).join(" | ")} |`);
  return `${[INTRODUCTION, "| Name | Type | Labels | Original | Meaning |", "|---|---|---|---|---|", ...rows].join("\n")}\n${OWN_METRICS}`;
}

function cells({ name, type, labels, origin, help }: CatalogMetric): readonly string[] {
  const names = labels.map((label) => `\`${label}\``).join(", ");
  return [`\`${name}\``, type, names, origin === "original" ? "original" : "", help.replaceAll("|", "\\|")];
}
