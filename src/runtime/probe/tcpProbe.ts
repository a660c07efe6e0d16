/** Probes by a connection to a TCP port or a Unix socket. */
import { connect, type Socket } from "node:net";
import type { AttemptOutcome } from "../../core/policy/probe.ts";
import { Attempt, connectOptions, type NetworkMethod, outcomeOfError } from "./attempt.ts";

const SELF_CONNECTION: AttemptOutcome = {
  kind: "failure",
  reason: "connection refused (the kernel connected the probe to itself)",
  how: "refused",
};

/** An established connection is success; it is closed at once. */
export const tcpMethod: NetworkMethod<unknown> = {
  describe: (where) => `connection to ${where}`,
  attempt(address, _, timeoutMs, settle) {
    const attempt = new Attempt(timeoutMs, settle);
    const socket = connect(connectOptions(address));
    attempt.releaseBy(() => socket.destroy());
    socket.on("error", (error) => attempt.end(outcomeOfError(error)));
    socket.on("connect", () => {
      if (isConnectedToItself(socket)) attempt.end(SELF_CONNECTION);
      else attempt.succeed();
    });
    return attempt;
  },
};

/**
 * Whether both ends of a connection are this socket. This happens if no process listens on an ephemeral port and the
 * kernel also picks that port as the local port, which is likely after many attempts.
 */
export function isConnectedToItself(socket: Socket): boolean {
  const { localPort, remotePort, localAddress, remoteAddress } = socket;
  return localPort !== undefined && localPort === remotePort && localAddress === remoteAddress;
}
