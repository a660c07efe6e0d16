/**
 * Asks Envoy's admin interface, over one connection that is kept. Every question ends within a bounded time; a failure is
 * a rejection with an ordinary Error, because an Envoy that is gone or not up yet is no news for an operator: who asks
 * decides what it means.
 */
import { Agent, request } from "node:http";
import {
  type Histogram,
  type HostStatus,
  type ListenerState,
  numberOf,
  parseClusters,
  parseHistograms,
  parseListenerError,
  parseStats,
} from "../reading/adminAnswers.ts";
import type { AdminPlace } from "../resources/settings.ts";

/** Enough for an answer about hundreds of workers on a busy machine. */
const DEFAULT_TIMEOUT_MS = 5000;

/** An answer larger than this is none of Envoy's about one cluster. */
const MAX_BODY_BYTES = 64 * 1024 * 1024;

/** Asks one Envoy. */
export class AdminClient implements Disposable {
  readonly #place: AdminPlace;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });

  readonly #timeoutMs: number;

  /** Each question has `timeoutMs` from its beginning to the end of the answer. */
  constructor(place: AdminPlace, timeoutMs = DEFAULT_TIMEOUT_MS) {
    this.#place = place;
    this.#timeoutMs = timeoutMs;
  }

  /** Whether Envoy has read its configuration and serves. False also where it does not answer at all. */
  async isReady(): Promise<boolean> {
    try {
      return (await this.#call("GET", "/ready")).status === 200;
    } catch {
      return false;
    }
  }

  /** The endpoints of the cluster. */
  async clusters(): Promise<HostStatus[]> {
    return parseClusters(await this.#get("/clusters?format=json"));
  }

  /** Counters, gauges and texts whose names match the regular expression `filter` (RE2). */
  async stats(filter: string): Promise<ReadonlyMap<string, number | string>> {
    return parseStats(await this.#get(`/stats?filter=${encodeURIComponent(filter)}`));
  }

  /** Histograms of the cluster whose Prometheus names match `filter`, by name; Envoy brings them up to date once a second. */
  async histograms(filter: string): Promise<ReadonlyMap<string, Histogram>> {
    return parseHistograms(await this.#get(`/stats/prometheus?filter=${encodeURIComponent(filter)}`));
  }

  /** Whether there is a listener, and why not. */
  async listeners(): Promise<ListenerState> {
    const stats = await this.stats(
      "^listener_manager\\.(total_listeners_active|workers_started|listener_create_failure|lds\\.update_(rejected|failure))$",
    );
    const failures =
      numberOf(stats, "listener_manager.listener_create_failure") +
      numberOf(stats, "listener_manager.lds.update_rejected") +
      numberOf(stats, "listener_manager.lds.update_failure");
    // A listener that is bound takes connections when the threads run.
    const hasThreads = numberOf(stats, "listener_manager.workers_started") > 0;
    const active = hasThreads ? numberOf(stats, "listener_manager.total_listeners_active") : 0;
    const reason = active === 0 && failures > 0 ? await this.listenerError() : undefined;
    return { active, failures, reason };
  }

  /** Why Envoy refused the last change of its listener; undefined where it did not. */
  async listenerError(): Promise<string | undefined> {
    return parseListenerError(await this.#get("/config_dump?resource=dynamic_listeners"));
  }

  /** Has clients told to go elsewhere from now on; new connections are still taken, and Envoy does not end by itself. */
  async drainListeners(): Promise<void> {
    await this.#post("/drain_listeners?graceful&skip_exit");
  }

  /** Takes no new connection any more; those that are there go on. */
  async stopListeners(): Promise<void> {
    await this.#post("/drain_listeners");
  }

  /** Sets a runtime key until Envoy ends. */
  async setRuntime(key: string, value: number): Promise<void> {
    await this.#post(`/runtime_modify?${key}=${value}`);
  }

  /** Ends Envoy at once. */
  async quit(): Promise<void> {
    await this.#post("/quitquitquit");
  }

  /** Closes the connection; questions under way are rejected. */
  [Symbol.dispose](): void {
    this.#agent.destroy();
  }

  async #get(path: string): Promise<string> {
    const { status, body } = await this.#call("GET", path);
    if (status !== 200) throw new Error(`Envoy answered ${status} to ${path}`);
    return body;
  }

  async #post(path: string): Promise<void> {
    const { status } = await this.#call("POST", path);
    if (status !== 200) throw new Error(`Envoy answered ${status} to ${path}`);
  }

  #call(method: string, path: string): Promise<{ status: number; body: string }> {
    const place = this.#place;
    const target = "port" in place ? { host: "127.0.0.1", port: place.port } : { socketPath: place.socketPath };
    return new Promise((resolve, reject) => {
      const call = request(
        {
          ...target,
          method,
          path,
          agent: this.#agent,
          headers: { host: "localhost" },
        },
        (response) => {
          const chunks: Buffer[] = [];
          let bytes = 0;
          response.on("data", (chunk: Buffer) => {
            bytes += chunk.length;
            if (bytes > MAX_BODY_BYTES) call.destroy(new Error(`Envoy's answer to ${path} is too long`));
            else chunks.push(chunk);
          });
          response.on("end", () =>
            resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }),
          );
          // An Envoy that is killed in the midst of an answer.
          response.on("error", reject);
          response.on("aborted", () => reject(new Error(`Envoy broke off its answer to ${path}`)));
        },
      );
      call.on("error", reject);
      // Not the idle time of the socket: an answer that trickles ends too.
      const timer = setTimeout(
        () => call.destroy(new Error(`Envoy did not answer ${path} within ${this.#timeoutMs} ms`)),
        this.#timeoutMs,
      );
      call.on("close", () => clearTimeout(timer));
      call.end();
    });
  }
}
