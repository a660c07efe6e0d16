/** Scrapes the metrics of one worker over HTTP, unless a foreign process listens at its address. */
import { request } from "node:http";
import type { Logger } from "../../base/log.ts";
import type { WorkerId } from "../../core/identity.ts";
import type { WorkerView } from "../../core/view.ts";
import type { UpstreamAddress } from "../../envoy/resources/settings.ts";
import type { ExpectedOwner, SocketOwners } from "../../runtime/socket/socketOwners.ts";

/** Time limit for an answer. */
const ANSWER_MS = 1000;

const MAX_ANSWER_BYTES = 4 << 20;

export type ScrapeAnswer =
  | { readonly kind: "success"; readonly text: string }
  | { readonly kind: "failure" | "timeout" | "foreign" };

/** Where a worker exposes its metrics. */
interface MetricsPlace {
  readonly address: UpstreamAddress;
  readonly path: string;
  /** Leaders of other workers whose processes may answer for this one. */
  readonly siblings: () => readonly number[];
}

export class WorkerScraper {
  readonly #owners: Pick<SocketOwners, "judge">;
  readonly #log: Logger;
  /** Processes that may answer for a worker, by its leader; SocketOwners uses this object as its cache key. */
  readonly #expected = new Map<number, ExpectedOwner>();
  /** Foreign processes that were warned about, by the worker whose address they hold. */
  readonly #reported = new Map<WorkerId, string>();

  constructor(owners: Pick<SocketOwners, "judge">, log: Logger) {
    this.#owners = owners;
    this.#log = log;
  }

  async scrape(worker: WorkerView, place: MetricsPlace): Promise<ScrapeAnswer> {
    if (await this.#isForeign(worker, place)) return { kind: "foreign" };
    return fetchText(place.address, encodePath(place.path));
  }

  /** Call when the process of a worker has exited. */
  forget(id: WorkerId, pid: number): void {
    this.#expected.delete(pid);
    this.#reported.delete(id);
  }

  /** Whether a foreign process listens at the address; logs a warning that names it. Unknown owners may answer. */
  async #isForeign({ id, pid }: WorkerView, { address, siblings }: MetricsPlace): Promise<boolean> {
    if (pid === undefined) return false;
    const owner = this.#expected.get(pid) ?? { leader: pid, siblings };
    this.#expected.set(pid, owner);
    const ownership = await this.#owners.judge(owner, address);
    if (ownership.kind !== "foreign") {
      this.#reported.delete(id);
      return false;
    }
    if (this.#reported.get(id) !== ownership.holder) {
      this.#reported.set(id, ownership.holder);
      const where = "port" in address ? `port ${address.port}` : address.path;
      this.#log.warn(
        `cannot scrape worker "${id}": ${ownership.holder} listens on ${where} and is not a process of this worker`,
        { hint: "Stop that process, or set another metrics.port." },
      );
    }
    return true;
  }
}

function encodePath(path: string): string {
  const { pathname, search } = new URL(`http://localhost${path}`);
  return pathname + search;
}

/** Uses a new connection: a kept one would block a worker that allows few connections. */
function fetchText(address: UpstreamAddress, path: string): Promise<ScrapeAnswer> {
  const place = "port" in address ? { host: "127.0.0.1", port: address.port } : { socketPath: address.path };
  const { promise, resolve } = Promise.withResolvers<ScrapeAnswer>();
  // The first call decides.
  const end = (answer: ScrapeAnswer) => {
    clearTimeout(timer);
    resolve(answer);
    call.destroy();
  };
  const fail = () => end({ kind: "failure" });
  const timer = setTimeout(() => end({ kind: "timeout" }), ANSWER_MS);
  const headers = { host: "localhost", accept: "text/plain;version=0.0.4", connection: "close" };
  const call = request({ ...place, path, agent: false, headers });
  call.on("error", fail);
  call.on("response", (response) => {
    if (response.statusCode !== 200) {
      fail();
      return;
    }
    const chunks: Buffer[] = [];
    let bytes = 0;
    response.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
      if (bytes > MAX_ANSWER_BYTES) fail();
      else chunks.push(chunk);
    });
    // "end" is not emitted if the worker dies while it answers.
    response.on("end", () => end({ kind: "success", text: Buffer.concat(chunks).toString("utf8") }));
    response.on("error", fail);
    response.on("close", fail);
  });
  call.end();
  return promise;
}
