/** Finds out before anything starts whether Envoy will be able to listen. */
import { createServer } from "node:net";
import { ControllerError } from "../../base/errors.ts";

/** What is to be listened on. */
export interface ListenerPlace {
  readonly pool: string;
  readonly address: string;
  readonly port: number;
}

/** Finds the process that listens on a port; undefined where it cannot be known. */
export type FindHolder = (port: number) => { readonly pid: number; readonly command: string } | undefined;

/**
 * Binds the port for a moment, without SO_REUSEPORT: then a program that shares it with others counts too.
 * @throws ControllerError LISTENER_PORT_IN_USE, ADDRESS_UNAVAILABLE
 */
export function checkListenerPort({ pool, address, port }: ListenerPlace, findHolder: FindHolder): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const what = `Cannot start the proxy of pool "${pool}": `;
      if (cause.code === "EADDRINUSE") {
        const holder = findHolder(port);
        const who = holder === undefined ? "another process" : `pid ${holder.pid} (${holder.command})`;
        const message = `${what}${who} holds port ${port} of "${address}"`;
        reject(
          new ControllerError("LISTENER_PORT_IN_USE", message, { cause, hint: "End it, or set server.listener_port." }),
        );
      } else {
        const message = `${what}address "${address}:${port}" cannot be bound: ${cause.code ?? cause.message}`;
        const hint =
          cause.code === "EACCES"
            ? { hint: "Ports below net.ipv4.ip_unprivileged_port_start, 1024 by default, need CAP_NET_BIND_SERVICE." }
            : {};
        reject(new ControllerError("ADDRESS_UNAVAILABLE", message, { cause, ...hint }));
      }
    });
    server.listen({ port, host: address, exclusive: true }, () => server.close(() => resolve()));
  });
}
