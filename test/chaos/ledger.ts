/**
 * Records of the workers of one controller: the ledger of requests that they executed, and their log lines as the
 * controller forwards them. Each process numbers its records.
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
  /** Recent requests and the processes that executed them. */
  readonly #executedBy = new Map<number, ProcessKey>();
  readonly #duplicate: (problem: string) => void;
  readonly #seen: Set<number>;

  /** `seen` is shared by all controllers of a run, because a request must not run under two of them either. */
  constructor(path: string, seen: Set<number>, duplicate: (problem: string) => void) {
    this.#file = openSync(path, "a+");
    this.#seen = seen;
    this.#duplicate = duplicate;
  }

  /** Reads the entries that were added. */
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

  /** Drops the executing processes of requests below this id. Duplicates are still detected. */
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
    if (this.#seen.has(Number(id))) this.#duplicate(`request ${id} was executed twice, the second time by ${by}`);
    this.#seen.add(Number(id));
    this.#executedBy.set(Number(id), by);
    this.#last.set(by, Number(nth));
  }
}

/** Checks that numbered lines are complete and in order, and that each has the id of its worker. */
export class LogLines {
  count = 0;
  readonly #last = new Map<ProcessKey, number>();
  readonly #problem: (problem: string) => void;

  constructor(problem: (problem: string) => void) {
    this.#problem = problem;
  }

  take(line: string): void {
    let record: Record<string, unknown>;
    try {
      record = JSON.parse(line) as Record<string, unknown>;
    } catch {
      this.#problem(`a line of stdout is not JSON: ${line.slice(0, 300)}`);
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

  /** Lines that were written according to `last` and have not arrived. */
  missing(last: ReadonlyMap<ProcessKey, number>): readonly string[] {
    return [...last].flatMap(([by, nth]) => {
      const arrived = this.#last.get(by) ?? 0;
      return arrived >= nth ? [] : [`${by} wrote ${nth} lines, ${arrived} arrived`];
    });
  }
}
