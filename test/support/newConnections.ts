/** Clients that open a new connection for each request and classify its outcome. */
import { connect, type NetConnectOpts } from "node:net";

/** Outcomes of requests. */
export interface Outcome {
  answered: number;
  /** The connection was refused. */
  refused: number;
  /** The connection was established and ended before the complete answer. */
  cut: number;
  /** Answers by worker id. */
  readonly byWorker: Map<string, number>;
  /** The first errors, for assertion messages. */
  readonly errors: string[];
}

const REQUEST = "GET /pid HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";

/** The outcome of no requests. */
export function newOutcome(): Outcome {
  return { answered: 0, refused: 0, cut: 0, byWorker: new Map(), errors: [] };
}

/** Sends one request on a connection of its own and adds its outcome. The connection leaves no TIME_WAIT behind. */
export function requestOnce(target: NetConnectOpts, outcome: Outcome): Promise<void> {
  return new Promise((done) => {
    let isConnected = false;
    let isOver = false;
    let text = "";
    const socket = connect(target);
    const settle = (kind: "answered" | "refused" | "cut", why = "") => {
      if (isOver) return;
      isOver = true;
      outcome[kind]++;
      if (why !== "" && outcome.errors.length < 10) outcome.errors.push(why);
      const worker = /"worker_id":"([^"]*)"/u.exec(text)?.[1];
      if (worker !== undefined) outcome.byWorker.set(worker, (outcome.byWorker.get(worker) ?? 0) + 1);
      if (isConnected && "port" in target) socket.resetAndDestroy();
      else socket.destroy();
      done();
    };
    socket.on("connect", () => {
      isConnected = true;
      socket.write(REQUEST);
    });
    socket.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      if (/"worker_id":"[^"]*"\}/u.test(text)) settle("answered");
    });
    socket.on("error", (error: NodeJS.ErrnoException) =>
      settle(isConnected ? "cut" : "refused", error.code ?? error.message),
    );
    socket.on("close", () => settle(isConnected ? "cut" : "refused", "closed"));
  });
}

/** A load that continues until it is stopped. */
export class Load {
  readonly outcome = newOutcome();
  readonly #clients: Promise<void>[];
  #isStopped = false;

  constructor(target: NetConnectOpts, clients: number) {
    this.#clients = Array.from({ length: clients }, async () => {
      while (!this.#isStopped) await requestOnce(target, this.outcome);
    });
  }

  /** Sends no further request and waits for those in flight. */
  async stop(): Promise<Outcome> {
    this.#isStopped = true;
    await Promise.all(this.#clients);
    return this.outcome;
  }
}

/** Sends `total` requests with `clients` concurrent clients. */
export async function requestMany(target: NetConnectOpts, total: number, clients: number): Promise<Outcome> {
  const outcome = newOutcome();
  let left = total;
  await Promise.all(
    Array.from({ length: clients }, async () => {
      while (left-- > 0) await requestOnce(target, outcome);
    }),
  );
  return outcome;
}
