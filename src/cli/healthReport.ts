/**
 * Requests the health of a controller, and explains it. Containers run this every few seconds, so it does without an HTTP
 * client, which takes as long to load as the rest of the request.
 */
import type { Socket } from "node:net";
import { type Health, PATHS } from "../admin/api.ts";
import { ControllerError } from "../base/errors.ts";
import { formatDuration } from "../base/units.ts";

/** What is asked: whether enough workers are ready, whether to send traffic, or only whether the controller responds. */
export type HealthQuestion = "healthy" | "ready" | "live";

/** Requests the health over an open connection. @throws ControllerError UNHEALTHY without a response in time */
export async function requestHealth(connection: Socket, path: string, timeoutMs: number): Promise<Health> {
  const response = await new Promise<string>((resolve, reject) => {
    let text = "";
    const fail = (what: string) => {
      connection.destroy();
      reject(unhealthy(`the controller at ${path} ${what}`));
    };
    const timer = setTimeout(() => fail(`did not respond within ${formatDuration(timeoutMs)}`), timeoutMs);
    connection.setEncoding("utf8");
    connection.on("data", (chunk: string) => {
      text += chunk;
    });
    connection.once("error", () => fail("closed the connection"));
    connection.once("close", () => {
      clearTimeout(timer);
      resolve(text);
    });
    connection.ref();
    // To HTTP/1.0 the server responds without chunks, and closes the connection.
    connection.write(`GET ${PATHS.health} HTTP/1.0\r\n\r\n`);
  });
  const health = parseResponse(response);
  if (health !== undefined) return health;
  const [line = ""] = response.split("\r\n", 1);
  throw unhealthy(`the process that listens on ${path} responded ${line === "" ? "nothing" : `"${line}"`}`);
}

/** The document in a raw response; undefined if it is not that of a controller. */
function parseResponse(response: string): Health | undefined {
  if (!response.startsWith("HTTP/1.1 200 ")) return undefined;
  try {
    const body = JSON.parse(response.slice(response.indexOf("\r\n\r\n"))) as Partial<Health> | null;
    return Array.isArray(body?.pools) ? (body as Health) : undefined;
  } catch {
    return undefined;
  }
}

/** Why the answer to the question is no; undefined if it is yes. */
export function objection({ phase, healthy, ready, pools }: Health, question: HealthQuestion): string | undefined {
  if (question === "live" || (question === "healthy" ? healthy : ready)) return undefined;
  const reasons = pools
    .filter((pool) => !pool.healthy)
    .map(({ name, ready: up, replicas, completed, desired_healthy_percentage: wanted }) => {
      const counted = `${up} of ${replicas} replicas ready${completed === 0 ? "" : `, ${completed} completed`}`;
      const isEnough = up * 100 >= wanted * (replicas - completed);
      return `pool "${name}" has ${counted}, ${wanted} % required${isEnough ? ", but workers crash repeatedly" : ""}`;
    });
  if (question === "ready" && phase !== "running") reasons.unshift(`the controller is ${phase}`);
  return reasons.join("; ");
}

/** The error for a controller that is not healthy. */
export function unhealthy(why: string, question: HealthQuestion = "healthy"): ControllerError {
  return new ControllerError("UNHEALTHY", `not ${question}: ${why}`);
}
