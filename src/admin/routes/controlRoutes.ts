/** Routes that show and change everything; access is checked before they are called. */
import { ControllerError } from "../../base/errors.ts";
import { MAX_REPLICAS } from "../../core/spec.ts";
import type { PoolView } from "../../core/view.ts";
import type {
  Accepted,
  Action,
  LogFilesReopened,
  OperationAccepted,
  Operations,
  ReloadAccepted,
  ReloadRequest,
  ScaleRequest,
} from "../api.ts";
import { sendFailure, sendJson } from "../http/answers.ts";
import { findWorker, parseBody, shorten } from "../http/requests.ts";
import type { Call, QueryParameter, Route, RouteAnswer } from "../http/route.ts";
import { openApiDocument } from "../openapi.ts";
import { healthOf, type StatusDetails, statusOf } from "../status.ts";
import { DASHBOARD_ROUTE } from "./dashboardRoute.ts";
import { EventStream } from "./eventStream.ts";
import { INSPECTION_ROUTES } from "./inspectionRoutes.ts";
import { followLogs } from "./logFeed.ts";
import { OPEN_ROUTES } from "./openRoutes.ts";

/** Maximum number of queued or running operations; further requests are refused. */
const MAX_PENDING_OPERATIONS = 50;

/** The reason that events and workers show for a requested operation. */
const REASONS: Readonly<Record<Action | "scale", string>> = {
  restart: "restarted by an operator",
  stop: "stopped by an operator",
  start: "started by an operator",
  scale: "scaled by an operator",
};

const BEGUN: readonly RouteAnswer[] = [
  {
    status: 202,
    doc: "Queued or started: the id of the operation, and the number of the last event before it",
    schema: "OperationAccepted",
  },
];

/** A query parameter that is 0 or 1. */
function flag(name: string, doc: string, usual: "0" | "1"): QueryParameter {
  return { name, doc, schema: { type: "string", enum: ["0", "1"], default: usual } };
}

function actionRoute(action: Action, scope: "pool" | "worker", summary: string): Route {
  return {
    method: "POST",
    path: scope === "pool" ? `/v1/pools/{pool}/${action}` : `/v1/workers/{worker}/${action}`,
    operationId: `${action}${scope === "pool" ? "Pool" : "Worker"}`,
    summary,
    answers: BEGUN,
    errors: [404, 409],
    handle: (call) => order(call, action, scope),
  };
}

