/** Parses the command line of processbin. The files that read a flag implement it. */

import { parseArgs } from "node:util";
import { parseDuration } from "../../src/base/units.ts";

/** The flags; undefined and 0 disable one. */
export interface Flags {
  readonly exitAfterMs: number | undefined;
  /** Exit code of --exit-after. */
  readonly exitCode: number;
  readonly ignoreSignals: boolean;
  /** Wait between a stop signal and the exit. */
  readonly signalDelayMs: number;
  /** The text of each line; undefined: the number of the line and padding up to logLineBytes. */
  readonly logText: string | undefined;
  /** Lines to write, at once unless logIntervalMs is given; undefined: none, or unlimited with an interval. */
  readonly logLines: number | undefined;
  readonly logLineBytes: number;
  readonly logIntervalMs: number | undefined;
  /** Whether lines go to stderr too. */
  readonly logToStderr: boolean;
  readonly logStructured: boolean;
  readonly flood: boolean;
  readonly halfLine: boolean;
  readonly host: string | undefined;
  readonly port: number | undefined;
  readonly reusePort: boolean;
  readonly socketPath: string | undefined;
  /** An inherited listening socket. */
  readonly fd: number | undefined;
  readonly slowBootMs: number;
  /** Health alternates: this many successes, then this many failures. 0: always successes. */
  readonly flapEvery: number;
  /** Health answers 503: always, or for this time after it listens. */
  readonly neverReady: boolean;
  readonly readyAfterMs: number;
  /** How long each request to / blocks the process. */
  readonly blockMs: number;
  /** Each request to / blocks the process, most of them briefly and a few for long. */
  readonly mixed: boolean;
  /** Time after which an idle connection is closed; undefined: as Node.js does. */
  readonly keepaliveMs: number | undefined;
  /** Resets the connection instead of each nth response; 0: never. */
  readonly resetEvery: number;
  /** How long idle connections are kept after a stop signal. */
  readonly drainMs: number;
  readonly hang: boolean;
  readonly spin: boolean;
  readonly leakBytesPerSecond: number;
  readonly grandchildren: number;
  readonly grandchildIgnoresTerm: boolean;
  readonly grandchildSetsid: boolean;
  readonly grandchildSpins: boolean;
  readonly printEnv: boolean;
  /** File to which /echo adds a line for each request. */
  readonly ledgerPath: string | undefined;
}

/** The text of --help. */
export const USAGE = `processbin: a program to be managed, well or badly behaved

  -t, --exit-after S          exit after S seconds
      --exit-code N           with this code (default 0)
  -i, --ignore-signals        ignore SIGTERM and SIGINT
  -o, --signal-timeout S      wait between a stop signal and the exit
  -f, --log-fixed TEXT        write TEXT as a line at the start and in each interval (default 1 s)
      --log-lines N           write N lines, then no more
  -l, --log-size BYTES        length of a line without -f (default 150)
  -k, --log-interval D        a line every D
  -e, --log-error             lines go to stderr as well as to stdout
  -j, --log-structured        lines are JSON objects
      --flood                 unlimited lines, as fast as they are read
      --half-line             write an unfinished line, then nothing
  -p, --port N                HTTP "hello from processbin"; 0 takes a free port
      --host ADDRESS          where --port listens (default: every address)
      --reuseport             with SO_REUSEPORT
      --socket PATH           HTTP on a Unix socket
      --fd N                  HTTP on an inherited listening socket (LISTEN_FDS is obeyed as well)
      --slow-boot D           listen only after D
      --flap-health K         /healthz and /readyz: K times 200, K times 503, and so on
      --never-ready           /healthz and /readyz: always 503
      --ready-after D         /healthz and /readyz: 503 for D after it listens
      --block D               each request to / blocks the process for D
      --mixed                 each request to / blocks it, 5 % of them for 200 ms, the others for 5 ms
      --keepalive D           close connections that are idle for D (default 5s; 0: never)
      --reset-every N         reset the connection instead of each Nth answer
      --drain D               after a stop signal idle connections may ask once more for D (default 0)
      --hang                  stop answering anything (no CPU)
      --spin                  stop answering anything (all CPU)
      --leak RATE             keep RATE more megabytes every second
      --grandchildren N       start N children that sleep
      --grandchild-ignores-term  which ignore SIGTERM
      --grandchild-setsid     which leave the process group and session
      --grandchild-spin       which use all the CPU they get instead of sleeping
      --ledger FILE           /echo adds a line to FILE, and one to stdout, for each request
      --print-env             write environment, limits, descriptors as one JSON line

S and D are seconds or durations such as 500ms. After a stop signal running requests are finished.

HTTP: every answer has x-worker-id and x-worker-pid
  /                           a greeting
  /healthz /readyz            health
  /sleep?ms= /block?ms=       an answer after some time, spent waiting or blocking the process
  /upload                     the number of bytes of the request's body
  /echo?id=&size=&ms=         a body that belongs to the id; 422 if another one was sent
  /grow?mb=                   keep this many more megabytes
  /sse?n=&ms=                 n server-sent events, one each ms milliseconds
  /trailers                   a chunked answer with a trailer
  /ws                         a WebSocket that echoes
  /count                      requests and POSTs so far, without those for health
  /headers /pid /env          the request's headers, the process, its environment
  /hang /spin /exit?code=     misbehave
`;

