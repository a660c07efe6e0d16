/** Opens the admin port and the control socket. */
import type { Server } from "node:http";
import { tmpdir } from "node:os";
import type { ControllerHandle } from "../admin/handle.ts";
import { ControlSocket } from "../admin/http/controlSocket.ts";
import { listenOnPort, listenOnSocket } from "../admin/http/listen.ts";
import { createControlServer, createTcpServer } from "../admin/http/server.ts";
import { defaultSocketCandidates } from "../admin/http/socketPath.ts";
import { TokenFile } from "../admin/http/tokenFile.ts";
import type { Logger } from "../base/log.ts";
import type { AdminConfig } from "../config/config.ts";
import type { ControllerView } from "../core/view.ts";
import { openListener } from "../runtime/os/linux.ts";
import { readPeer } from "../runtime/os/peerCredentials.ts";
import { findListener, findUnixListener } from "../runtime/os/procfs.ts";
import { openTcpListener } from "../runtime/socket/tcpListener.ts";
import { openConnections } from "./capacity.ts";

/** Maximum pending connections to the admin port; net.core.somaxconn limits it further. */
const BACKLOG = 4096;

export interface AdminOptions {
  readonly config: AdminConfig;
  readonly handle: ControllerHandle;
  readonly view: () => ControllerView;
  readonly log: Logger;
  readonly resources: DisposableStack;
}

/** Opens both servers. @throws ControllerError PORT_IN_USE, ADDRESS_UNAVAILABLE, CONTROL_SOCKET_IN_USE, CONTROL_SOCKET_UNSAFE */
export async function openAdmin({ config, handle, view, log, resources }: AdminOptions): Promise<readonly Server[]> {
  const find = { onPort: findListener, onSocket: findUnixListener };
  const { tokenFile } = config;
  const token = tokenFile === undefined ? undefined : await TokenFile.open(tokenFile, (message) => log.warn(message));
  const isToken = token === undefined ? undefined : (text: string) => token.matches(text);
  const openServer = createTcpServer(handle, isToken, openConnections());
  const controlServer = createControlServer(handle, readPeer, proxyDetector(view, log));
  const candidates =
    config.socket === undefined
      ? defaultSocketCandidates(process.env, process.getuid?.() ?? 0, tmpdir())
      : [config.socket];
  const open = async (host: string, port: number) => (await openTcpListener({ host, port }, BACKLOG)).fd;
  const port = await listenOnPort(openServer, config.port, config.address, open, find);
  const openSocket = (path: string, backlog: number) => openListener({ family: "Unix", path }, backlog, 0);
  const { file, reasons } = await listenOnSocket(controlServer, candidates, find, openSocket).catch(
    (error: unknown) => {
      // A port that keeps listening would keep this process from exiting.
      openServer.close();
      throw error;
    },
  );
  if (file === undefined) log.warn("running without a control socket: no usable path for it");
  else resources.use(new ControlSocket({ server: controlServer, file, find, open: openSocket, log }));
  for (const reason of reasons) log.warn(`the control socket cannot be there: ${reason}`);
  log.debug("admin listens", { address: `${config.address}:${port}`, socket: file?.path });
  return [openServer, controlServer];
}

/** Whether a peer of the control socket is our own Envoy. Only a worker can have directed it there. Warns once. */
function proxyDetector(view: () => ControllerView, log: Logger): (peer: { readonly pid: number }) => boolean {
  let isWarned = false;
  return ({ pid }) => {
    const proxy = view().pools.find(
      ({ role, workers }) => role === "proxy" && workers.some((each) => each.pid === pid),
    );
    if (proxy === undefined) return false;
    if (!isWarned)
      log.warn(`refused Envoy (pid ${pid}, ${proxy.name}) at the control socket: a worker has led it there`);
    isWarned = true;
    return true;
  };
}
