/**
 * Client for a controller's control socket: JSON requests and the two event streams. Error responses become
 * ControllerErrors with the controller's code and message. Prints nothing.
 */
import { type IncomingMessage, request } from "node:http";
import { connect, type Socket } from "node:net";
import {
  type Action,
  type ApiError,
  type DumpRequest,
  type EventRecord,
  type LogFilesReopened,
  type LogLine,
  type Operation,
  type OperationAccepted,
  PATHS,
  PROFILE_HEADERS,
  type ProfileRequest,
  type ProfileSubject,
  type ReloadAccepted,
  type ReloadRequest,
  type ScaleRequest,
  type Status,
  type WorkerDump,
} from "../admin/api.ts";
import { ControllerError, codeOf, ERROR_CODES, type ErrorCode } from "../base/errors.ts";
import { isName } from "../core/identity.ts";
import { NO_CONTROLLER_HINT, type OpenSocket, SOCKET_PROBLEMS, type SocketTrust } from "./findSocket.ts";
import { SseParser } from "./sse.ts";

/** Time limit for the response of a listening controller. */
const ANSWER_TIMEOUT_MS = 10_000;

/** Time that a profile may take in addition to its duration. */
const PROFILE_SLACK_MS = 15_000;

/** Options of a stream. */
export interface FollowOptions {
  /** Called with the number of entries that the controller dropped because they were read too slowly. */
  readonly onLost?: (count: number) => Promise<void>;
  /** Ends the stream as if the controller had exited. */
  readonly signal?: AbortSignal;
}

/** A profile as received. */
export interface TakenProfile {
  readonly engine: string;
  /** Why the profile is shorter than requested; undefined if it is complete. */
  readonly note: string | undefined;
  /** The profiled process; undefined for the controller. */
  readonly pid: number | undefined;
  /** pprof, compressed with gzip. */
  readonly pprof: Buffer;
}

const NOT_A_CONTROLLER = "the response is not that of a controller; another program may listen there";

export class ControlClient {
  /** Path of the control socket. */
  readonly socketPath: string;
  readonly #timeoutMs: number;
  readonly #trust: SocketTrust | undefined;
  /** An open connection for the first request; later requests open their own. */
  #connection: Socket | undefined;

  constructor(socketPath: string, options: Partial<OpenSocket> & { readonly timeoutMs?: number } = {}) {
    this.socketPath = socketPath;
    this.#timeoutMs = options.timeoutMs ?? ANSWER_TIMEOUT_MS;
    this.#connection = options.connection;
    this.#trust = options.trust;
  }

  /** `extra` adds the resource usage and activity of each worker, or also its processes. @throws ControllerError NO_CONTROLLER */
  async status(extra?: "detail" | "processes"): Promise<Status> {
    const status = await this.#json<Status>("GET", extra === undefined ? PATHS.status : `${PATHS.status}?${extra}=1`);
    if ((status.pools as unknown) === undefined) throw this.#error(NOT_A_CONTROLLER);
    for (const { name, workers } of status.pools)
      for (const each of [name, ...workers.map(({ id }) => id)])
        if (!isName(each)) throw this.#error(`its status contains the invalid name ${JSON.stringify(each)}`);
    return status;
  }

  /** @throws ControllerError NO_CONTROLLER, REQUEST_REFUSED */
  async shutdown(): Promise<void> {
    await this.#json("POST", PATHS.shutdown);
  }

  /** Requests `action`. @throws ControllerError NO_CONTROLLER, POOL_UNKNOWN, WORKER_UNKNOWN, REQUEST_REFUSED */
  order(target: { kind: "pool" | "worker"; name: string }, action: Action): Promise<OperationAccepted> {
    return this.#json("POST", PATHS[target.kind](target.name, action));
  }

  /** @throws ControllerError NO_CONTROLLER, POOL_UNKNOWN, REQUEST_REFUSED */
  scale(pool: string, replicas: number): Promise<OperationAccepted> {
    return this.#json("POST", PATHS.pool(pool, "scale"), { replicas } satisfies ScaleRequest);
  }

  /** @throws ControllerError NO_CONTROLLER, CONFIG_INVALID and other errors of the file checks, REQUEST_REFUSED */
  reload(isDryRun: boolean): Promise<ReloadAccepted> {
    return this.#json("POST", PATHS.reload, { dry_run: isDryRun } satisfies ReloadRequest);
  }

