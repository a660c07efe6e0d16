/**
 * Finds out from /proc whether a process waits for connections on a socket that it holds: an epoll set contains the socket,
 * a thread is in accept(2), or a thread is in poll(2) or select(2) with the socket among its descriptors. Waiting through
 * io_uring is not visible.
 */
import { listNames, readAt, readText } from "../os/procFile.ts";
import { type Descriptors, socketInode } from "./descriptors.ts";

/** Maximum depth of nested epoll sets to follow; the kernel allows 5 (EP_MAX_NESTS). */
const MAX_NESTING = 5;

/** Maximum number of descriptors of one poll(2) to inspect. */
const MAX_POLLED = 4096;

const EPOLLIN = 1;
const POLLIN = 1;

/** Numbers of the system calls that wait (unistd.h). */
const CALLS =
  process.arch === "arm64"
    ? { accept: [202, 242], poll: [73], select: [72] }
    : { accept: [43, 288], poll: [7, 271], select: [23, 270] };

/** One entry of an epoll set: the descriptor that was added, and the inode of its file. */
interface EpollEntry {
  readonly fd: number;
  readonly events: number;
  /** undefined on kernels older than 5.4. */
  readonly inode: string | undefined;
}

/** The entries of an epoll set in a text of /proc/pid/fdinfo/fd (proc(5)). */
function parseEpollEntries(text: string): EpollEntry[] {
  const entries: EpollEntry[] = [];
  for (const line of text.split("\n")) {
    const match = /^tfd:\s*(\d+)\s+events:\s*([\da-f]+)/u.exec(line);
    if (match?.[1] === undefined || match[2] === undefined) continue;
    const inode = /\bino:([\da-f]+)/u.exec(line)?.[1];
    entries.push({
      fd: Number(match[1]),
      events: Number.parseInt(match[2], 16),
      inode: inode === undefined ? undefined : String(Number.parseInt(inode, 16)),
    });
  }
  return entries;
}

/** The number and arguments of a thread's system call; undefined if it runs or may not be inspected. */
function parseSyscall(text: string): { readonly number: number; readonly args: readonly bigint[] } | undefined {
  const [number, ...args] = text.trim().split(" ");
  if (number === undefined || !/^\d+$/u.test(number)) return undefined;
  return { number: Number(number), args: args.slice(0, 6).map((arg) => BigInt(arg)) };
}

/** Whether the process waits on one of the sockets with these inodes. */
export function waitsOn(
  pid: number,
  descriptors: Exclude<Descriptors, "refused">,
  inodes: ReadonlySet<string>,
): boolean {
  const held = new Set<number>();
  const epolls = new Set<number>();
  for (const [fd, target] of descriptors) {
    const inode = socketInode(target);
    if (inode !== undefined && inodes.has(inode)) held.add(fd);
    else if (target === "anon_inode:[eventpoll]") epolls.add(fd);
  }
  if (held.size === 0) return false;
  for (const epoll of epolls) if (hasInEpoll(pid, epoll, held, epolls, inodes, MAX_NESTING)) return true;
  return isInCall(pid, held);
}

function hasInEpoll(
  pid: number,
  epoll: number,
  held: ReadonlySet<number>,
  epolls: ReadonlySet<number>,
  inodes: ReadonlySet<string>,
  depth: number,
): boolean {
  const text = readText(`/proc/${pid}/fdinfo/${epoll}`) ?? "";
  return parseEpollEntries(text).some(({ fd, events, inode }) => {
    if ((events & EPOLLIN) === 0) return false;
    if (inode === undefined ? held.has(fd) : inodes.has(inode)) return true;
    return depth > 0 && fd !== epoll && epolls.has(fd) && hasInEpoll(pid, fd, held, epolls, inodes, depth - 1);
  });
}

function isInCall(pid: number, held: ReadonlySet<number>): boolean {
  return listNames(`/proc/${pid}/task`).some((thread) => {
    const call = parseSyscall(readText(`/proc/${pid}/task/${thread}/syscall`) ?? "");
    return call !== undefined && isCallFor(pid, call, held);
  });
}

function isCallFor(
  pid: number,
  { number, args }: NonNullable<ReturnType<typeof parseSyscall>>,
  held: ReadonlySet<number>,
): boolean {
  const [first = 0n, second = 0n] = args;
  if (CALLS.accept.includes(number)) return held.has(Number(first));
  if (CALLS.poll.includes(number)) {
    // struct pollfd: descriptor, wanted events, returned events.
    const polled = readAt(`/proc/${pid}/mem`, first, Math.min(Number(second), MAX_POLLED) * 8);
    // Without access to its memory, all that is known is that the process polls and holds the socket.
    if (polled === undefined) return true;
    for (let at = 0; at + 8 <= polled.length; at += 8)
      if (held.has(polled.readInt32LE(at)) && (polled.readInt16LE(at + 4) & POLLIN) !== 0) return true;
    return false;
  }
  if (!CALLS.select.includes(number)) return false;
  // A bit for each descriptor below the first argument, in the set that the second one points to.
  if (second === 0n) return false;
  const readable = readAt(`/proc/${pid}/mem`, second, Math.ceil(Number(first) / 8));
  return [...held].some(
    (fd) => BigInt(fd) < first && (readable === undefined || ((readable[fd >> 3] ?? 0) & (1 << (fd & 7))) !== 0),
  );
}
