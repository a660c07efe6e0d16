/**
 * Network probes other than gRPC: HTTP GET and plain TCP (or Unix socket) connect. Each attempt opens a new connection
 * and closes it. Nothing that a worker sends is kept.
 */
import { request } from "node:http";
import { connect, type Socket } from "node:net";
import type { AttemptOutcome } from "../../core/policy/probe.ts";
import { Attempt, connectOptions, outcomeOfError, type ProbeAddress } from "./attempt.ts";

/** Maximum body bytes to read; only the response status decides the outcome. */
const MAX_BODY_BYTES = 10 * 1024;

const DEFAULT_HEADERS = { host: "localhost", "user-agent": "monoceros-probe", accept: "*/*" };

/**
 * Sends GET `path`. A status from 200 to 399 is success; redirects are not followed. `headers` add to or override the
 * default headers.
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

/** Opens a connection and closes it. An established connection is success. */
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
 * Whether both ends of a connection are this socket. This happens if no process listens on an ephemeral port and the
 * kernel also picks that port as the local port, which is likely after many attempts.
 */
export function isConnectedToItself(socket: Socket): boolean {
  const { localPort, remotePort, localAddress, remoteAddress } = socket;
  return localPort !== undefined && localPort === remotePort && localAddress === remoteAddress;
}
