/** Routes that look into workers and into the controller itself. They change nothing, but cost something, so the POSTs are audited. */
import { ControllerError } from "../base/errors.ts";
import { sendFailure, sendJson } from "./answers.ts";
import {
  PROFILE_HEADERS,
  PROFILE_HZ,
  PROFILE_SECONDS,
  type ProfileAnswer,
  type ProfileRequest,
  type ProfileSubject,
} from "./api.ts";
import { findWorker, parseBody, wholeNumber } from "./requests.ts";
import type { Call, Route, RouteAnswer } from "./route.ts";
import { bounded } from "./schemas.ts";

const PROFILE: readonly RouteAnswer[] = [
  {
    status: 200,
    doc: "pprof, compressed with gzip, for go tool pprof",
    contentType: "application/octet-stream",
    schema: undefined,
  },
];

/** Every one needs permission. */
export const INSPECTION_ROUTES: readonly Route[] = [
  {
    method: "POST",
    path: "/v1/workers/{worker}/dump",
    operationId: "dumpWorker",
    summary: "Tell what one worker is doing now, with its stack where there is a way to it",
    answers: [{ status: 200, doc: "Also of a worker that has ended", contentType: "application/json", schema: "Dump" }],
    errors: [404, 409],
    handle: dump,
  },
  {
    method: "POST",
    path: "/v1/workers/{worker}/profile",
    operationId: "profileWorker",
    summary: "Profile one worker for a time; less where it ends meanwhile",
    body: "ProfileRequest",
    answers: PROFILE,
    errors: [400, 404, 409],
    handle: profileWorker,
  },
  selfRoute("cpu", "/debug/pprof/profile", "profileCpu", "Profile the CPU time of the controller itself"),
  selfRoute("heap", "/debug/pprof/heap", "profileHeap", "Profile what the controller itself allocates and keeps"),
];

function selfRoute(subject: ProfileSubject, path: string, operationId: string, summary: string): Route {
  return {
    method: "GET",
    path,
    operationId,
    summary,
    query: [{ name: "seconds", doc: "For how long", schema: bounded(PROFILE_SECONDS) }],
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
  const id = call.segment("worker");
  const { index, slot } = findWorker(call, id, "dump");
  controller.audit(call.caller(), `a dump of worker "${id}"`);
  controller
    .dump(index, slot)
    .then((answer) => sendJson(response, 200, answer))
    .catch((error: unknown) => fail(call, error));
}

function profileWorker(call: Call): void {
  const { controller } = call;
  const id = call.segment("worker");
  const { index, slot } = findWorker(call, id, "profile");
  const request = parseProfileRequest(call.body);
  controller.audit(call.caller(), `a profile of worker "${id}"`);
  sendProfile(call, id, (signal) => controller.profileWorker(index, slot, { ...request, signal }));
}

/** The body of a request for a profile; none is the same as an empty object. @throws ControllerError REQUEST_INVALID */
export function parseProfileRequest(text: string): Required<ProfileRequest> {
  const body = text === "" ? {} : parseBody(text, ["seconds", "hz"], '{"seconds": 10, "hz": 50}');
  const { seconds, hz } = body as { readonly seconds?: unknown; readonly hz?: unknown };
  return { seconds: wholeNumber("seconds", seconds, PROFILE_SECONDS), hz: wholeNumber("hz", hz, PROFILE_HZ) };
}

/** Answers with a profile named after `what`; a client that leaves ends it. */
function sendProfile(call: Call, what: string, take: (signal: AbortSignal) => Promise<ProfileAnswer>): void {
  const { request, response } = call;
  const left = new AbortController();
  response.once("close", () => left.abort());
  // It is silent for longer than another answer may be.
  request.socket.setTimeout(0);
  take(left.signal)
    .then(({ engine, note, pprof }) =>
      response
        .writeHead(200, {
          "content-type": "application/octet-stream",
          "content-length": pprof.length,
          "content-disposition": `attachment; filename="${what.replaceAll(/[^\w.-]/gu, "_")}.pb.gz"`,
          [PROFILE_HEADERS.engine]: engine,
          ...(note === undefined ? {} : { [PROFILE_HEADERS.note]: note }),
        })
        .end(pprof),
    )
    .catch((error: unknown) => fail(call, error));
}

/** A bug in looking at something must not end what is looked at. */
function fail({ response }: Call, error: unknown): void {
  if (error instanceof ControllerError) sendFailure(response, error);
  else response.destroy(error instanceof Error ? error : undefined);
}
