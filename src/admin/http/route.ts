/**
 * A route is data, used to dispatch requests and to generate the OpenAPI document, plus its handler. This file also
 * finds the route of a request.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import type { ControllerHandle } from "../handle.ts";

/** One request to a route. */
export interface Call {
  readonly controller: ControllerHandle;
  readonly request: IncomingMessage;
  readonly response: ServerResponse;
  readonly query: URLSearchParams;
  /** The decoded value of a path segment such as {pool}. */
  segment(name: string): string;
  /** The body as text, limited in size. */
  readonly body: string;
  /** The caller, as written to the audit log. */
  caller(): string;
}

/** A query parameter. */
export interface QueryParameter {
  readonly name: string;
  readonly doc: string;
  /** JSON Schema. */
  readonly schema: Readonly<Record<string, unknown>>;
}

/** A success response of a route. */
export interface RouteAnswer {
  readonly status: 200 | 202 | 503;
  readonly doc: string;
  /** application/json if absent. */
  readonly contentType?: "text/event-stream" | "text/html" | "text/plain" | "application/octet-stream";
  /** Schema name of the document, or of one stream entry; absent for plain text and externally defined documents. */
  readonly schema?: string;
}

export interface Route {
  readonly method: "GET" | "POST";
  /** With segments in braces: /v1/pools/{pool}/restart. */
  readonly path: string;
  /** Unique; becomes the method name in clients generated from the document. */
  readonly operationId: string;
  /** One line without a full stop, starting with a verb. */
  readonly summary: string;
  readonly query?: readonly QueryParameter[];
  /** Schema name of the JSON body; undefined if a body is read and discarded. */
  readonly body?: string;
  readonly answers: readonly RouteAnswer[];
  /** Errors in addition to those that any route can return. */
  readonly errors?: readonly (400 | 404 | 409 | 429)[];
  /** Whether the response continues until the client disconnects. */
  readonly isStream?: true;
  /** @throws ControllerError */
  readonly handle: (call: Call) => void;
}

/** Routes with the pattern that matches their path, and the names of its segments, in order. */
export function compileRoutes(routes: readonly Route[]) {
  return routes.map((route) => {
    const names: string[] = [];
    const source = route.path.replaceAll(/\{(\w+)\}|[.]/gu, (text, name: string | undefined) => {
      if (name === undefined) return `\\${text}`;
      names.push(name);
      return "([^/]+)";
    });
    return { route, pattern: new RegExp(`^${source}$`, "u"), names };
  });
}

/** A route whose path matches, with the values of its segments. */
export interface RouteMatch {
  readonly route: Route;
  readonly segments: ReadonlyMap<string, string>;
}

/** Every route at `pathname`, regardless of method. */
export function matchRoutes(routes: ReturnType<typeof compileRoutes>, pathname: string): readonly RouteMatch[] {
  return routes.flatMap(({ route, pattern, names }) => {
    const match = pattern.exec(pathname);
    if (match === null) return [];
    return [{ route, segments: new Map(names.map((name, index) => [name, decodeSegment(match[index + 1] ?? "")])) }];
  });
}

/** A malformed segment matches no existing name, so it is returned undecoded. */
function decodeSegment(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
