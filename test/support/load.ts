/**
 * A load client: n connections over raw sockets (TCP or Unix), each of which sends its next request after the previous
 * response, and classifies each outcome. As a program, `node test/support/load.ts '<LoadOptions as JSON>'` prints the
 * report as JSON at the end of the load or at SIGTERM.
 *
 * Invariants: a connection has at most one request in flight, each request has exactly one outcome, and nothing is
 * retried. A connection that the server closes while it is idle, or after `Connection: close`, is reopened without a
 * failure. A request that was sent before the FIN arrived is a failure, as it is for users.
 */
import { connect, type Socket } from "node:net";
import { ResponseReader } from "./httpResponse.ts";
import { type Failure, LoadRecorder, type LoadReport } from "./loadReport.ts";

export type LoadTarget = { readonly port: number; readonly host?: string } | { readonly socketPath: string };

/** One kind of request. Kinds are chosen by weight. */
export interface RequestKind {
  readonly path: string;
  /** GET by default. */
  readonly method?: string;
  readonly body?: string;
  readonly headers?: Readonly<Record<string, string>>;
  /** 1 by default. */
  readonly weight?: number;
  /** Latencies are also reported by this label. */
  readonly label?: string;
}

export interface LoadOptions {
  readonly target: LoadTarget;
  readonly connections: number;
  /** A new connection for each request; by default connections are kept alive. */
  readonly isConnectionPerRequest?: boolean;
  /** Requests to send; `GET /` by default. */
  readonly requests?: readonly RequestKind[];
  /** Time limit of a request, from connecting to its last byte; 10 s by default. */
  readonly timeoutMs?: number;
  /** Pause between an answer and the next request, chosen between both values; none by default. */
  readonly pauseMs?: readonly [min: number, max: number];
  /** The load ends after this time or number of requests, or when it is stopped. */
  readonly durationMs?: number;
  readonly maxRequests?: number;
  /** Header that names the worker, `x-worker-id` by default. */
  readonly workerHeader?: string;
  /** Pattern whose first group is the worker in the first bytes of the body; replaces the header. */
  readonly workerPattern?: string;
  /** Whether the report contains the distribution of latencies. */
  readonly withDistribution?: boolean;
  readonly seed?: number;
}

/** Disposing of it aborts requests in flight, so that a failed test leaves nothing behind. */
export interface Load extends Disposable {
  /** The report so far. */
  readonly report: LoadReport;
  /** Resolves at the end of the load, at its limits or by `stop`. */
  readonly finished: Promise<LoadReport>;
  /** Sends no further request and waits for those in flight. */
  stop(): Promise<LoadReport>;
  /** Resolves when this number of requests have an outcome, or the load has ended. */
  reached(requests: number): Promise<void>;
}

const DEFAULT_TIMEOUT_MS = 10_000;
/** Minimum interval between attempts of a connection that is refused. */
const REFUSED_PAUSE_MS = 10;

interface Prepared {
  readonly path: string;
  readonly bytes: Buffer;
  readonly label: string | undefined;
  /** Upper end of the kind's range in 0 … 1. */
  readonly upTo: number;
}

/** Starts a load. */
export function startLoad(options: LoadOptions): Load {
  return new LoadRun(options);
}

class LoadRun implements Load {
  readonly options: LoadOptions;
  readonly recorder: LoadRecorder;
  readonly finished: Promise<LoadReport>;
  readonly workerHeader: string;
  readonly workerPattern: RegExp | undefined;
  readonly #kinds: readonly Prepared[];
  readonly #clients: Client[];
  readonly #watch: NodeJS.Timeout;
  readonly #end: NodeJS.Timeout | undefined;
  readonly #waiting: { readonly requests: number; readonly wake: () => void }[] = [];
  readonly #closing = new Set<Socket>();
  #random: number;
  #begun = 0;
  #done = 0;
  #active: number;
  #isStopping = false;
  #finish: (report: LoadReport) => void = () => {};

