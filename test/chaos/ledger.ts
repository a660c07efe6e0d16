/**
 * What the workers of one controller's life wrote: the ledger of requests that they executed, and their log lines as they
 * come out of the controller. Both are numbered by the process that wrote them.
 */
import { closeSync, openSync, readSync } from "node:fs";

/** A process of a worker: `<worker id>.<incarnation>`. */
export type ProcessKey = string;

const CHUNK_BYTES = 1 << 20;

export class Ledger {
  readonly #file: number;
  readonly #chunk = Buffer.allocUnsafe(CHUNK_BYTES);
  #rest = "";
  readonly #last = new Map<ProcessKey, number>();
  /** Requests by the process that executed them; those whose outcome is settled are forgotten. */
  readonly #executedBy = new Map<number, ProcessKey>();
  readonly #doubled: (what: string) => void;
  readonly #seen: Set<number>;

  /** `seen` outlives this life: a request must not run in two of them either. */
  constructor(path: string, seen: Set<number>, doubled: (what: string) => void) {
    this.#file = openSync(path, "a+");
    this.#seen = seen;
    this.#doubled = doubled;
  }

  /** Reads what was added. */
  read(): void {
    for (;;) {
      const bytes = readSync(this.#file, this.#chunk, 0, CHUNK_BYTES, null);
      if (bytes === 0) return;
      const lines = (this.#rest + this.#chunk.toString("latin1", 0, bytes)).split("\n");
      this.#rest = lines.pop() ?? "";
      for (const line of lines) this.#take(line);
    }
  }

  executedBy(id: number): ProcessKey | undefined {
    return this.#executedBy.get(id);
  }

  /** Forgets who executed requests below this id; that they ran is remembered. */
  forgetBelow(id: number): void {
    for (const known of this.#executedBy.keys()) {
      if (known >= id) return;
      this.#executedBy.delete(known);
    }
  }

  /** The last number that each process wrote. */
  get last(): ReadonlyMap<ProcessKey, number> {
    return this.#last;
  }

  close(): void {
    closeSync(this.#file);
  }

  #take(line: string): void {
    const [id = "", by = "", nth = ""] = line.split(" ");
    if (this.#seen.has(Number(id))) this.#doubled(`request ${id} was executed twice, the second time by ${by}`);
    this.#seen.add(Number(id));
    this.#executedBy.set(Number(id), by);
    this.#last.set(by, Number(nth));
  }
}

/** Checks that numbered lines come in order and complete, and that each carries the id of its worker. */
export class LogLines {
  count = 0;
  readonly #last = new Map<ProcessKey, number>();
  readonly #problem: (what: string) => void;

  constructor(problem: (what: string) => void) {
    this.#problem = problem;
  }

  take(line: string): void {
    let record: Record<string, unknown>;
    try {
      record = JSON.parse(line) as Record<string, unknown>;
    } catch {
      this.#problem(`a line of stdout is no JSON: ${line.slice(0, 300)}`);
      return;
    }
    const text = String(record["worker_info_msg"] ?? "");
    const [, writtenBy, number] = /^ledger (\S+) (\d+)$/u.exec(text) ?? [];
    const by = writtenBy ?? record["ledger"];
    if (typeof by !== "string") return;
    const nth = Number(number ?? record["nth"]);
    this.count++;
    if (by.slice(0, by.lastIndexOf(".")) !== record["worker_id"])
      this.#problem(`a line of ${by} is annotated as one of ${String(record["worker_id"])}`);
    const before = this.#last.get(by) ?? 0;
    if (nth !== before + 1) this.#problem(`line ${nth} of ${by} follows line ${before}`);
    this.#last.set(by, nth);
  }

  /** Lines that `last` says were written and that did not come. */
  missing(last: ReadonlyMap<ProcessKey, number>): readonly string[] {
    return [...last].flatMap(([by, nth]) => {
      const come = this.#last.get(by) ?? 0;
      return come >= nth ? [] : [`${by} wrote ${nth} lines, ${come} came out`];
    });
  }
}
