/**
 * The two HTTP fronts: TCP for Prometheus, Kubernetes, token holders and local clients; the control socket for
 * processes that may open its file. They differ only in access control.
 */
import type { IncomingMessage, Server } from "node:http";
import type { Socket } from "node:net";
import { descriptorOf } from "../descriptor.ts";
import type { ControllerHandle } from "../handle.ts";
import { CONTROL_ROUTES } from "../routes/controlRoutes.ts";
import { DASHBOARD_ROUTE } from "../routes/dashboardRoute.ts";
import { HEALTH_ROUTES, OPEN_ROUTES } from "../routes/openRoutes.ts";
import { bearerToken, decideAccess } from "./auth.ts";
import { type Admission, createFront } from "./front.ts";
import type { Route } from "./route.ts";

/** All routes; both fronts serve them. */
export const ALL_ROUTES: readonly Route[] = [...OPEN_ROUTES, DASHBOARD_ROUTE, ...CONTROL_ROUTES];

/** Whether a text is the token; may read the token file first. */
export type IsToken = (text: string) => boolean | Promise<boolean>;

/** The TCP front; without `isToken`, routes that are not open to all are limited to this machine. */
export function createTcpServer(controller: ControllerHandle, isToken?: IsToken, connections?: number): Server {
  const admitted = (request: IncomingMessage, route: Route | undefined) => admit(request, route, isToken);
  return createFront({ controller, routes: ALL_ROUTES, admit: admitted, connections });
}

function admit(
  request: IncomingMessage,
  route: Route | undefined,
  isToken: IsToken | undefined,
): Admission | Promise<Admission> {
  const presented = isToken === undefined ? undefined : bearerToken(request.headers.authorization);
  if (isToken === undefined || presented === undefined) return decide(request, route, isToken !== undefined, false);
  return Promise.resolve(isToken(presented)).then((isRight) => decide(request, route, true, isRight));
}

function decide(request: IncomingMessage, route: Route | undefined, hasToken: boolean, isRight: boolean): Admission {
  const { headers, socket } = request;
  const decision = decideAccess(
    {
      isOpen: route !== undefined && isOpen(route, hasToken),
      isForeignAllowed: route !== undefined && isForeignAllowed(request, route),
      remoteAddress: socket.remoteAddress,
      host: headers.host,
      origin: headers.origin,
      secFetchSite: headers["sec-fetch-site"]?.toString(),
      authorization: headers.authorization,
    },
    hasToken ? () => isRight : undefined,
  );
  return decision.kind === "refused" ? decision : { kind: "admitted", caller: () => decision.who };
}

/** Health and the dashboard cost nothing. Metrics are allowed from any link, but only if a person follows it. */
function isForeignAllowed({ headers }: IncomingMessage, route: Route): boolean {
  if (route === DASHBOARD_ROUTE || HEALTH_ROUTES.includes(route)) return true;
  return (
    OPEN_ROUTES.includes(route) && headers["sec-fetch-mode"] === "navigate" && headers["sec-fetch-dest"] === "document"
  );
}

/** With a token, the page must load before its user can enter the token; it contains no data. */
function isOpen(route: Route, hasToken: boolean): boolean {
  return OPEN_ROUTES.includes(route) || (route === DASHBOARD_ROUTE && hasToken);
}

/** The process at the other end of a Unix socket (unix(7), SO_PEERCRED). */
export interface Peer {
  readonly uid: number;
  readonly pid: number;
}

/**
 * The front for the control socket. `readPeer` returns the peer of the connection with this descriptor. A proxy is
 * refused, because it forwards its clients' requests: it connects here only if a client made it do so.
 */
export function createControlServer(
  controller: ControllerHandle,
  readPeer: (fd: number) => Peer | undefined,
  isProxy: (peer: Peer) => boolean = () => false,
): Server {
  return createFront({
    controller,
    routes: ALL_ROUTES,
    admit: ({ socket }) => {
      const peer = peerOf(socket, readPeer);
      if (peer !== undefined && isProxy(peer))
        return { kind: "refused", status: 403, message: "Envoy may not use the control socket" };
      return { kind: "admitted", caller: () => nameOf(peer) };
    },
  });
}

function peerOf(socket: Socket, readPeer: (fd: number) => Peer | undefined): Peer | undefined {
  const fd = descriptorOf(socket);
  return fd === undefined ? undefined : readPeer(fd);
}

function nameOf(peer: Peer | undefined): string {
  return peer === undefined ? "a disconnected client" : `uid ${peer.uid}, pid ${peer.pid}`;
}