  constructor(options: LoadOptions) {
    this.options = options;
    this.recorder = new LoadRecorder(options.withDistribution ?? false);
    this.workerHeader = (options.workerHeader ?? "x-worker-id").toLowerCase();
    this.workerPattern = options.workerPattern === undefined ? undefined : new RegExp(options.workerPattern, "u");
    this.#kinds = prepare(options);
    this.#random = (options.seed ?? 1) >>> 0;
    this.finished = new Promise((resolve) => {
      this.#finish = resolve;
    });
    const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    this.#watch = setInterval(
      () => {
        const before = performance.now() - timeoutMs;
        for (const client of this.#clients) client.expire(before);
      },
      Math.max(5, Math.min(50, timeoutMs / 10)),
    );
    if (options.durationMs !== undefined) this.#end = setTimeout(() => void this.stop(), options.durationMs);
    this.#active = options.connections;
    this.#clients = Array.from({ length: options.connections }, () => new Client(this));
    for (const client of this.#clients) client.next();
  }

  get report(): LoadReport {
    return this.recorder.report();
  }

  stop(): Promise<LoadReport> {
    this.#isStopping = true;
    for (const client of this.#clients) client.stopIfIdle();
    return this.finished;
  }

  [Symbol.dispose](): void {
    this.#isStopping = true;
    for (const client of this.#clients) client.abandon();
  }

  async reached(requests: number): Promise<void> {
    if (this.#done >= requests || this.#active === 0) return;
    await new Promise<void>((wake) => {
      this.#waiting.push({ requests, wake });
    });
  }

  /** The next request to send; undefined at the end of the load. */
  take(): Prepared | undefined {
    if (this.isOver()) return undefined;
    this.#begun++;
    if (this.#kinds.length === 1) return this.#kinds[0];
    const drawn = this.random();
    return this.#kinds.find((kind) => drawn < kind.upTo) ?? this.#kinds.at(-1);
  }

  /** Whether no further request may be sent. */
  isOver(): boolean {
    return this.#isStopping || this.#begun >= (this.options.maxRequests ?? Number.POSITIVE_INFINITY);
  }

  /** The next random number in 0 … 1 (mulberry32). */
  random(): number {
    this.#random = (this.#random + 0x6d2b79f5) >>> 0;
    let value = this.#random;
    value = Math.imul(value ^ (value >>> 15), value | 1);
    value ^= value + Math.imul(value ^ (value >>> 7), value | 61);
    return ((value ^ (value >>> 14)) >>> 0) / 4_294_967_296;
  }

  /** Closes a connection. The end of the load does not wait for the server's FIN. */
  close(socket: Socket): void {
    this.#closing.add(socket);
    socket.once("close", () => this.#closing.delete(socket));
    socket.end();
  }

  requestEnded(): void {
    this.#done++;
    if (this.#waiting.length > 0) this.#wake((requests) => requests <= this.#done);
  }

  clientEnded(): void {
    this.#active--;
    if (this.#active > 0) return;
    clearInterval(this.#watch);
    clearTimeout(this.#end);
    for (const socket of this.#closing) socket.destroy();
    this.recorder.ended();
    this.#wake(() => true);
    this.#finish(this.recorder.report());
  }

  #wake(isReached: (requests: number) => boolean): void {
    for (const entry of this.#waiting.splice(0)) {
      if (isReached(entry.requests)) entry.wake();
      else this.#waiting.push(entry);
    }
  }
}

function prepare(options: LoadOptions): Prepared[] {
  const kinds = options.requests ?? [{ path: "/" }];
  const total = kinds.reduce((sum, kind) => sum + (kind.weight ?? 1), 0);
  let upTo = 0;
  return kinds.map((kind) => {
    upTo += (kind.weight ?? 1) / total;
    const body = Buffer.from(kind.body ?? "");
    const headers: Record<string, string> = {
      host: "localhost",
      ...(options.isConnectionPerRequest === true ? { connection: "close" } : {}),
      ...(kind.body === undefined ? {} : { "content-length": String(body.length) }),
      ...kind.headers,
    };
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
    const head = Buffer.from(`${kind.method ?? "GET"} ${kind.path} HTTP/1.1\r\n${lines.join("")}\r\n`, "latin1");
    return { path: kind.path, bytes: Buffer.concat([head, body]), label: kind.label, upTo };
  });
}

/** One client with one connection at a time. */
class Client {
  readonly #run: LoadRun;
  readonly #reader = new ResponseReader();
  #socket: Socket | undefined;
  #isConnected = false;
  #isReused = false;
  /** The request in flight or waiting for its connection. */
  #request: Prepared | undefined;
  #requestedAt = 0;
  #pause: NodeJS.Timeout | undefined;
  #hasEnded = false;

  constructor(run: LoadRun) {
    this.#run = run;
  }

  next(): void {
    this.#pause = undefined;
    const request = this.#run.take();
    if (request === undefined) {
      this.#leave();
      return;
    }
    this.#request = request;
    this.#requestedAt = performance.now();
    this.#reader.reset();
    if (this.#socket === undefined) this.#connect();
    else this.#socket.write(request.bytes);
  }

  stopIfIdle(): void {
    if (this.#request !== undefined || this.#hasEnded) return;
    clearTimeout(this.#pause);
    this.#leave();
  }

  /** Ends at once. A request in flight has no outcome. */
  abandon(): void {
    clearTimeout(this.#pause);
    this.#request = undefined;
    this.#leave();
  }

  /** Fails the request in flight if it was begun before this time. */
  expire(before: number): void {
    if (this.#request === undefined || this.#requestedAt >= before) return;
    const where = !this.#isConnected ? "not connected" : this.#reader.hasBegun ? "response begun" : "no response";
    this.#fail("timeout", where);
  }

  #connect(): void {
    const { target } = this.#run.options;
    const socket =
      "socketPath" in target
        ? connect({ path: target.socketPath })
        : connect({ port: target.port, host: target.host ?? "127.0.0.1", noDelay: true });
    this.#socket = socket;
    this.#isConnected = false;
    this.#isReused = false;
    // A socket that this client has dropped may still emit events.
    const ifCurrent =
      <Args extends unknown[]>(handle: (...args: Args) => void) =>
      (...args: Args): void => {
        if (this.#socket === socket) handle(...args);
      };
    socket.on(
      "connect",
      ifCurrent(() => {
        this.#isConnected = true;
        this.#run.recorder.connectionsOpened++;
        if (this.#request !== undefined) socket.write(this.#request.bytes);
      }),
    );
    socket.on(
      "data",
      ifCurrent((chunk: Buffer) => this.#read(chunk)),
    );
    socket.on(
      "end",
      ifCurrent(() => this.#closed()),
    );
    socket.on(
      "error",
      ifCurrent((error: NodeJS.ErrnoException) => this.#broken(error.code ?? error.message)),
    );
    // After an error or the FIN the socket is no longer current, so this is a close without either.
    socket.on(
      "close",
      ifCurrent(() => this.#broken("closed")),
    );
  }

  #read(chunk: Buffer): void {
    if (this.#request === undefined) {
      // Some servers send a 408 before they close an idle connection.
      this.#run.recorder.idleCloses++;
      this.#drop();
      return;
    }
    const state = this.#reader.push(chunk);
    if (state === "done") this.#answered();
    else if (state === "malformed") this.#fail("malformed", this.#described(chunk.toString("latin1", 0, 200)));
  }

  /** The server's FIN. */
  #closed(): void {
    if (this.#request === undefined) {
      this.#run.recorder.idleCloses++;
      this.#drop();
    } else if (!this.#reader.hasBegun) this.#fail("closedBeforeResponse", "FIN");
    else if (this.#reader.isEndedByClose()) this.#answered();
    else this.#fail("shortBody", this.#described(`FIN after ${this.#reader.bodyBytes} bytes of the body`));
  }

  #broken(code: string): void {
    if (this.#request === undefined) {
      this.#run.recorder.idleCloses++;
      this.#drop();
    } else if (this.#isConnected) {
      if (this.#reader.hasBegun) this.#fail("resetMidResponse", this.#described(code));
      else this.#fail("resetBeforeResponse", code);
    } else if (code === "ECONNREFUSED" || code === "ENOENT") this.#fail("refused", code);
    else if (code === "ECONNRESET") this.#fail("resetBeforeResponse", code);
    else this.#fail("connectFailed", code);
  }

  #answered(): void {
    const { status } = this.#reader;
    if (status >= 500) this.#fail("serverError", this.#described(), false);
    else if (status < 200 || status >= 400) this.#fail("otherStatus", this.#described(), false);
    else {
      const now = performance.now();
      const label = this.#request?.label;
      this.#run.recorder.answered(now - this.#requestedAt, performance.timeOrigin + now, label, this.#worker());
      this.#settled();
    }
  }

  /** `isBroken`: the connection cannot be reused. */
  #fail(outcome: Failure["outcome"], detail: string, isBroken = true): void {
    const origin = performance.timeOrigin;
    this.#run.recorder.failed({
      outcome,
      sentAt: origin + this.#requestedAt,
      failedAt: origin + performance.now(),
      isReused: this.#isReused,
      path: this.#request?.path ?? "",
      detail,
    });
    if (isBroken) this.#drop();
    this.#settled(outcome === "refused" || outcome === "connectFailed" ? REFUSED_PAUSE_MS : 0);
  }

  #settled(leastPauseMs = 0): void {
    this.#request = undefined;
    this.#isReused = true;
    const { isConnectionPerRequest = false, pauseMs } = this.#run.options;
    const socket = this.#socket;
    if (socket !== undefined && (isConnectionPerRequest || !this.#reader.isKeptAlive)) {
      this.#socket = undefined;
      this.#run.close(socket);
    }
    this.#run.requestEnded();
    const drawn = pauseMs === undefined ? 0 : pauseMs[0] + this.#run.random() * (pauseMs[1] - pauseMs[0]);
    const waitMs = Math.max(leastPauseMs, drawn);
    if (waitMs === 0 || this.#run.isOver()) this.next();
    else this.#pause = setTimeout(() => this.next(), waitMs);
  }

  #worker(): string | undefined {
    const { workerHeader, workerPattern } = this.#run;
    if (workerPattern !== undefined) return workerPattern.exec(this.#reader.body)?.[1];
    return this.#reader.header(workerHeader);
  }

  #described(problem?: string): string {
    const head = this.#reader.head.replaceAll("\r\n", " | ");
    return [problem, head, this.#reader.body].filter((part) => part !== undefined && part !== "").join(" || ");
  }

  /** Destroys the connection. */
  #drop(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.destroy();
  }

  #leave(): void {
    if (this.#hasEnded) return;
    this.#hasEnded = true;
    this.#drop();
    this.#run.clientEnded();
  }
}

if (import.meta.main) {
  const load = startLoad(JSON.parse(process.argv[2] ?? "{}") as LoadOptions);
  process.on("SIGTERM", () => void load.stop());
  process.stdout.write(`${JSON.stringify(await load.finished)}\n`);
}
