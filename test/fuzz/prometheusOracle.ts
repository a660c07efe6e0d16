/** Python's prometheus_client as an oracle. It parses texts in batches in a process of its own. */
import { type ChildProcess, spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createInterface } from "node:readline";
import { PYTHON } from "../support/controller.ts";

export const HAS_ORACLE = existsSync(PYTHON);

export type OracleFormat = "prometheus" | "openmetrics";

/** One sample as Python parses it. */
export interface OracleSample {
  readonly type: string;
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

const PROGRAM = `
import json, math, sys
from prometheus_client.parser import text_string_to_metric_families as prometheus
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
PARSERS = {"prometheus": prometheus, "openmetrics": openmetrics}
def number(value):
    value = float(value)
    return value if math.isfinite(value) else str(value)
def read(form, text):
    try:
        return [[f.type, s.name, s.labels, number(s.value)] for f in PARSERS[form](text) for s in f.samples]
    except Exception as error:
        return repr(error)
for line in sys.stdin:
    print(json.dumps([read(form, text) for form, text in json.loads(line)]), flush=True)
`;

type Reply = readonly (string | readonly (readonly [string, string, Record<string, string>, number | string])[])[];

export class PrometheusOracle implements Disposable {
  readonly #child: ChildProcess;
  readonly #lines: AsyncIterator<string>;

  constructor() {
    this.#child = spawn(PYTHON, ["-c", PROGRAM], { stdio: ["pipe", "pipe", "inherit"] });
    if (this.#child.stdout === null) throw new Error("no pipe");
    this.#lines = createInterface({ input: this.#child.stdout })[Symbol.asyncIterator]();
  }

  /** The samples of each text, or the reason why it is rejected. */
  async read(
    texts: readonly (readonly [OracleFormat, string])[],
  ): Promise<readonly (readonly OracleSample[] | string)[]> {
    this.#child.stdin?.write(`${JSON.stringify(texts)}\n`);
    const { value, done } = await this.#lines.next();
    if (done === true) throw new Error("the oracle ended");
    return (JSON.parse(value) as Reply).map((each) =>
      typeof each === "string"
        ? each
        : each.map(([type, name, labels, value]) => ({ type, name, labels, value: numberOf(value) })),
    );
  }

  [Symbol.dispose](): void {
    this.#child.kill();
  }
}

function numberOf(value: number | string): number {
  if (typeof value === "number") return value;
  if (value === "nan") return Number.NaN;
  return value.startsWith("-") ? Number.NEGATIVE_INFINITY : Number.POSITIVE_INFINITY;
}
