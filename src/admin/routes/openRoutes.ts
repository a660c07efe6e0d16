/** Routes open to all, for Prometheus and Kubernetes. None of them changes anything. */
import type { ServerResponse } from "node:http";
import type { ControllerView } from "../../core/view.ts";
import type { Call, Route, RouteAnswer } from "../http/route.ts";
import { answerScrape, sendExposition } from "../http/scrapes.ts";

const HEALTH_ANSWERS: readonly RouteAnswer[] = [
  { status: 200, doc: "Yes", contentType: "text/plain" },
  { status: 503, doc: "No", contentType: "text/plain" },
];

/** Health routes; they cost next to nothing. */
export const HEALTH_ROUTES: readonly Route[] = [
  {
    ...healthRoute("/health", "getHealth", ({ healthy }) => healthy),
    summary: "Report whether enough workers of each pool are ready",
  },
  {
    ...healthRoute("/health/ready", "getReadiness", ({ ready }) => ready),
    summary: "Report whether the controller is ready for traffic",
  },
  {
    ...healthRoute("/health/live", "getLiveness", () => true),
    summary: "Report whether the controller responds",
    answers: HEALTH_ANSWERS.slice(0, 1),
  },
];

function healthRoute(path: string, operationId: string, isGood: (view: ControllerView) => boolean) {
  const handle = ({ controller, response }: Call) =>
    serveHealth(response, isGood(controller.view()), controller.view());
  return { method: "GET", path, operationId, answers: HEALTH_ANSWERS, handle } as const;
}

const METRICS_ANSWERS: readonly RouteAnswer[] = [
  { status: 200, doc: "Prometheus text, or OpenMetrics on request", contentType: "text/plain" },
];

/** Every route that needs no permission. */
export const OPEN_ROUTES: readonly Route[] = [
  {
    method: "GET",
    path: "/metrics",
    operationId: "getMetrics",
    summary: "Show the metrics of the controller, its pools and its workers",
    answers: METRICS_ANSWERS,
    handle: serveMetrics,
  },
  {
    method: "GET",
    path: "/metrics/workers",
    operationId: "getWorkerMetrics",
    summary: "Show the workers' own metrics, merged",
    answers: METRICS_ANSWERS,
    handle: serveWorkerMetrics,
  },
  ...HEALTH_ROUTES,
];

function serveMetrics({ controller, request, response }: Call): void {
  answerScrape(controller, { accept: request.headers.accept ?? "", response });
}

function serveWorkerMetrics({ controller, request, response }: Call): void {
  controller.workerMetrics(request.headers.accept ?? "").then(
    ({ text, contentType }) => sendExposition(response, Buffer.from(text), contentType),
    // No failure is expected here; if one occurs, disconnect the client rather than let it wait indefinitely.
    (error: unknown) => response.destroy(error instanceof Error ? error : undefined),
  );
}

function serveHealth(response: ServerResponse, good: boolean, view: ControllerView): void {
  const pools = view.pools.map(({ name, readyCount, replicas, completedCount }) => {
    const completed = completedCount === 0 ? "" : `, ${completedCount} completed`;
    return `${name}: ${readyCount} of ${replicas} ready${completed}\n`;
  });
  response
    .writeHead(good ? 200 : 503, { "content-type": "text/plain; charset=utf-8" })
    .end(`${good ? "ok" : "not ok"}, ${view.phase}\n${pools.join("")}`);
}