  /** @throws ControllerError NO_CONTROLLER, OPERATION_UNKNOWN */
  operation(id: string): Promise<Operation> {
    return this.#json("GET", PATHS.operation(id));
  }

  /**
   * What the processes of a worker are doing, or only process `pid`.
   * @throws ControllerError NO_CONTROLLER, WORKER_UNKNOWN, PROCESS_UNKNOWN, REQUEST_REFUSED
   */
  dump(worker: string, pid: number | undefined): Promise<WorkerDump> {
    const body = pid === undefined ? undefined : ({ pid } satisfies DumpRequest);
    return this.#json("POST", PATHS.worker(worker, "dump"), body);
  }

  /**
   * Profiles the busiest process of a worker, or the chosen one.
   * @throws ControllerError NO_CONTROLLER, WORKER_UNKNOWN, PROCESS_UNKNOWN, REQUEST_INVALID, REQUEST_REFUSED
   */
  profileWorker(worker: string, body: ProfileRequest & { readonly seconds: number }): Promise<TakenProfile> {
    return this.#profile(PATHS.worker(worker, "profile"), body.seconds, body);
  }

  /** Profiles the controller. @throws ControllerError NO_CONTROLLER, REQUEST_INVALID, REQUEST_REFUSED */
  profileSelf(subject: ProfileSubject, seconds: number): Promise<TakenProfile> {
    return this.#profile(`${PATHS.selfProfile(subject)}?seconds=${seconds}`, seconds);
  }

  async #profile(path: string, seconds: number, body?: object): Promise<TakenProfile> {
    const timeoutMs = seconds * 1000 + PROFILE_SLACK_MS;
    // Latin-1 maps each byte to one character.
    const response = await this.#send("POST", path, body, { timeoutMs, encoding: "latin1" });
    const header = (name: keyof typeof PROFILE_HEADERS) => response.headers[PROFILE_HEADERS[name]]?.toString();
    const pid = header("pid");
    return {
      engine: header("engine") ?? "",
      note: header("note"),
      pid: pid === undefined ? undefined : Number(pid),
      pprof: Buffer.from(await this.#text(response), "latin1"),
    };
  }

  /** Lifecycle events after number `since`; with `isFollowing` also new ones, until the controller exits. */
  events(options: { since: number; isFollowing: boolean } & FollowOptions): AsyncIterable<EventRecord> {
    const query = new URLSearchParams({ since: String(options.since) });
    if (!options.isFollowing) query.set("follow", "0");
    return this.#stream<EventRecord>(`${PATHS.events}?${query}`, options.isFollowing, options);
  }

  /** Log lines as the controller writes them, until it exits. */
  logs(options: FollowOptions = {}): AsyncIterable<LogLine> {
    return this.#stream<LogLine>(PATHS.logs, true, options);
  }

  /** Opens all log files again. @throws ControllerError NO_CONTROLLER, LOG_FILE_FAILED */
  async reopenLogFiles(): Promise<LogFilesReopened["files"]> {
    return (await this.#json<LogFilesReopened>("POST", PATHS.logsReopen)).files;
  }

  async *#stream<Entry>(path: string, isFollowing: boolean, options: FollowOptions): AsyncGenerator<Entry> {
    const { onLost, signal } = options;
    const response = await this.#send("GET", path);
    const leave = () => response.destroy();
    signal?.addEventListener("abort", leave);
    if (signal?.aborted === true) leave();
    const parser = new SseParser();
    try {
      for await (const chunk of response as AsyncIterable<string>) {
        for (const { event, data } of parser.push(chunk)) {
          if (event === "message") yield JSON.parse(data) as Entry;
          else if (event === "lost") await onLost?.((JSON.parse(data) as { lost: number }).lost);
        }
      }
    } catch (error) {
      // A controller that exits cuts off its streams; for a follower, that is the normal end.
      if (!isGone(error) && signal?.aborted !== true) throw error;
      if (!isFollowing) throw this.#gone(error);
    } finally {
      signal?.removeEventListener("abort", leave);
      response.destroy();
    }
  }

