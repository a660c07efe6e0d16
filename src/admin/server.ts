/**
 * The two HTTP fronts: TCP for Prometheus and Kubernetes, and for whoever holds the token or is on this machine; the
 * control socket for whoever may open its file. They differ only in who may do what.
 */
import type { Server } from "node:http";
import { CONTROL_ROUTES } from "./controlRoutes.ts";
import { createFront } from "./front.ts";
import type { ControllerHandle } from "./handle.ts";
import { OPEN_ROUTES } from "./openRoutes.ts";
import type { Route } from "./route.ts";

/** Every route of both fronts. */
export const ALL_ROUTES: readonly Route[] = [...OPEN_ROUTES, ...CONTROL_ROUTES];

/** The front for TCP. */
export function createTcpServer(controller: ControllerHandle): Server {
  return createFront({
    controller,
    routes: OPEN_ROUTES,
    admit: () => ({ kind: "admitted", caller: () => "nobody" }),
  });
}

/** The front for the control socket. */
export function createControlServer(controller: ControllerHandle): Server {
  return createFront({
    controller,
    routes: ALL_ROUTES,
    admit: () => ({ kind: "admitted", caller: () => "the control socket" }),
  });
}
