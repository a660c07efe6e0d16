/** Socket options of another process's TCP connections, read from copies of its descriptors (pidfd_getfd(2)). */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";

/** Arguments: the pid. Prints a line of JSON for each connected TCP socket. */
const SCRIPT = `
import ctypes, json, os, socket, sys
pid = int(sys.argv[1])
pidfd = os.pidfd_open(pid)
for number in os.listdir(f"/proc/{pid}/fd"):
    fd = ctypes.CDLL(None).syscall(438, pidfd, int(number), 0)
    try:
        copy = socket.socket(fileno=fd)
        if copy.family in (socket.AF_INET, socket.AF_INET6) and not copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            no_delay = copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0
            print(json.dumps({"localPort": copy.getsockname()[1], "remotePort": copy.getpeername()[1], "noDelay": no_delay}))
    except OSError:
        pass
`;

export interface TcpConnection {
  readonly localPort: number;
  readonly remotePort: number;
  /** TCP_NODELAY is set: small writes are sent at once. */
  readonly noDelay: boolean;
}

/** The TCP connections of a process that this process may trace. */
export function readTcpConnections(pid: number): TcpConnection[] {
  const { status, stdout, stderr } = spawnSync("python3", ["-c", SCRIPT, String(pid)], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return stdout
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => JSON.parse(line) as TcpConnection);
}
