/**
 * Client for Envoy's admin interface, over one persistent connection. Every request has a time limit. A failure rejects
 * with an ordinary Error: an Envoy that has exited or is not up yet is not an operational error by itself. The caller
 * decides what it means.
 */

import { Agent, request } from "node:http";
import type { Histogram } from "../../base/readings.ts";
import {
  type HostStatus,
  type ListenerState,
  numberOf,
  parseClusters,
  parseHistograms,
  parseListenerError,
  parseStats,
} from "../reading/adminAnswers.ts";
import type { AdminAddress } from "../resources/settings.ts";

/** Enough for a response about hundreds of workers on a busy machine. */
const DEFAULT_TIMEOUT_MS = 5000;

/** Envoy's responses about one cluster are never larger than this. */
const MAX_BODY_BYTES = 64 * 1024 * 1024;

/** The admin interface of one Envoy. */
export class AdminClient implements Disposable {
  readonly #address: AdminAddress;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 1 });

  readonly #timeoutMs: number;

  /** `timeoutMs` limits each request from its start to the end of the response. */
  constructor(address: AdminAddress, timeoutMs = DEFAULT_TIMEOUT_MS) {
    this.#address = address;
    this.#timeoutMs = timeoutMs;
  }

  /** Whether Envoy has read its configuration and serves. False if it does not respond. */
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

  /** Histograms of the cluster whose Prometheus names match `filter`, by name; Envoy updates them once a second. */
  async histograms(filter: string): Promise<ReadonlyMap<string, Histogram>> {
    return parseHistograms(await this.#get(`/stats/prometheus?filter=${encodeURIComponent(filter)}`));
  }

  /** Whether Envoy has a listener and, if not, why. */
  async listeners(): Promise<ListenerState> {
    const stats = await this.stats(
      "^listener_manager\\.(total_listeners_active|workers_started|listener_create_failure|lds\\.update_(rejected|failure))$",
    );
    const failures =
      numberOf(stats, "listener_manager.listener_create_failure") +
      numberOf(stats, "listener_manager.lds.update_rejected") +
      numberOf(stats, "listener_manager.lds.update_failure");
    // A bound listener accepts connections once the threads run.
    const hasThreads = numberOf(stats, "listener_manager.workers_started") > 0;
    const active = hasThreads ? numberOf(stats, "listener_manager.total_listeners_active") : 0;
    const reason = active === 0 && failures > 0 ? await this.listenerError() : undefined;
    return { active, failures, reason };
  }

  /** Why Envoy rejected the last change of its listener; undefined if it did not. */
  async listenerError(): Promise<string | undefined> {
    return parseListenerError(await this.#get("/config_dump?resource=dynamic_listeners"));
  }

  /** Starts a graceful drain: Envoy discourages clients, still accepts connections and does not exit. */
  async drainListeners(): Promise<void> {
    await this.#post("/drain_listeners?graceful&skip_exit");
  }

  /** Stops accepting connections; existing ones continue. */
  async stopListeners(): Promise<void> {
    await this.#post("/drain_listeners");
  }

  /** Sets a runtime key until Envoy exits. */
  async setRuntime(key: string, value: number): Promise<void> {
    await this.#post(`/runtime_modify?${key}=${value}`);
  }

  /** Makes Envoy exit at once. */
  async quit(): Promise<void> {
    await this.#post("/quitquitquit");
  }

  /** Closes the connection and rejects pending requests. */
  [Symbol.dispose](): void {
    this.#agent.destroy();
  }

  #get(path: string): Promise<string> {
    return this.#request("GET", path);
  }

  async #post(path: string): Promise<void> {
    await this.#request("POST", path);
  }

  async #request(method: string, path: string): Promise<string> {
    const { status, body } = await this.#call(method, path);
    if (status !== 200) throw new Error(`Envoy responded with ${status} to ${path}`);
    return body;
  }

  #call(method: string, path: string): Promise<{ status: number; body: string }> {
    const address = this.#address;
    const target = "port" in address ? { host: "127.0.0.1", port: address.port } : address;
    return new Promise((resolve, reject) => {
      const call = request(
        { ...target, method, path, agent: this.#agent, headers: { host: "localhost" } },
        (response) => {
          const chunks: Buffer[] = [];
          let bytes = 0;
          response.on("data", (chunk: Buffer) => {
            bytes += chunk.length;
            if (bytes > MAX_BODY_BYTES) call.destroy(new Error(`Envoy's response to ${path} is too long`));
            else chunks.push(chunk);
          });
          response.on("end", () =>
            resolve({ status: response.statusCode ?? 0, body: Buffer.concat(chunks).toString() }),
          );
          // Envoy was killed in the middle of a response.
          response.on("error", reject);
          response.on("aborted", () => reject(new Error(`Envoy aborted its response to ${path}`)));
        },
      );
      call.on("error", reject);
      // Not the idle timeout of the socket, so that a trickling response ends too.
      const timer = setTimeout(
        () => call.destroy(new Error(`Envoy did not respond to ${path} within ${this.#timeoutMs} ms`)),
        this.#timeoutMs,
      );
      call.on("close", () => clearTimeout(timer));
      call.end();
    });
  }
}
