/**
 * The load client of a chaos run. Every request has an id of its own and exactly one outcome, nothing is retried, and each
 * byte of an answer is compared with what belongs to its id. Times are monotonic.
 */
import { Agent, type IncomingMessage, request } from "node:http";
import { echoBody } from "../../cmd/processbin/echo.ts";
import { SeededRandom } from "../support/random.ts";
import { type PoolName, PROXIED } from "./pools.ts";

const TIMEOUT_MS = 40_000;
const MAX_WORK_MS = 60;
const MAX_ANSWER_BYTES = 40_000;
const MAX_SENT_BYTES = 40_000;
/** A slow reader takes an answer of this size in pieces, with a pause after each. */
const SLOW_ANSWER_BYTES = 1_000_000;
const SLOW_PAUSE_MS = 25;
/** A client that was refused waits before it asks again. */
const FAILED_PAUSE_MS = 50;

/** A request without an answer. */
export interface FailedRequest {
  readonly id: number;
  readonly pool: PoolName;
  readonly sentAt: number;
  readonly failedAt: number;
  readonly why: string;
}

/** An answer that is complete and not what was asked for; it has no excuse. */
class WrongAnswer extends Error {}

export interface ClientOptions {
  readonly pool: PoolName;
  readonly port: number;
  readonly seed: number;
  /** Longest pause between two requests. */
  readonly pauseMs: number;
  readonly nextId: () => number;
  readonly answered: () => void;
  readonly failed: (request: FailedRequest) => void;
  readonly wrong: (what: string) => void;
}

/** One connection's worth of requests, one after the other. */
export class Client {
  readonly #options: ClientOptions;
  readonly #random: SeededRandom;
  readonly #agent: Agent | false;
  readonly #ended: Promise<void>;
  #isStopping = false;
  #wake: () => void = () => {};

  constructor(options: ClientOptions) {
    this.#options = options;
    this.#random = new SeededRandom(options.seed);
    // A server that stops may close an idle connection at the moment of a request; only a proxy keeps that from clients.
    this.#agent = PROXIED.includes(options.pool) ? new Agent({ keepAlive: true, maxSockets: 1 }) : false;
    this.#ended = this.#run();
  }

  /** Resolves when the request that runs has its outcome. */
  async stop(): Promise<void> {
    this.#isStopping = true;
    this.#wake();
    await this.#ended;
    if (this.#agent !== false) this.#agent.destroy();
  }

  async #run(): Promise<void> {
    const { pool, pauseMs, nextId, answered, failed, wrong } = this.#options;
    while (!this.#isStopping) {
      const id = nextId();
      const sentAt = performance.now();
      let pause = this.#random.next() * pauseMs;
      try {
        await this.#ask(id);
        answered();
      } catch (error) {
        const why = error instanceof Error ? error.message : String(error);
        if (error instanceof WrongAnswer) wrong(`request ${id} of pool ${pool}: ${why}`);
        else failed({ id, pool, sentAt, failedAt: performance.now(), why });
        pause += FAILED_PAUSE_MS;
      }
      await new Promise<void>((wake) => {
        this.#wake = wake;
        setTimeout(wake, pause);
      });
    }
  }

  #ask(id: number): Promise<void> {
    const random = this.#random;
    const isPost = random.chance(0.4);
    const isSlow = random.chance(0.01);
    const size = isSlow ? SLOW_ANSWER_BYTES : random.between(0, random.chance(0.8) ? 500 : MAX_ANSWER_BYTES);
    const ms = random.chance(0.7) ? 0 : random.between(1, MAX_WORK_MS);
    const sent = isPost ? echoBody(id, random.between(0, MAX_SENT_BYTES)) : Buffer.alloc(0);
    return new Promise((done, fail) => {
      let isAnswered = false;
      const asked = request(
        {
          host: "127.0.0.1",
          port: this.#options.port,
          method: isPost ? "POST" : "GET",
          path: `/echo?id=${id}&size=${size}&ms=${ms}`,
          headers: { "content-length": sent.length },
          agent: this.#agent,
        },
        (response) => {
          isAnswered = true;
          judge(response, id, size, isSlow).then(done, fail);
        },
      );
      const late = setTimeout(() => asked.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)), TIMEOUT_MS);
      asked.on("error", fail);
      asked.on("close", () => {
        clearTimeout(late);
        if (!isAnswered) fail(new Error("closed without an answer"));
      });
      asked.end(sent);
    });
  }
}

/** Reads an answer to its end; rejects if it is a failure, broken off, or wrong. */
async function judge(response: IncomingMessage, id: number, size: number, isSlow: boolean): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of response as AsyncIterable<Buffer>) {
    chunks.push(chunk);
    if (isSlow) await new Promise((wake) => setTimeout(wake, SLOW_PAUSE_MS));
  }
  const body = Buffer.concat(chunks);
  const { statusCode = 0, headers } = response;
  if (statusCode !== 200) {
    const text = `status ${statusCode}: ${body.toString("utf8", 0, 200).trim()}`;
    // Only a proxy that has no worker answers for it; an answer of a worker must be right.
    throw headers["x-worker-id"] === undefined && statusCode >= 500 ? new Error(text) : new WrongAnswer(text);
  }
  if (!body.equals(echoBody(id, size))) {
    const start = body.toString("latin1", 0, 40);
    throw new WrongAnswer(
      `a body of ${body.length} instead of ${size} bytes, or another one: ${JSON.stringify(start)}`,
    );
  }
}