  async #json<Body>(method: "GET" | "POST", path: string, body?: object): Promise<Body> {
    const parsed = parseBody(await this.#text(await this.#send(method, path, body)));
    if (typeof parsed !== "object" || parsed === null) throw this.#error(NOT_A_CONTROLLER);
    return parsed as Body;
  }

  /** Uses events, because async iteration also waits for the connection to close. */
  #text(response: IncomingMessage): Promise<string> {
    return new Promise((resolve, reject) => {
      let text = "";
      response.on("data", (chunk: string) => {
        text += chunk;
      });
      response.once("end", () => resolve(text));
      response.once("error", (error) => reject(isGone(error) ? this.#gone(error) : error));
    });
  }

  /** Sends a request and resolves with a 2xx response, whose body is to be read as text. */
  async #send(
    method: "GET" | "POST",
    path: string,
    body?: object,
    options: { readonly timeoutMs?: number; readonly encoding?: "utf8" | "latin1" } = {},
  ): Promise<IncomingMessage> {
    const { timeoutMs = this.#timeoutMs, encoding = "utf8" } = options;
    const text = body === undefined ? undefined : JSON.stringify(body);
    const response = await new Promise<IncomingMessage>((resolve, reject) => {
      const headers = text === undefined ? {} : { "content-type": "application/json" };
      // Use no agent: it would look up the TLS server name first and compile large patterns for that.
      const createConnection = () => this.#connect();
      const call = request({ createConnection, method, path, headers });
      const timer = setTimeout(() => {
        reject(this.#error(`no response within ${timeoutMs / 1000} s`));
        call.destroy();
      }, timeoutMs);
      call.once("response", (answer) => {
        clearTimeout(timer);
        resolve(answer);
      });
      // Several errors may occur; only the first counts, but each needs a listener.
      call.on("error", (error) => {
        clearTimeout(timer);
        reject(this.#gone(error));
      });
      call.end(text);
    });
    const status = response.statusCode ?? 0;
    const isGood = status >= 200 && status < 300;
    response.setEncoding(isGood ? encoding : "utf8");
    if (isGood) return response;
    throw errorOf(status, parseBody(await this.#text(response)));
  }

  /** An open connection; it closes before anything is sent if an untrusted process has bound the path. */
  #connect(): Socket {
    const first = this.#connection;
    this.#connection = undefined;
    if (first?.destroyed === false) return first.ref();
    const socket = connect(this.socketPath);
    // Registered before the request's own "connect" listener, which sends the request.
    socket.once("connect", () => {
      const stranger = this.#trust?.peerDistrustOf(socket, this.socketPath);
      if (stranger !== undefined) socket.destroy(new Error(stranger));
    });
    return socket;
  }

  #gone(cause: unknown): ControllerError {
    return this.#error(SOCKET_PROBLEMS[codeOf(cause) ?? ""] ?? "the controller closed the connection", cause);
  }

  #error(what: string, cause?: unknown): ControllerError {
    const message = `Cannot reach the controller at ${this.socketPath}: ${what}`;
    return new ControllerError("NO_CONTROLLER", message, { cause, hint: NO_CONTROLLER_HINT });
  }
}

function isGone(error: unknown): boolean {
  return codeOf(error) === "ECONNRESET" || codeOf(error) === "EPIPE";
}

function parseBody(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** The error in a response. A controller of another version may use codes unknown to this one. */
function errorOf(status: number, body: unknown): ControllerError {
  const { code, message } = (body as Partial<ApiError> | undefined)?.error ?? {};
  if (code === undefined || message === undefined) {
    return new ControllerError(
      "REQUEST_REFUSED",
      `The controller answered with HTTP status ${status} and no error message`,
    );
  }
  const isKnown = Object.hasOwn(ERROR_CODES, code);
  return new ControllerError(
    isKnown ? (code as ErrorCode) : "REQUEST_REFUSED",
    isKnown ? message : `${code}: ${message}`,
  );
}

/** The response, or undefined if the controller has exited; watchers then end normally. */
export async function unlessGone<T>(response: Promise<T>): Promise<T | undefined> {
  try {
    return await response;
  } catch (error) {
    // A timeout has no cause: the controller still runs but does not respond, so report it.
    if (error instanceof ControllerError && error.code === "NO_CONTROLLER" && error.cause !== undefined)
      return undefined;
    throw error;
  }
}
