/** Routes that inspect workers and the controller itself. They change nothing but use CPU. */
import { ControllerError } from "../../base/errors.ts";
import {
  type DumpRequest,
  PID_BOUNDS,
  PROFILE_HEADERS,
  PROFILE_HZ,
  PROFILE_SECONDS,
  type ProfileAnswer,
  type ProfileRequest,
  type ProfileSubject,
} from "../api.ts";
import { sendFailure, sendJson } from "../http/answers.ts";
import { findWorker, parseBody, wholeNumber } from "../http/requests.ts";
import type { Call, Route, RouteAnswer } from "../http/route.ts";
import { bounded } from "../schemas.ts";

const PROFILE: readonly RouteAnswer[] = [
  {
    status: 200,
    doc: "pprof, compressed with gzip, for go tool pprof",
    contentType: "application/octet-stream",
  },
];

/** All of these routes need permission. */
export const INSPECTION_ROUTES: readonly Route[] = [
  {
    method: "POST",
    path: "/v1/workers/{worker}/dump",
    operationId: "dumpWorker",
    summary: "Show what the processes of one worker are doing now, with their stacks if available",
    body: "DumpRequest",
    answers: [{ status: 200, doc: "Also if the worker has no process", schema: "Dump" }],
    errors: [400, 404, 409],
    handle: dump,
  },
  {
    method: "POST",
    path: "/v1/workers/{worker}/profile",
    operationId: "profileWorker",
    summary: "Profile one process of a worker, by default the busiest, for a time or until it exits",
    body: "ProfileRequest",
    answers: PROFILE,
    errors: [400, 404, 409],
    handle: profileWorker,
  },
  selfRoute("cpu", "/debug/pprof/profile", "profileCpu", "Profile the CPU time of the controller"),
  selfRoute("heap", "/debug/pprof/heap", "profileHeap", "Profile the memory that the controller allocates and keeps"),
];

function selfRoute(subject: ProfileSubject, path: string, operationId: string, summary: string): Route {
  return {
    // POST, because it costs CPU and a browser sends a GET for any image that a page embeds.
    method: "POST",
    path,
    operationId,
    summary,
    query: [{ name: "seconds", doc: "Duration in seconds", schema: bounded(PROFILE_SECONDS) }],
    answers: PROFILE,
    errors: [400, 409],
    handle: (call) => {
      const text = call.query.get("seconds");
      const given = text === null ? undefined : /^\d+$/u.test(text) ? Number(text) : text;
      const seconds = wholeNumber("seconds", given, PROFILE_SECONDS);
      sendProfile(call, subject, (signal) => call.controller.profileSelf(subject, seconds, signal));
    },
  };
}

function dump(call: Call): void {
  const { controller, response } = call;
  const { pool, slots } = findWorker(call, "dump");
  const { pid } = parseDumpRequest(call.body);
  controller.audit(call.caller(), `dump ${subjectOf(call, pid)}`);
  controller
    .dump(pool.index, slots[0], pid)
    .then((answer) => sendJson(response, 200, answer))
    .catch((error: unknown) => fail(call, error));
}

function profileWorker(call: Call): void {
  const { controller } = call;
  const { pool, slots } = findWorker(call, "profile");
  const request = parseProfileRequest(call.body);
  controller.audit(call.caller(), `profile ${subjectOf(call, request.pid)}`);
  const take = (signal: AbortSignal) => controller.profileWorker(pool.index, slots[0], { ...request, signal });
  sendProfile(call, call.segment("worker"), take);
}

function subjectOf({ segment }: Call, pid: number | undefined): string {
  const id = segment("worker");
  return pid === undefined ? `worker "${id}"` : `pid ${pid} of worker "${id}"`;
}

/** The body of a dump request; no body equals an empty object. @throws ControllerError REQUEST_INVALID */
export function parseDumpRequest(text: string) {
  const body = text === "" ? {} : parseBody(text, ["pid"], '{"pid": 4711}');
  return { pid: pidOf(body as { readonly [Key in keyof DumpRequest]: unknown }) };
}

/** The body of a profile request; no body equals an empty object. @throws ControllerError REQUEST_INVALID */
export function parseProfileRequest(text: string) {
  const body = text === "" ? {} : parseBody(text, ["seconds", "hz", "pid"], '{"seconds": 10, "hz": 50}');
  const asked = body as { readonly [Key in keyof ProfileRequest]: unknown };
  return {
    seconds: wholeNumber("seconds", asked.seconds, PROFILE_SECONDS),
    hz: wholeNumber("hz", asked.hz, PROFILE_HZ),
    pid: pidOf(asked),
  };
}

function pidOf({ pid }: { readonly pid?: unknown }): number | undefined {
  return pid === undefined ? undefined : wholeNumber("pid", pid, { ...PID_BOUNDS, default: PID_BOUNDS.least });
}

/** Answers with a profile named after `what`; profiling stops if the client disconnects. */
function sendProfile(call: Call, what: string, take: (signal: AbortSignal) => Promise<ProfileAnswer>): void {
  const { request, response } = call;
  const left = new AbortController();
  response.once("close", () => left.abort());
  // Profiling may exceed the timeout of other responses.
  request.socket.setTimeout(0);
  take(left.signal)
    .then(({ engine, note, pid, pprof }) =>
      response
        .writeHead(200, {
          "content-type": "application/octet-stream",
          "content-length": pprof.length,
          "content-disposition": `attachment; filename="${what.replaceAll(/[^\w.-]/gu, "_")}.pb.gz"`,
          [PROFILE_HEADERS.engine]: engine,
          ...(note === undefined ? {} : { [PROFILE_HEADERS.note]: note }),
          ...(pid === undefined ? {} : { [PROFILE_HEADERS.pid]: String(pid) }),
        })
        .end(pprof),
    )
    .catch((error: unknown) => fail(call, error));
}

/** A bug in an inspection must not crash the controller. */
function fail({ response }: Call, error: unknown): void {
  if (error instanceof ControllerError) sendFailure(response, error);
  else response.destroy(error instanceof Error ? error : undefined);
}
