/** Finds the control socket of a running controller. Apart from client.ts, so that it can be used without an HTTP client. */
import { connect, Socket } from "node:net";
import { ControllerError } from "../base/errors.ts";

export const NO_CONTROLLER_HINT =
  "Start one with `monoceros run -c FILE`, or specify its control socket: --socket PATH, -c FILE or $MONOCEROS_SOCKET.";

/** Messages for socket errors, by their code. */
export const SOCKET_PROBLEMS: Readonly<Record<string, string>> = {
  ENOENT: "no such file",
  ENOTDIR: "no such file",
  ECONNREFUSED: "no process listens on it",
  ENOTSOCK: "not a socket",
  EAGAIN: "too many pending connections",
  EACCES: "permission denied",
  EPERM: "permission denied",
  EINVAL: "path too long for a socket",
};

/** Decides whether to trust a socket and the process that listens on it, before sending anything. */
export interface SocketTrust {
  /** Why the socket at a path is not trusted; undefined if it is. */
  distrustOf(path: string): string | undefined;
  /** The same for the process at the other end of a connection. */
  peerDistrustOf(socket: Socket, path: string): string | undefined;
}

/** A control socket on which a trusted process listens. */
export interface OpenSocket {
  readonly path: string;
  /** Open, and not used yet. */
  readonly connection: Socket;
  readonly trust: SocketTrust;
}

const TRUST_ALL: SocketTrust = { distrustOf: () => undefined, peerDistrustOf: () => undefined };

/**
 * Connects to the first path on which a trusted process listens.
 * @throws ControllerError NO_CONTROLLER, listing each path and its problem; its cause is the last error of a connect()
 */
export async function findSocket(candidates: readonly string[], trust: SocketTrust = TRUST_ALL): Promise<OpenSocket> {
  const problems: string[] = [];
  let cause: NodeJS.ErrnoException | undefined;
  for (const path of candidates) {
    const distrust = trust.distrustOf(path);
    if (distrust !== undefined) {
      problems.push(`${path}: not trusted, ${distrust}`);
      continue;
    }
    const found = await tryConnect(path);
    if (found instanceof Socket) {
      const stranger = trust.peerDistrustOf(found, path);
      if (stranger === undefined) return { path, connection: found, trust };
      found.destroy();
      problems.push(`${path}: not trusted, ${stranger}`);
    } else {
      cause = found;
      problems.push(`${path}: ${SOCKET_PROBLEMS[found.code ?? ""] ?? found.code ?? found.message}`);
    }
  }
  const where =
    problems.length === 1 ? ` at ${problems[0]}` : `; tried${problems.map((each) => `\n  ${each}`).join("")}`;
  throw new ControllerError("NO_CONTROLLER", `Cannot find a controller${where}`, { cause, hint: NO_CONTROLLER_HINT });
}

function tryConnect(path: string): Promise<Socket | NodeJS.ErrnoException> {
  return new Promise((resolve) => {
    const socket = connect(path);
    // The open connection must not keep a command alive that sends no request.
    socket.once("connect", () => resolve(socket.unref()));
    // Also handles later errors: there is no other listener until a request uses the connection.
    socket.on("error", resolve);
  });
}