/** The flags of `argv` (without program name), or what is wrong with them, or "help". */
export function parseFlags(argv: readonly string[]): Flags | "help" | Error {
  try {
    return readFlags(argv);
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
}

function readFlags(argv: readonly string[]): Flags | "help" {
  const { values } = parseArgs({
    args: [...argv],
    strict: true,
    options: {
      help: { type: "boolean", short: "h" },
      "exit-after": { type: "string", short: "t" },
      "exit-code": { type: "string" },
      "ignore-signals": { type: "boolean", short: "i" },
      "signal-timeout": { type: "string", short: "o" },
      "log-fixed": { type: "string", short: "f" },
      "log-lines": { type: "string" },
      "log-size": { type: "string", short: "l" },
      "log-interval": { type: "string", short: "k" },
      "log-error": { type: "boolean", short: "e" },
      "log-structured": { type: "boolean", short: "j" },
      flood: { type: "boolean" },
      "half-line": { type: "boolean" },
      port: { type: "string", short: "p" },
      host: { type: "string" },
      reuseport: { type: "boolean" },
      socket: { type: "string" },
      fd: { type: "string" },
      "slow-boot": { type: "string" },
      "flap-health": { type: "string" },
      "never-ready": { type: "boolean" },
      "ready-after": { type: "string" },
      block: { type: "string" },
      mixed: { type: "boolean" },
      keepalive: { type: "string" },
      "reset-every": { type: "string" },
      drain: { type: "string" },
      hang: { type: "boolean" },
      spin: { type: "boolean" },
      leak: { type: "string" },
      grandchildren: { type: "string" },
      "grandchild-ignores-term": { type: "boolean" },
      "grandchild-setsid": { type: "boolean" },
      "grandchild-spin": { type: "boolean" },
      "print-env": { type: "boolean" },
      ledger: { type: "string" },
    },
  });
  if (values.help === true) return "help";
  return {
    exitAfterMs: toMs("exit-after", values["exit-after"]),
    exitCode: toNumber("exit-code", values["exit-code"]) ?? 0,
    ignoreSignals: values["ignore-signals"] ?? false,
    signalDelayMs: toMs("signal-timeout", values["signal-timeout"]) ?? 0,
    logText: values["log-fixed"] || undefined,
    logLines: toNumber("log-lines", values["log-lines"]),
    logLineBytes: toNumber("log-size", values["log-size"]) ?? 150,
    logIntervalMs: toMs("log-interval", values["log-interval"]),
    logToStderr: values["log-error"] ?? false,
    logStructured: values["log-structured"] ?? false,
    flood: values.flood ?? false,
    halfLine: values["half-line"] ?? false,
    host: values.host,
    port: toNumber("port", values.port),
    reusePort: values.reuseport ?? false,
    socketPath: values.socket,
    fd: toNumber("fd", values.fd),
    slowBootMs: toMs("slow-boot", values["slow-boot"]) ?? 0,
    flapEvery: toNumber("flap-health", values["flap-health"]) ?? 0,
    neverReady: values["never-ready"] ?? false,
    readyAfterMs: toMs("ready-after", values["ready-after"]) ?? 0,
    blockMs: toMs("block", values.block) ?? 0,
    mixed: values.mixed ?? false,
    keepaliveMs: toMs("keepalive", values.keepalive),
    resetEvery: toNumber("reset-every", values["reset-every"]) ?? 0,
    drainMs: toMs("drain", values.drain) ?? 0,
    hang: values.hang ?? false,
    spin: values.spin ?? false,
    leakBytesPerSecond: (toNumber("leak", values.leak) ?? 0) * 1e6,
    grandchildren: toNumber("grandchildren", values.grandchildren) ?? 0,
    grandchildIgnoresTerm: values["grandchild-ignores-term"] ?? false,
    grandchildSetsid: values["grandchild-setsid"] ?? false,
    grandchildSpins: values["grandchild-spin"] ?? false,
    printEnv: values["print-env"] ?? false,
    ledgerPath: values.ledger,
  };
}

function toNumber(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || value < 0) {
    throw new Error(`--${flag}: "${text}" is not a number from 0 on`);
  }
  return value;
}

/** Milliseconds of a plain number of seconds or of a duration such as "500ms". */
function toMs(flag: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const ms = parseDuration(text) ?? Number(text) * 1000;
  if (text.trim() === "" || !Number.isFinite(ms) || ms < 0) {
    throw new Error(`--${flag}: "${text}" is neither seconds nor a duration`);
  }
  return ms;
}
