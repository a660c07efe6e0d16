/** The page docs/metrics.md, printed from the catalog. */
import { CATALOG, type CatalogMetric } from "./catalog.ts";

const INTRODUCTION = `# Metrics

This page is generated from \`src/metrics/catalog.ts\`; do not edit it.

\`/metrics\` answers in the text format of Prometheus 0.0.4, or in OpenMetrics 1.0 where the \`Accept\` header prefers it.

- Metrics marked **original** keep name and meaning of the predecessor, so its dashboards and alerts go on working.
- Counters are totals since the controller started; a restart of a worker never takes one back.
- \`worker\` is the stable id of a slot (\`web-0\`), whichever process lives in it, so the number of series is bounded.
- Process metrics are there for live workers only; a worker that is gone, or ends during the scrape, has none.
- A metric without any value is not printed at all.
`;

/** The whole page, with a newline at the end. */
export function metricsPage(): string {
  const rows = CATALOG.map((metric) => `| ${cells(metric).join(" | ")} |`);
  return `${[INTRODUCTION, "| Name | Type | Labels | Original | Meaning |", "|---|---|---|---|---|", ...rows].join("\n")}\n`;
}

function cells({ name, type, labels, origin, help }: CatalogMetric): readonly string[] {
  const names = labels.map((label) => `\`${label}\``).join(", ");
  return [`\`${name}\``, type, names, origin === "original" ? "original" : "", help.replaceAll("|", "\\|")];
}
