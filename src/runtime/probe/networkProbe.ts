/**
 * Probes over a connection that need no protocol of their own: HTTP GET and plain TCP (or Unix socket) connect. A new
 * connection each time, closed by us; nothing that a worker sends is kept.
 */
import { request } from "node:http";
import { connect, type Socket } from "node:net";
import type { AttemptOutcome } from "../../core/policy/probe.ts";
import { Attempt, connectOptions, outcomeOfError, type ProbeAddress } from "./attempt.ts";

/** More of a body is not read: the answer counts by its status. */
const MAX_BODY_BYTES = 10 * 1024;

const DEFAULT_HEADERS = { host: "localhost", "user-agent": "monoceros-probe", accept: "*/*" };

/**
 * GETs `path`: 200 to 399 is success, a redirect is not followed. `headers` are sent in addition to the default ones, or
 * in their place.
 */
export function attemptHttp(
  address: ProbeAddress,
  path: string,
  timeoutMs: number,
  settle: (outcome: AttemptOutcome) => void,
  headers: Readonly<Record<string, string>> = {},
): Disposable {
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
}

/** Header names are case-insensitive; configured ones are sent as written. */
function withDefaults(headers: Readonly<Record<string, string>>): Record<string, string> {
  const given = new Set(Object.keys(headers).map((name) => name.toLowerCase()));
  const defaults = Object.entries(DEFAULT_HEADERS).filter(([name]) => !given.has(name));
  return Object.fromEntries([...defaults, ...Object.entries(headers)]);
}

const SELF_CONNECTION: AttemptOutcome = {
  kind: "failure",
  reason: "connection refused (the kernel connected the probe to itself)",
  how: "refused",
};

/** Opens a connection, which is success, and closes it. */
export function attemptTcp(
  address: ProbeAddress,
  timeoutMs: number,
  settle: (outcome: AttemptOutcome) => void,
): Disposable {
  const attempt = new Attempt(timeoutMs, settle);
  const socket = connect(connectOptions(address));
  attempt.releaseBy(() => socket.destroy());
  socket.on("error", (error) => attempt.end(outcomeOfError(error)));
  socket.on("connect", () => {
    if (isConnectedToItself(socket)) attempt.end(SELF_CONNECTION);
    else attempt.succeed();
  });
  return attempt;
}

/**
 * Whether both ends of a connection are this socket: TCP allows that where nobody listens on a port and the kernel
 * happens to choose it for the near end too, which many attempts at a port of the ephemeral range bring about.
 */
export function isConnectedToItself(socket: Socket): boolean {
  const { localPort, remotePort, localAddress, remoteAddress } = socket;
  return localPort !== undefined && localPort === remotePort && localAddress === remoteAddress;
}
