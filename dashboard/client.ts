/** Sends requests to the controller. The token is kept in this tab only, and sent only in the Authorization header. */
import type { ApiError, PATHS } from "../src/admin/api.ts";
import { type ServerSentEvent, SseParser } from "./sseParser.ts";

const TOKEN_KEY = "monoceros.token";
/** Time limit of a response. */
const TIMEOUT_MS = 10_000;

/** Paths of the API. They have the API's types, so that a removed path does not compile. */
export const ROUTES: Pick<typeof PATHS, "status" | "events" | "logs" | "reload" | "pool" | "worker"> = {
  status: "/v1/status",
  events: "/v1/events",
  logs: "/v1/logs",
  reload: "/v1/reload",
  pool: (name, action) => `/v1/pools/${encodeURIComponent(name)}/${action}`,
  worker: (id, action) => `/v1/workers/${encodeURIComponent(id)}/${action}`,
};

/** The controller returned an error; the message is the controller's. */
export class Refusal extends Error {
  readonly status: number;

  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** Keeps the token in this tab; an empty text removes it. */
export function keepToken(token: string): void {
  if (token === "") sessionStorage.removeItem(TOKEN_KEY);
  else sessionStorage.setItem(TOKEN_KEY, token);
}

/** Whether there is a token. */
export function hasToken(): boolean {
  return sessionStorage.getItem(TOKEN_KEY) !== null;
}

/** Requests a JSON document. @throws Refusal, or another error if the controller cannot be reached */
export async function get<Body>(path: string): Promise<Body> {
  const response = await ask(path, { signal: AbortSignal.timeout(TIMEOUT_MS) });
  return (await response.json()) as Body;
}

/** Requests a change. @throws Refusal, or another error if the controller cannot be reached */
export async function post<Body>(path: string, body?: object): Promise<Body> {
  const response = await ask(path, {
    method: "POST",
    signal: AbortSignal.timeout(TIMEOUT_MS),
    ...(body === undefined ? {} : { body: JSON.stringify(body) }),
  });
  return (await response.json()) as Body;
}

/** Follows a stream until it ends or `signal` aborts. @throws Refusal, or another error if the connection breaks */
export async function follow(
  path: string,
  signal: AbortSignal,
  listener: (events: readonly ServerSentEvent[]) => void,
): Promise<void> {
  const response = await ask(path, { signal });
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
  const parser = new SseParser();
  for (let part = await reader?.read(); part !== undefined && !part.done; part = await reader?.read())
    listener(parser.push(part.value));
}

async function ask(path: string, init: RequestInit): Promise<Response> {
  const token = sessionStorage.getItem(TOKEN_KEY);
  const response = await fetch(path, {
    ...init,
    cache: "no-store",
    headers: token === null ? {} : { authorization: `Bearer ${token}` },
  });
  if (response.ok) return response;
  const message = await response.json().then(
    (body: ApiError) => body.error.message,
    () => `status ${response.status}`,
  );
  throw new Refusal(response.status, message);
}
