/**
 * The two HTTP fronts: TCP for Prometheus and Kubernetes, and for whoever holds the token or is on this machine; the
 * control socket for whoever may open its file. They differ only in who may do what.
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

/** Every route of both fronts. */
export const ALL_ROUTES: readonly Route[] = [...OPEN_ROUTES, DASHBOARD_ROUTE, ...CONTROL_ROUTES];

/** Whether a text is the token; the file that holds it is read meanwhile. */
export type IsToken = (text: string) => boolean | Promise<boolean>;

/** The front for TCP; without `isToken` only this machine may use what is not open to all. */
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

/** Health and the dashboard cost nothing; a link to the metrics may be anywhere, as long as a person follows it. */
function isForeignAllowed({ headers }: IncomingMessage, route: Route): boolean {
  if (route === DASHBOARD_ROUTE || HEALTH_ROUTES.includes(route)) return true;
  return (
    OPEN_ROUTES.includes(route) && headers["sec-fetch-mode"] === "navigate" && headers["sec-fetch-dest"] === "document"
  );
}

/** With a token the page has to be there before its reader can say it; it holds no data. */
function isOpen(route: Route, hasToken: boolean): boolean {
  return OPEN_ROUTES.includes(route) || (route === DASHBOARD_ROUTE && hasToken);
}

/** The process at the other end of a Unix socket (unix(7), SO_PEERCRED). */
export interface Peer {
  readonly uid: number;
  readonly pid: number;
}

/**
 * The front for the control socket. `readPeer` returns the peer of the connection with this descriptor. A
 * proxy is refused, because it passes on what its clients ask: it comes here only if it was led here.
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
        return { kind: "refused", status: 403, message: "a proxy may not use the control socket" };
      return { kind: "admitted", caller: () => nameOf(peer) };
    },
  });
}

function peerOf(socket: Socket, readPeer: (fd: number) => Peer | undefined): Peer | undefined {
  const fd = descriptorOf(socket);
  return fd === undefined ? undefined : readPeer(fd);
}

function nameOf(peer: Peer | undefined): string {
  return peer === undefined ? "a client that is gone" : `uid ${peer.uid}, pid ${peer.pid}`;
}
