/** Probes by HTTP GET. Each attempt opens a new connection and closes it. Nothing that a worker sends is kept. */
import { request } from "node:http";
import { Attempt, connectOptions, type NetworkMethod, outcomeOfError } from "./attempt.ts";

interface HttpSettings {
  readonly path: string;
  /** Request headers that add to or override the default headers. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** Maximum body bytes to read; only the response status decides the outcome. */
const MAX_BODY_BYTES = 10 * 1024;

const DEFAULT_HEADERS = { host: "localhost", "user-agent": "monoceros-probe", accept: "*/*" };

/** A status from 200 to 399 is success; redirects are not followed. */
export const httpMethod: NetworkMethod<HttpSettings> = {
  describe: (where, { path }) => (where.startsWith("/") ? `GET ${path} on ${where}` : `GET http://${where}${path}`),
  attempt(address, { path, headers = {} }, timeoutMs, settle) {
    const attempt = new Attempt(timeoutMs, settle);
    const target = "port" in address ? connectOptions(address) : { socketPath: address.path };
    const get = request({
      ...target,
      path: path.toWellFormed().replaceAll(/[^\u0021-\u007e]/gu, encodeURIComponent),
      agent: false,
      headers: withDefaults(headers),
    });
    attempt.releaseBy(() => get.destroy());
    get.on("error", (error) => attempt.end(outcomeOfError(error)));
    get.on("response", (response) => {
      const { statusCode = 0 } = response;
      const judge = () => {
        if (statusCode >= 200 && statusCode < 400) attempt.succeed();
        else attempt.fail(`HTTP ${statusCode}`);
      };
      let bytes = 0;
      response.on("data", (chunk: Buffer) => {
        bytes += chunk.length;
        if (bytes > MAX_BODY_BYTES) judge();
      });
      response.on("end", judge);
      response.on("error", (error) => attempt.end(outcomeOfError(error)));
    });
    get.end();
    return attempt;
  },
};

/** Header names are case-insensitive; configured ones are sent as written. */
function withDefaults(headers: Readonly<Record<string, string>>): Record<string, string> {
  const given = new Set(Object.keys(headers).map((name) => name.toLowerCase()));
  const defaults = Object.entries(DEFAULT_HEADERS).filter(([name]) => !given.has(name));
  return Object.fromEntries([...defaults, ...Object.entries(headers)]);
}