/** Every route that needs permission. */
export const CONTROL_ROUTES: readonly Route[] = [
  {
    method: "GET",
    path: "/v1/status",
    operationId: "getStatus",
    summary: "Show the current state of pools and workers",
    query: [
      flag(
        "detail",
        "1 adds the resource usage and activity of each worker and the balance of each pool; reads every process",
        "0",
      ),
      flag("processes", "1 adds the details, and the processes of each worker with their command lines", "0"),
    ],
    answers: [{ status: 200, doc: "All pools with their workers and pending operations", schema: "Status" }],
    errors: [400],
    handle: serveStatus,
  },
  {
    method: "GET",
    path: "/v1/health",
    operationId: "getHealthReport",
    summary: "Show the health of the controller and of each pool; the status is always 200",
    answers: [{ status: 200, doc: "The health of each pool with the numbers behind it", schema: "Health" }],
    handle: ({ controller, response }) => sendJson(response, 200, healthOf(controller.view())),
  },
  {
    method: "GET",
    path: "/v1/events",
    operationId: "getEvents",
    summary: "Stream past and then new events, as server-sent events",
    query: [
      {
        name: "since",
        doc: "Only events after this number; a client that reconnects sends it as Last-Event-ID",
        schema: { type: "integer", minimum: 0, default: 0 },
      },
      flag("follow", "0 ends the stream after the past events", "1"),
    ],
    answers: [{ status: 200, doc: "One event per message", contentType: "text/event-stream", schema: "Event" }],
    errors: [400, 429],
    isStream: true,
    handle: serveEvents,
  },
  {
    method: "GET",
    path: "/v1/logs",
    operationId: "getLogs",
    summary: "Stream new log lines, as server-sent events",
    answers: [{ status: 200, doc: "One line per message", contentType: "text/event-stream", schema: "LogLine" }],
    errors: [429],
    isStream: true,
    handle: ({ controller, response }) => followLogs(controller, response),
  },
  {
    method: "POST",
    path: "/v1/logs/reopen",
    operationId: "reopenLogFiles",
    summary: "Open all log files of pools again, after logrotate has moved them",
    answers: [{ status: 200, doc: "The files, which receive all further lines", schema: "LogFilesReopened" }],
    errors: [409],
    handle: reopenLogFiles,
  },
  {
    method: "GET",
    path: "/v1/operations",
    operationId: "getOperations",
    summary: "List the latest operations",
    answers: [{ status: 200, doc: "The last 200, oldest first", schema: "Operations" }],
    handle: ({ controller, response }) =>
      sendJson(response, 200, { operations: controller.operations.list() } satisfies Operations),
  },
  {
    method: "GET",
    path: "/v1/operations/{operation}",
    operationId: "getOperation",
    summary: "Show one operation",
    answers: [{ status: 200, doc: "Its current state", schema: "Operation" }],
    errors: [404],
    handle: serveOperation,
  },
  actionRoute("restart", "pool", "Replace all workers of a pool, a few at a time"),
  actionRoute("stop", "pool", "Stop all workers of a pool until they are started"),
  actionRoute("start", "pool", "Start the stopped or failed workers of a pool"),
  {
    method: "POST",
    path: "/v1/pools/{pool}/scale",
    operationId: "scalePool",
    summary: "Change the number of replicas of a pool",
    body: "ScaleRequest",
    answers: BEGUN,
    errors: [400, 404, 409],
    handle: scalePool,
  },
  actionRoute("restart", "worker", "Replace one worker"),
  actionRoute("stop", "worker", "Stop one worker until it is started"),
  actionRoute("start", "worker", "Start one stopped or failed worker"),
  ...INSPECTION_ROUTES,
  {
    method: "GET",
    path: "/v1/openapi.json",
    operationId: "getOpenApi",
    summary: "Describe this API as an OpenAPI document",
    answers: [{ status: 200, doc: "OpenAPI 3.1" }],
    handle: ({ controller, response }) =>
      sendJson(
        response,
        200,
        openApiDocument([...OPEN_ROUTES, DASHBOARD_ROUTE, ...CONTROL_ROUTES], OPEN_ROUTES, controller.version),
      ),
  },
  {
    method: "POST",
    path: "/v1/reload",
    operationId: "reload",
    summary: "Apply a changed configuration file, or with dry_run only report what would change",
    body: "ReloadRequest",
    answers: [
      { status: 202, doc: "What changes, what cannot change, and the operations that apply it", schema: "Reload" },
    ],
    errors: [400, 409],
    handle: reload,
  },
  {
    method: "POST",
    path: "/v1/shutdown",
    operationId: "shutdown",
    summary: "Stop all workers gracefully, then the controller",
    answers: [{ status: 202, doc: "The shutdown begins", schema: "Accepted" }],
    handle: (call) => {
      const { controller, response } = call;
      controller.audit(call.caller(), "shut down");
      // Answer first: the shutdown could finish before the answer is sent. "close" also fires on a disconnect.
      response.once("close", () => controller.shutdown("requested through the API"));
      sendJson(response, 202, { accepted: true } satisfies Accepted);
    },
  },
];

function serveStatus({ controller, response, query }: Call): void {
  const answer = (details: StatusDetails | undefined) =>
    sendJson(
      response,
      200,
      statusOf(controller.view(), {
        now: controller.now(),
        version: controller.version,
        pid: process.pid,
        operations: controller.operations.pending(),
        waitOf: (worker, pool) => controller.waitOf(pool.index, worker),
        reportOf: (worker, pool) => controller.reportOf(pool.index, worker),
        details,
      }),
    );
  const isDetailed = isWanted(query, "detail", "0");
  if (isWanted(query, "processes", "0"))
    controller.detailsWithProcesses().then(answer, (error: unknown) => response.destroy(error as Error));
  else answer(isDetailed ? controller.details() : undefined);
}

/** @throws ControllerError REQUEST_INVALID */
function isWanted(query: URLSearchParams, name: string, usual: "0" | "1"): boolean {
  const text = query.get(name) ?? usual;
  if (text === "0" || text === "1") return text === "1";
  throw new ControllerError("REQUEST_INVALID", `${name}: expected 0 or 1, got ${shorten(text)}`);
}

// Operations

function order(call: Call, action: Action, scope: "pool" | "worker"): void {
  const what = `${scope} "${call.segment(scope)}"`;
  const { pool, slots } =
    scope === "pool" ? { pool: findPool(call, action), slots: undefined } : findWorker(call, action);
  if (pool.role === "proxy" && action === "stop")
    throw new ControllerError(
      "REQUEST_REFUSED",
      `Cannot stop ${what}: it is the proxy of pool "${pool.fronts}", which would receive no requests`,
    );
  begin(call, `${action} ${what}`, () => call.controller[action](pool.index, slots, REASONS[action]));
}

function scalePool(call: Call): void {
  const pool = findPool(call, "scale");
  const { replicas } = parseScaleRequest(call.body);
  if (pool.role === "proxy")
    throw new ControllerError(
      "REQUEST_REFUSED",
      `Cannot scale pool "${pool.name}": it is a proxy, and each pool has exactly one`,
    );
  begin(call, `scale pool "${pool.name}" to ${replicas}`, () =>
    call.controller.scale(pool.index, replicas, REASONS.scale),
  );
}

