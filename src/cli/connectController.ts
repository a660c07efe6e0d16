/** Finds the running controller for a command, by flags and environment, and checks whether it is trusted. */
import { lstatSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { descriptorOf } from "../admin/descriptor.ts";
import { defaultSocketCandidates } from "../admin/http/socketPath.ts";
import type { ControlClient } from "./client.ts";
import type { Context } from "./command.ts";
import type { OpenSocket, SocketTrust } from "./findSocket.ts";

/**
 * The controller at --socket, or at admin.socket of -c, or from the environment, or at a default path. At a default
 * path only a controller of root or of the caller is accepted; at an explicit path, one of any user.
 * @throws ControllerError NO_CONTROLLER, CONFIG_UNREADABLE, CONFIG_INVALID
 */
export async function connectController(context: Context): Promise<ControlClient> {
  const [{ ControlClient }, socket] = await Promise.all([import("./client.ts"), openControlSocket(context)]);
  return new ControlClient(socket.path, socket);
}

/** An open connection to the same controller. @throws the same errors */
export async function openControlSocket(context: Context): Promise<OpenSocket> {
  const { findSocket } = await import("./findSocket.ts");
  const named = await namedSocket(context);
  const uid = process.getuid?.() ?? 0;
  const candidates = named === undefined ? defaultSocketCandidates(context.env, uid, tmpdir()) : [named];
  return findSocket(candidates, await socketTrust(named !== undefined, uid));
}

/** The socket that the user specified; undefined to search the default paths. */
async function namedSocket(context: Context): Promise<string | undefined> {
  const socket = context.text("socket");
  if (socket !== undefined) return socket;
  const file = context.text("config");
  if (file !== undefined) {
    const { readConfig } = await import("../controller/configFile.ts");
    const configured = (await readConfig(file, context.env)).config.admin.socket;
    if (configured !== undefined) return configured;
  }
  const chosen = context.env["MONOCEROS_SOCKET"] ?? "";
  return chosen === "" ? undefined : chosen;
}

async function socketTrust(isNamed: boolean, uid: number): Promise<SocketTrust> {
  const [{ readPeer }, { distrustOf }] = await Promise.all([
    import("../runtime/os/peerCredentials.ts"),
    import("../files/inspectPath.ts"),
  ]);
  return {
    // Most default paths do not exist; connecting detects that at lower cost.
    distrustOf: (path) => (isNamed || !exists(path) ? undefined : distrustOf(path)?.reason),
    peerDistrustOf(socket, path) {
      const fd = descriptorOf(socket);
      const peer = fd === undefined ? undefined : readPeer(fd);
      if (peer === undefined) return "cannot determine which process listens on it";
      const owner = isNamed ? statSync(path, { throwIfNoEntry: false })?.uid : undefined;
      if (peer.uid === 0 || peer.uid === uid || peer.uid === owner) return undefined;
      return `a process of user ${peer.uid} listens on it, expected root or user ${uid}`;
    },
  };
}

function exists(path: string): boolean {
  try {
    return lstatSync(path, { throwIfNoEntry: false }) !== undefined;
  } catch {
    // The path is not accessible to this user.
    return false;
  }
}
