/** Checks before anything starts whether Envoy can listen. */
import { createServer } from "node:net";
import { ControllerError } from "../../base/errors.ts";

/** The address that a proxy will listen on. */
interface ListenerAddress {
  readonly pool: string;
  readonly address: string;
  readonly port: number;
}

/** Finds the process that listens on a port; undefined if it cannot be determined. */
type FindHolder = (port: number) => { readonly pid: number; readonly command: string } | undefined;

/**
 * Binds the port briefly, without SO_REUSEPORT, so that a program that shares the port is detected too.
 * @throws ControllerError LISTENER_PORT_IN_USE, ADDRESS_UNAVAILABLE
 */
export function checkListenerPort({ pool, address, port }: ListenerAddress, findHolder: FindHolder): Promise<void> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", (cause: NodeJS.ErrnoException) => {
      const what = `Cannot start the proxy of pool "${pool}": `;
      if (cause.code === "EADDRINUSE") {
        const holder = findHolder(port);
        const who = holder === undefined ? "another process" : `pid ${holder.pid} (${holder.command})`;
        const message = `${what}${who} holds port ${port} of "${address}"`;
        reject(
          new ControllerError("LISTENER_PORT_IN_USE", message, {
            cause,
            hint: "Stop it, or set server.listener_port.",
          }),
        );
      } else {
        const message = `${what}address "${address}:${port}" cannot be bound: ${cause.code ?? cause.message}`;
        const hint =
          cause.code === "EACCES"
            ? "Ports below net.ipv4.ip_unprivileged_port_start, 1024 by default, need CAP_NET_BIND_SERVICE."
            : undefined;
        reject(new ControllerError("ADDRESS_UNAVAILABLE", message, { cause, hint }));
      }
    });
    server.listen({ port, host: address, exclusive: true }, () => server.close(() => resolve()));
  });
}