/** Reloads the configuration. An invalid file changes nothing; the error lists its problems. */
function reload(call: Call): void {
  const { controller, response } = call;
  const isDryRun = parseReloadRequest(call.body).dry_run;
  const { phase } = controller.view();
  if (phase !== "running" && phase !== "booting")
    throw new ControllerError("REQUEST_REFUSED", `Cannot reload: the controller is ${phase}`);
  const since = controller.events.lastSeq;
  if (!isDryRun) controller.audit(call.caller(), "reload");
  controller.reload(isDryRun).then(
    (plan) => sendJson(response, 202, { ...plan, since } satisfies ReloadAccepted),
    (error: unknown) => {
      if (error instanceof ControllerError) sendFailure(response, error);
      else throw error;
    },
  );
}

function reopenLogFiles(call: Call): void {
  const { controller, response } = call;
  controller.audit(call.caller(), "reopen the log files");
  controller.reopenLogFiles().then(
    (files) => sendJson(response, 200, { files } satisfies LogFilesReopened),
    (error: unknown) => {
      if (error instanceof ControllerError) sendFailure(response, error);
      else throw error;
    },
  );
}

/** The body of a reload request; no body equals an empty object. @throws ControllerError REQUEST_INVALID */
export function parseReloadRequest(text: string): Required<ReloadRequest> {
  if (text === "") return { dry_run: false };
  const { dry_run: isDryRun = false } = parseBody(text, ["dry_run"], '{"dry_run": true}') as { dry_run?: unknown };
  if (typeof isDryRun === "boolean") return { dry_run: isDryRun };
  throw new ControllerError("REQUEST_INVALID", `dry_run: expected true or false, got ${shorten(isDryRun)}`);
}

/** Requests the operation and answers with its id. */
function begin(call: Call, what: string, order: () => string): void {
  const { controller, response } = call;
  const { phase } = controller.view();
  if (phase !== "running" && phase !== "booting")
    throw new ControllerError("REQUEST_REFUSED", `Cannot ${what}: the controller is ${phase}`);
  const pending = controller.operations.pending().length;
  if (pending >= MAX_PENDING_OPERATIONS)
    throw new ControllerError("REQUEST_REFUSED", `Cannot ${what}: ${pending} operations are already pending`);
  const since = controller.events.lastSeq;
  controller.audit(call.caller(), what);
  const operation = order();
  sendJson(response, 202, { accepted: true, operation, since } satisfies OperationAccepted);
}

function findPool(call: Call, action: Action | "scale"): PoolView {
  const name = call.segment("pool");
  const pool = call.controller.view().pools.find((each) => each.name === name);
  if (pool !== undefined) return pool;
  throw new ControllerError("POOL_UNKNOWN", `Cannot ${action} pool "${name}": no such pool`);
}

/** The body of a scale request. @throws ControllerError REQUEST_INVALID that describes the expected body */
export function parseScaleRequest(text: string): ScaleRequest {
  const { replicas } = parseBody(text, ["replicas"], '{"replicas": 4}') as { readonly replicas?: unknown };
  if (typeof replicas === "number" && Number.isInteger(replicas) && replicas >= 1 && replicas <= MAX_REPLICAS)
    return { replicas };
  const got = replicas === undefined ? "nothing" : shorten(replicas);
  throw new ControllerError(
    "REQUEST_INVALID",
    `replicas: expected a whole number from 1 to ${MAX_REPLICAS}, got ${got}`,
  );
}

function serveOperation({ controller, response, segment }: Call): void {
  const id = segment("operation");
  const operation = controller.operations.get(id);
  if (operation === undefined)
    throw new ControllerError(
      "OPERATION_UNKNOWN",
      `Cannot show operation "${id}": no such operation, or it is no longer kept`,
    );
  sendJson(response, 200, operation);
}

// Streams

function serveEvents({ controller, request, response, query }: Call): void {
  const since = lastSeen(request.headers["last-event-id"], controller.events.lastSeq) ?? parseSince(query.get("since"));
  const isFollowing = isWanted(query, "follow", "1");
  const stream = new EventStream(response);
  for (const record of controller.events.since(since)) stream.send(record, record.seq);
  if (!isFollowing) {
    response.end();
    return;
  }
  const following = controller.events.follow((record) => stream.send(record, record.seq));
  response.once("close", () => following[Symbol.dispose]());
}

/** The last event a reconnecting client saw; undefined if absent or from an earlier controller. */
function lastSeen(header: string | string[] | undefined, lastSeq: number): number | undefined {
  const seen = typeof header === "string" && /^\d+$/u.test(header) ? Number(header) : undefined;
  return seen !== undefined && seen <= lastSeq ? seen : undefined;
}

function parseSince(text: string | null): number {
  const since = Number(text ?? 0);
  if (/^\d*$/u.test(text ?? "") && Number.isSafeInteger(since)) return since;
  throw new ControllerError("REQUEST_INVALID", `since: expected the number of an event, got ${shorten(text)}`);
}
