/**
 * A fake admin API on a Unix socket in a temporary directory, for tests of the CLI. It gives configured answers and
 * records the requests.
 */
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer, type Server, type ServerResponse } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type {
  EventRecord,
  OperationAccepted,
  ProcessDump,
  Status,
  WorkerDetail,
  WorkerDump,
  WorkerStatus,
} from "../../src/admin/api.ts";
import { describeEvent } from "../../src/core/describe.ts";
import type { LifecycleEvent, OperationKind, WideLifecycleEvent } from "../../src/core/event.ts";

/** The detail of a worker. */
export function workerDetail(changes: Partial<WorkerDetail> = {}): WorkerDetail {
  return {
    cpu_seconds: 12.5,
    rss_bytes: 64 << 20,
    process_count: 1,
    open_fds: 17,
    max_fds: 1024,
    requests_total: 1000,
    failed_requests_total: 1,
    requests_in_flight: 2,
    cpu_ratio: 0.25,
    requests_per_second: 10,
    ...changes,
  };
}

/** The dump of a worker. */
export function workerDump(changes: Partial<WorkerDump> = {}): WorkerDump {
  return {
    id: "web-0",
    pool: "web",
    phase: "ready",
    incarnation: 1,
    pid: 4711,
    text: "sleeping in futex, 0 % of a core during 100ms: python3 app.py",
    process_count: 1,
    processes: [processDump()],
    ...changes,
  };
}

/** The dump of a worker's only process. */
export function processDump(changes: Partial<ProcessDump> = {}): ProcessDump {
  return {
    pid: 4711,
    parent_pid: 12,
    relation: "the leader",
    text: "sleeping in futex, 0 % of a core during 100ms: python3 app.py",
    diagnosis: {
      command: "python3 app.py",
      thread_count: 1,
      threads: [{ tid: 4711, name: "python3", state: "S", waits_in: "futex_wait", syscall: "futex" }],
      open_fds: 7,
      rss_bytes: 64 << 20,
      cpu_seconds: 12.5,
      cpu_ratio: 0,
    },
    kernel_stack: ["futex_wait+0x1/0x2"],
    stack: { engine: "py-spy", text: 'Thread 4711 (idle): "MainThread"\n    wait (queue.py:7)' },
    hint: null,
    ...changes,
  };
}

export type Answer = (response: ServerResponse, path: string) => void;

export class FakeController implements AsyncDisposable {
  readonly directory: string;
  readonly socketPath: string;
  /** Requests so far, such as `GET /v1/status`. */
  readonly requests: string[] = [];
  /** The bodies of the requests. */
  readonly bodies: string[] = [];
  /** Answers by request without its query. Any other request is answered with 404. */
  readonly answers = new Map<string, Answer>();
  readonly #server: Server;

  private constructor() {
    this.directory = mkdtempSync(join(tmpdir(), "monoceros-cli-"));
    this.socketPath = join(this.directory, "control.sock");
    this.#server = createServer((request, response) => {
      const requested = `${request.method} ${request.url}`;
      this.requests.push(requested);
      const answer = this.answers.get(requested.split("?")[0] ?? "");
      let body = "";
      request.on("data", (chunk) => {
        body += chunk;
      });
      request.on("end", () => {
        this.bodies.push(body);
        if (answer === undefined)
          sendJson(response, 404, { error: { code: "REQUEST_INVALID", message: `no ${requested}` } });
        else answer(response, request.url ?? "");
      });
    });
  }

  static async start(): Promise<FakeController> {
    const fake = new FakeController();
    fake.#server.listen(fake.socketPath);
    await once(fake.#server, "listening");
    return fake;
  }

  /** Answers one request with JSON. */
  answer(request: string, status: number, body: object): void {
    this.answers.set(request, (response) => sendJson(response, status, body));
  }

  /** Answers GET /v1/status with the documents one after another, and then always with the last one. */
  answerStatus(...documents: readonly [Status, ...Status[]]): void {
    let next = 0;
    this.answers.set("GET /v1/status", (response) => {
      sendJson(response, 200, documents[Math.min(next++, documents.length - 1)] ?? documents[0]);
    });
  }

  /**
   * Accepts `request` as operation op-1 and sends `events`, numbered from 1, as its event stream. Then the stream stays
   * open, or is destroyed if `isEnding`.
   */
  operate(request: string, events: readonly LifecycleEvent[], isEnding = false): void {
    this.answer(request, 202, { accepted: true, operation: "op-1", since: 0 } satisfies OperationAccepted);
    this.answers.set("GET /v1/events", (response) => {
      const records = events.map((event, index) => ({
        ...eventRecord(index + 1, describeEvent(event).text),
        ...event,
      }));
      const text = records.map((record) => `data: ${JSON.stringify(record)}\n\n`).join("");
      response.write(text, () => {
        if (isEnding) response.destroy();
      });
    });
  }

  /** Stops answering and removes the socket, like a controller that exits. */
  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#server.listening) {
      this.close();
      await once(this.#server, "close");
    }
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export function sendJson(response: ServerResponse, status: number, body: object): void {
  response.writeHead(status, { "content-type": "application/json" }).end(`${JSON.stringify(body)}\n`);
}

/** A ready worker with `changes`. */
export function workerStatus(changes: Partial<WorkerStatus> = {}): WorkerStatus {
  return {
    id: "web-0",
    pool: "web",
    slot: 0,
    phase: "ready",
    incarnation: 1,
    pid: 100,
    uptime_s: 180,
    phase_s: 180,
    next_s: null,
    proving: false,
    standby: false,
    in_flight: null,
    restarts: 0,
    last_exit: null,
    reason: "started",
    waits_for: null,
    reports: null,
    ...changes,
  };
}

/** A status with one pool that has these workers. */
export function statusOf(...workers: readonly WorkerStatus[]): Status {
  const ready = workers.filter(({ phase }) => phase === "ready").length;
  return {
    version: "0.1.0",
    pid: 12,
    phase: "running",
    healthy: ready === workers.length,
    ready: ready === workers.length,
    uptime_s: 180,
    pools: [
      {
        name: "web",
        role: "workers",
        fronts: null,
        type: "service",
        waits_for: null,
        replicas: workers.length,
        ready,
        healthy: ready === workers.length,
        desired_healthy_percentage: 75,
        operations: [],
        workers,
      },
    ],
  };
}

/** One event of the event stream. */
export function eventRecord(seq: number, message: string, level: EventRecord["level"] = "info"): EventRecord {
  return {
    kind: "controller_started",
    reason: message,
    seq,
    time: "2026-01-02T12:34:56.789Z",
    level,
    message,
  };
}

/** An event of operation op-1 of the pool "web". */
export function operationEvent(
  news: "queued" | "started" | "progressed" | "finished" | "failed",
  what: OperationKind,
  done = 0,
  total = 0,
  reason = "asked for",
): WideLifecycleEvent {
  return { kind: `operation_${news}`, pool: "web", operation: "op-1", what, done, total, reason };
}
