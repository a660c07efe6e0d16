/**
 * The load client of a chaos run. Every request has its own id and exactly one outcome, nothing is retried, and each answer
 * is compared with the expected bytes for its id. Times are monotonic.
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
/** Pause after a failed request. */
const FAILED_PAUSE_MS = 50;

/** A request that failed. */
export interface FailedRequest {
  readonly id: number;
  readonly pool: PoolName;
  readonly sentAt: number;
  readonly failedAt: number;
  readonly why: string;
}

/** A complete but wrong answer, which is never excused. */
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
  readonly wrong: (problem: string) => void;
}

/** A client that sends one request after another. */
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
    // Without a proxy, a server that stops may close an idle connection just when a request is sent.
    this.#agent = PROXIED.includes(options.pool) ? new Agent({ keepAlive: true, maxSockets: 1 }) : false;
    this.#ended = this.#run();
  }

  /** Resolves when the request in flight has its outcome. */
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
        await this.#send(id);
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

  #send(id: number): Promise<void> {
    const random = this.#random;
    const isPost = random.chance(0.4);
    const isSlow = random.chance(0.01);
    const size = isSlow ? SLOW_ANSWER_BYTES : random.between(0, random.chance(0.8) ? 500 : MAX_ANSWER_BYTES);
    const ms = random.chance(0.7) ? 0 : random.between(1, MAX_WORK_MS);
    const sent = isPost ? echoBody(id, random.between(0, MAX_SENT_BYTES)) : Buffer.alloc(0);
    return new Promise((done, fail) => {
      let isAnswered = false;
      const message = request(
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
      const late = setTimeout(() => message.destroy(new Error(`no answer within ${TIMEOUT_MS} ms`)), TIMEOUT_MS);
      message.on("error", fail);
      message.on("close", () => {
        clearTimeout(late);
        if (!isAnswered) fail(new Error("closed without an answer"));
      });
      message.end(sent);
    });
  }
}

/** Reads an answer completely. Rejects if it is an error, incomplete or wrong. */
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
    // Only the proxy may answer with an error, if it has no worker. An answer from a worker must be correct.
    throw headers["x-worker-id"] === undefined && statusCode >= 500 ? new Error(text) : new WrongAnswer(text);
  }
  if (!body.equals(echoBody(id, size))) {
    const start = body.toString("latin1", 0, 40);
    throw new WrongAnswer(`a wrong body of ${body.length} bytes, expected ${size}: ${JSON.stringify(start)}`);
  }
}
