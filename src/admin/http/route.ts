/**
 * What a route is: data, from which requests are dispatched and the OpenAPI document is made, plus what it does. Also
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
  /** What stands in a part of the path such as {pool}, decoded. */
  segment(name: string): string;
  /** The body as text, within bounds. */
  readonly body: string;
  /** Who asks, in words for the audit. */
  caller(): string;
}

/** A parameter of the query. */
export interface QueryParameter {
  readonly name: string;
  readonly doc: string;
  /** JSON Schema. */
  readonly schema: Readonly<Record<string, unknown>>;
}

/** An answer that a route gives where nothing is wrong. */
export interface RouteAnswer {
  readonly status: 200 | 202 | 503;
  readonly doc: string;
  readonly contentType:
    | "application/json"
    | "text/event-stream"
    | "text/html"
    | "text/plain"
    | "application/octet-stream";
  /** Name of the schema of the document, or of one entry of the stream; undefined for plain text and documents of others. */
  readonly schema: string | undefined;
}

export interface Route {
  readonly method: "GET" | "POST";
  /** With segments in braces: /v1/pools/{pool}/restart. */
  readonly path: string;
  /** Unique, for names in clients that are made from the document. */
  readonly operationId: string;
  /** One line without a full stop, starting with a verb. */
  readonly summary: string;
  readonly query?: readonly QueryParameter[];
  /** Name of the schema of its JSON body; undefined where a body is read and dropped. */
  readonly body?: string;
  readonly answers: readonly RouteAnswer[];
  /** Errors besides those that every route may meet. */
  readonly errors?: readonly (400 | 404 | 409 | 429)[];
  /** Whether the answer goes on until the client leaves. */
  readonly isStream?: true;
  /** @throws ControllerError */
  readonly handle: (call: Call) => void;
}

/** A route with what its path matches. */
export interface CompiledRoute {
  readonly route: Route;
  readonly pattern: RegExp;
  /** Names of its segments, in their order. */
  readonly names: readonly string[];
}

/** Routes ready to be looked up. */
export function compileRoutes(routes: readonly Route[]): readonly CompiledRoute[] {
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

/** A route whose path matches, with what its segments are. */
export interface RouteMatch {
  readonly route: Route;
  readonly segments: ReadonlyMap<string, string>;
}

/** Every route at `pathname`, whatever its method. */
export function matchRoutes(routes: readonly CompiledRoute[], pathname: string): readonly RouteMatch[] {
  return routes.flatMap(({ route, pattern, names }) => {
    const match = pattern.exec(pathname);
    if (match === null) return [];
    return [{ route, segments: new Map(names.map((name, index) => [name, decodeSegment(match[index + 1] ?? "")])) }];
  });
}

/** A segment that is not encoded well names nothing that exists, so it stays as it is. */
function decodeSegment(text: string): string {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
