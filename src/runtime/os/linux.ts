/**
 * System calls that Node.js has no API for, through node:ffi. Only this file, peerCredentials.ts and exitNow.ts use it.
 * It is experimental, but the pinned runtime is shipped inside the executable, so it cannot change. Linux with glibc,
 * x64 and arm64. Each function is a thin adapter; policy lives with the callers. Use on the main thread only.
 */

import ffi from "node:ffi";
import { openSync, writeSync } from "node:fs";
import { constants as os } from "node:os";
import { monotonicMs } from "../../base/monotonic.ts";
import { encodeOsText } from "../../base/osText.ts";

const { functions: libc } = ffi.dlopen(null, {
  __errno_location: { arguments: [], return: "pointer" },
  strerror: { arguments: ["i32"], return: "pointer" },
  prctl: { arguments: ["i32", "u64", "u64", "u64", "u64"], return: "i32" },
  kill: { arguments: ["i32", "i32"], return: "i32" },
  waitpid: { arguments: ["i32", "pointer", "i32"], return: "i32" },
  fcntl: { arguments: ["i32", "i32", "i64"], return: "i32" },
  pipe2: { arguments: ["pointer", "i32"], return: "i32" },
  prlimit: { arguments: ["i32", "i32", "pointer", "pointer"], return: "i32" },
  signal: { arguments: ["i32", "u64"], return: "u64" },
  pthread_sigmask: { arguments: ["i32", "pointer", "pointer"], return: "i32" },
  memfd_create: { arguments: ["pointer", "u32"], return: "i32" },
  poll: { arguments: ["pointer", "u64", "i32"], return: "i32" },
  syscall: { arguments: ["i64", "i64", "i64", "i64"], return: "i64" },
  socket: { arguments: ["i32", "i32", "i32"], return: "i32" },
  getsockopt: { arguments: ["i32", "i32", "i32", "pointer", "pointer"], return: "i32" },
  setsockopt: { arguments: ["i32", "i32", "i32", "pointer", "u32"], return: "i32" },
  bind: { arguments: ["i32", "pointer", "u32"], return: "i32" },
  listen: { arguments: ["i32", "i32"], return: "i32" },
  getsockname: { arguments: ["i32", "pointer", "pointer"], return: "i32" },
  getpeername: { arguments: ["i32", "pointer", "pointer"], return: "i32" },
  shutdown: { arguments: ["i32", "i32"], return: "i32" },
  inet_pton: { arguments: ["i32", "pointer", "pointer"], return: "i32" },
  recv: { arguments: ["i32", "pointer", "u64", "i32"], return: "i64" },
  sendto: { arguments: ["i32", "pointer", "u64", "i32", "pointer", "u32"], return: "i64" },
  close: { arguments: ["i32"], return: "i32" },
  inotify_init1: { arguments: ["i32"], return: "i32" },
  malloc_trim: { arguments: ["u64"], return: "i32" },
  pthread_create: { arguments: ["pointer", "pointer", "pointer", "pointer"], return: "i32" },
  pthread_join: { arguments: ["u64", "pointer"], return: "i32" },
  sem_init: { arguments: ["pointer", "i32", "u32"], return: "i32" },
  sem_wait: { arguments: ["pointer"], return: "i32" },
  sem_post: { arguments: ["pointer"], return: "i32" },
  sysconf: { arguments: ["i32"], return: "i64" },
  posix_spawn: { arguments: ["pointer", "pointer", "pointer", "pointer", "pointer", "pointer"], return: "i32" },
  posix_spawnattr_init: { arguments: ["pointer"], return: "i32" },
  posix_spawnattr_setflags: { arguments: ["pointer", "i16"], return: "i32" },
  posix_spawnattr_setsigmask: { arguments: ["pointer", "pointer"], return: "i32" },
  posix_spawnattr_setsigdefault: { arguments: ["pointer", "pointer"], return: "i32" },
  posix_spawn_file_actions_init: { arguments: ["pointer"], return: "i32" },
  posix_spawn_file_actions_destroy: { arguments: ["pointer"], return: "i32" },
  posix_spawn_file_actions_adddup2: { arguments: ["pointer", "i32", "i32"], return: "i32" },
  posix_spawn_file_actions_addchdir_np: { arguments: ["pointer", "pointer"], return: "i32" },
});

const SIG_UNBLOCK = 1;
const SIG_IGN = 1n;
const PR_SET_CHILD_SUBREAPER = 36;
const F_SETFL = 4;
const F_SETOWN = 8;
const F_DUPFD_CLOEXEC = 1030;
const F_ADD_SEALS = 1033;
/** Seals everything: the file cannot change any more, nor can its seals. */
const ALL_SEALS = 0xf;
const MFD_CLOEXEC = 1;
const MFD_ALLOW_SEALING = 2;
const MFD_EXEC = 0x10;
const POLLIN = 1;
/** struct pollfd: descriptor, requested events, returned events. */
const POLLFD_BYTES = 8;
const WNOHANG = 1;
const O_CLOEXEC = 0o2000000;
const O_NONBLOCK = 0o4000;
const O_ASYNC = 0o20000;
const SYS_PIDFD_OPEN = 434;
const SYS_CLOSE_RANGE = 436;
const SYS_PIDFD_GETFD = 438;
const SHUT_RDWR = 2;
const CLOSE_RANGE_CLOEXEC = 4;
const POSIX_SPAWN_SETSIGDEF = 0x04;
const POSIX_SPAWN_SETSIGMASK = 0x08;
const POSIX_SPAWN_SETSID = 0x80;
const SC_CLK_TCK = 2;
const SC_PAGESIZE = 30;
const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM_CLOEXEC = 1 | O_CLOEXEC;
const SOCK_DGRAM_CLOEXEC = 2 | O_CLOEXEC;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const TCP_INFO = 11;
const AF_NETLINK = 16;
const SOCK_RAW_CLOEXEC = 3 | O_CLOEXEC;
const NETLINK_SOCK_DIAG = 4;
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const NLMSG_HEADER_BYTES = 16;
/** The kernel fills a message of a dump with at most 32 KiB. */
const ANSWER_BYTES = 65_536;
const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
/** sun_path of sockaddr_un without its final zero byte (unix(7)). */
const MAX_UNIX_PATH_BYTES = 107;

/** The limits of setrlimit(2), by the names that the configuration uses; the index is the number (asm-generic/resource.h). */
const RLIMIT_NAMES =
  "cpu fsize data stack core rss nproc nofile memlock as locks sigpending msgqueue nice rtprio rttime".split(" ");

/** The number of each limit. */
export const RLIMITS: Readonly<Record<string, number>> = Object.fromEntries(
  RLIMIT_NAMES.map((name, number) => [name, number]),
);

const RLIM_INFINITY = 2n ** 64n - 1n;

/** Memory at a fixed address for C: never moved by the garbage collector, and alive as long as it is referenced. */
class Memory {
  readonly bytes: Buffer;
  readonly address: bigint;

  constructor(bytes: Buffer) {
    this.bytes = bytes;
    this.address = ffi.getRawPointer(bytes);
  }

  static ofSize(size: number): Memory {
    const bytes = Buffer.allocUnsafeSlow(Math.max(size, 128));
    bytes.fill(0);
    return new Memory(bytes);
  }

  static ofText(text: string): Memory {
    const memory = Memory.ofSize(Buffer.byteLength(text) + 1);
    writeText(memory.bytes, text, 0);
    return memory;
  }
}

/** Writes text as the bytes that it represents. Returns their number, at most Buffer.byteLength. */
function writeText(bytes: Buffer, text: string, offset: number): number {
  if (text.isWellFormed()) return bytes.write(text, offset);
  const encoded = encodeOsText(text);
  bytes.set(encoded, offset);
  return encoded.length;
}

const errnoAddress = libc.__errno_location();
/** Stays open after its first use: sharing it is cheaper than opening it in each child. */
let nullFd: number | undefined;
const scratch = Memory.ofSize(256);

/** errno of the last failed call. */
function errno(): number {
  return ffi.getInt32(errnoAddress);
}

const NAMES_BY_ERRNO = namesByNumber(os.errno);
const NAMES_BY_SIGNAL = namesByNumber(os.signals);

/** If a number has two names, keeps the first, the common one: EAGAIN, not EWOULDBLOCK; SIGABRT, not SIGIOT. */
function namesByNumber(numbers: Readonly<Record<string, number>>): ReadonlyMap<number, string> {
  return new Map(
    Object.entries(numbers)
      .map(([name, number]) => [number, name] as const)
      .reverse(),
  );
}

/** A failed system call. */
export class SystemCallError extends Error {
  override readonly name = "SystemCallError";
  readonly code: string;

  constructor(call: string, number: number) {
    const code = NAMES_BY_ERRNO.get(number) ?? `errno ${number}`;
    super(`${call}: ${code}, ${ffi.toString(libc.strerror(number)) ?? "unknown error"}`);
    this.code = code;
  }
}

/** Makes this process adopt orphaned descendants (prctl(2), PR_SET_CHILD_SUBREAPER). */
export function becomeSubreaper(): void {
  if (libc.prctl(PR_SET_CHILD_SUBREAPER, 1n, 0n, 0n, 0n) !== 0) throw new SystemCallError("prctl", errno());
}

/** Ignores `signal`, a number up to 64 (signal(2), SIG_IGN). Signals that glibc reserves for itself stay unchanged. */
export function ignoreSignal(signal: number): void {
  libc.signal(signal, SIG_IGN);
}

/** Unblocks `signal`, a number up to 64, in this thread. A pending one is delivered at once (pthread_sigmask(3)). */
export function unblockSignal(signal: number): void {
  scratch.bytes.fill(0);
  scratch.bytes.writeBigUInt64LE(1n << BigInt(signal - 1));
  const error = libc.pthread_sigmask(SIG_UNBLOCK, scratch.address, 0n);
  if (error !== 0) throw new SystemCallError("pthread_sigmask", error);
}

/** Marks all descriptors from 3 up close-on-exec, so that workers inherit none that the controller was started with. */
export function closeInheritedOnExec(): boolean {
  return libc.syscall(BigInt(SYS_CLOSE_RANGE), 3n, 0x7fffffffn, BigInt(CLOSE_RANGE_CLOEXEC)) === 0n;
}

/** Returns free memory that malloc holds to the system (malloc_trim(3)). */
export function returnFreeMemory(): void {
  libc.malloc_trim(0n);
}

/**
 * How many of `wanted` threads this process could start now. libuv and V8 abort the process if one of their threads
 * cannot start, so callers check first. The threads wait for a semaphore until the last one exists, then exit.
 */
export function countStartableThreads(wanted: number): number {
  const semaphore = Memory.ofSize(128);
  const ids = Memory.ofSize(wanted * 8);
  libc.sem_init(semaphore.address, 0, 0);
  let started = 0;
  while (started < wanted) {
    const id = ids.address + BigInt(started * 8);
    if (libc.pthread_create(id, 0n, libc.sem_wait.pointer, semaphore.address) !== 0) break;
    started++;
  }
  for (let index = 0; index < started; index++) libc.sem_post(semaphore.address);
  for (let index = 0; index < started; index++) libc.pthread_join(ids.bytes.readBigUInt64LE(index * 8), 0n);
  return started;
}

/** Clock ticks per second and bytes per page, the units of /proc (sysconf(3)). */
export function readSystemUnits(): { readonly ticksPerSecond: number; readonly pageBytes: number } {
  return { ticksPerSecond: Number(libc.sysconf(SC_CLK_TCK)), pageBytes: Number(libc.sysconf(SC_PAGESIZE)) };
}

/**
 * Makes room for descriptors up to `count` at once. The kernel doubles the descriptor table as it fills. Each time it
 * waits for an RCU grace period (7 to 20 ms), because the runtime's threads share the table.
 */
export function reserveDescriptors(count: number): void {
  const fd = libc.fcntl(0, F_DUPFD_CLOEXEC, BigInt(count));
  if (fd >= 0) libc.close(fd);
}

/** Opens an inotify instance; negative if none can be opened. */
export function openInotify(): number {
  return libc.inotify_init1(O_CLOEXEC);
}

/**
 * How many more inotify instances this user can open, up to `most`. Opens them briefly, because the kernel does not
 * report how many a user has.
 */
export function countFreeInotify(most: number): number {
  const fds: number[] = [];
  while (fds.length < most) {
    const fd = openInotify();
    if (fd < 0) break;
    fds.push(fd);
  }
  for (const fd of fds) libc.close(fd);
  return fds.length;
}

/**
 * kill(2): whether the target exists (EPERM means that it does). Called at every exit, where the exception of
 * process.kill would cost more than the call. `signal` is a name, or 0 to only check.
 */
export function sendSignal(pid: number, signal: string | 0): boolean {
  const number = signal === 0 ? 0 : os.signals[signal as NodeJS.Signals];
  return libc.kill(pid, number) === 0 || errno() === os.errno.EPERM;
}

/** A reaped child. */
export interface Reaped {
  readonly pid: number;
  readonly status:
    | { readonly kind: "code"; readonly code: number }
    | { readonly kind: "signal"; readonly signal: string };
}

/** Reaps one exited child of any kind without waiting; undefined if none has exited. */
export function reapOne(): Reaped | undefined {
  const pid = libc.waitpid(-1, scratch.address, WNOHANG);
  return pid <= 0 ? undefined : { pid, status: decodeStatus(scratch.bytes.readInt32LE(0)) };
}

/** Reaps one child by its pid without waiting; undefined while it runs. @throws SystemCallError (ECHILD) */
export function reapPid(pid: number): Reaped["status"] | undefined {
  const reaped = libc.waitpid(pid, scratch.address, WNOHANG);
  if (reaped < 0) throw new SystemCallError("waitpid", errno());
  return reaped === 0 ? undefined : decodeStatus(scratch.bytes.readInt32LE(0));
}

/** Waits for a child that is about to exit, and reaps it. */
export function awaitExit(pid: number): void {
  while (libc.waitpid(pid, scratch.address, 0) < 0 && errno() === os.errno.EINTR);
}

/** Decodes a status of wait(2). */
function decodeStatus(raw: number): Reaped["status"] {
  const number = raw & 0x7f;
  if (number === 0) return { kind: "code", code: (raw >> 8) & 0xff };
  return { kind: "signal", signal: NAMES_BY_SIGNAL.get(number) ?? `signal ${number}` };
}

/** The two ends of a pipe; both close-on-exec. The caller closes them. */
export interface Pipe {
  readonly readFd: number;
  readonly writeFd: number;
}

/**
 * A real pipe: a worker can open /dev/stdout on it, but not on a socket. Its capacity is the kernel's default;
 * measurements of a larger one showed no gain. If a process inherits the write end as descriptor `lowest`, the end must
 * not be below it: it would be overwritten before it is copied. @throws SystemCallError (EMFILE, ENFILE)
 */
export function openPipe(lowest = 0): Pipe {
  if (libc.pipe2(scratch.address, O_CLOEXEC) !== 0) throw new SystemCallError("pipe2", errno());
  const [readFd, writeFd] = [scratch.bytes.readInt32LE(0), scratch.bytes.readInt32LE(4)];
  try {
    return { readFd, writeFd: raiseDescriptor(writeFd, lowest) };
  } catch (error) {
    libc.close(readFd);
    throw error;
  }
}

/** Moves `fd` to a number not below `lowest`, close-on-exec, unless it is there already. @throws SystemCallError */
export function raiseDescriptor(fd: number, lowest: number): number {
  if (fd >= lowest) return fd;
  const raised = libc.fcntl(fd, F_DUPFD_CLOEXEC, BigInt(lowest));
  const failure = raised < 0 ? new SystemCallError("fcntl", errno()) : undefined;
  libc.close(fd);
  if (failure !== undefined) throw failure;
  return raised;
}

/** The soft and the hard limit of a process (0: this one); RLIM_INFINITY is "unlimited". @throws SystemCallError */
export function getLimit(pid: number, resource: number) {
  if (libc.prlimit(pid, resource, 0n, scratch.address) !== 0) throw new SystemCallError("prlimit", errno());
  const read = (offset: number): number | "unlimited" => {
    const value = scratch.bytes.readBigUInt64LE(offset);
    return value === RLIM_INFINITY ? "unlimited" : Number(value);
  };
  return { soft: read(0), hard: read(8) };
}

/** The first descriptor that a process may inherit besides 0, 1 and 2 (sd_listen_fds(3) counts from it too). */
export const FIRST_INHERITED_FD = 3;

/** The parameters of posix_spawn. The caller still has to close the descriptors. */
export interface ProcessRequest {
  /** Absolute path. */
  readonly file: string;
  readonly argv: readonly string[];
  /** `KEY=value` entries that many spawns share, prepared once. */
  readonly sharedEnv: PreparedStrings;
  /** `KEY=value` entries of this process. */
  readonly env: readonly string[];
  readonly cwd: string | undefined;
  /** Descriptor that becomes 0; undefined means /dev/null. */
  readonly stdinFd: number | undefined;
  /** Descriptors that become 1 and 2; undefined inherits the controller's. */
  readonly stdoutFd: number | undefined;
  readonly stderrFd: number | undefined;
  /**
   * Descriptors that become 3, 4 and so on. Each must itself be above the highest of these numbers, or it would be
   * overwritten before it is copied.
   */
  readonly inheritedFds?: readonly number[];
  /** Whether it starts with all signals blocked except those that a program needs for itself; false by default. */
  readonly blocksSignals?: boolean;
}

const spawnAttributes = Memory.ofSize(1024);
const fileActions = Memory.ofSize(1024);
const pidOut = Memory.ofSize(128);
const noSignals = Memory.ofSize(128);
const foreignSignals = Memory.ofSize(128);
prepareSpawnAttributes();

/** Default signal actions, and a session (so also a process group) of its own. Each spawn sets the signal mask. */
function prepareSpawnAttributes(): void {
  const allSignals = Memory.ofSize(128);
  allSignals.bytes.fill(0xff);
  // Faults, signals that programs send to themselves, and notifications about children.
  const own = ["SIGILL", "SIGTRAP", "SIGABRT", "SIGBUS", "SIGFPE", "SIGSEGV", "SIGSYS", "SIGCHLD", "SIGCONT"] as const;
  const foreign = own.reduce(
    (mask, name) => mask & ~(1n << BigInt(os.signals[name as NodeJS.Signals] - 1)),
    2n ** 64n - 1n,
  );
  foreignSignals.bytes.writeBigUInt64LE(foreign);
  libc.posix_spawnattr_init(spawnAttributes.address);
  libc.posix_spawnattr_setsigdefault(spawnAttributes.address, allSignals.address);
  libc.posix_spawnattr_setflags(
    spawnAttributes.address,
    POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK,
  );
}

/** C strings that stay in memory for many spawns. */
export class PreparedStrings {
  /** Number of strings. */
  readonly count: number;
  /** Their addresses as C pointers, to be copied in one step. */
  readonly pointers: Buffer;
  /** Keeps the memory alive. */
  readonly memory: Memory;

  constructor(texts: readonly string[]) {
    this.count = texts.length;
    this.pointers = Buffer.alloc(texts.length * 8);
    this.memory = Memory.ofSize(texts.reduce((size, text) => size + Buffer.byteLength(text) + 1, 0));
    let offset = 0;
    for (const [index, text] of texts.entries()) {
      this.pointers.writeBigUInt64LE(this.memory.address + BigInt(offset), index * 8);
      offset += writeText(this.memory.bytes, text, offset) + 1;
    }
  }
}

const NO_STRINGS = new PreparedStrings([]);

/** A NULL-terminated array of C strings: `texts`, stored in the same block, then the prepared strings. */
function stringArray(texts: readonly string[], prepared: PreparedStrings = NO_STRINGS): Memory {
  const pointers = texts.length + prepared.count + 1;
  let size = pointers * 8;
  for (const text of texts) size += Buffer.byteLength(text) + 1;
  const memory = Memory.ofSize(size);
  let offset = pointers * 8;
  let at = 0;
  for (const text of texts) {
    at = memory.bytes.writeBigUInt64LE(memory.address + BigInt(offset), at);
    offset += writeText(memory.bytes, text, offset) + 1;
  }
  prepared.pointers.copy(memory.bytes, at);
  return memory;
}

/**
 * Starts a process in a session of its own and returns its pid. Blocks until the exec has happened (vfork), so a failed
 * exec is reported at once. @throws SystemCallError
 */
export function spawnProcess(request: ProcessRequest): number {
  const kept: Memory[] = [];
  const keep = (memory: Memory): bigint => {
    kept.push(memory);
    return memory.address;
  };
  libc.posix_spawn_file_actions_init(fileActions.address);
  try {
    const actions = fileActions.address;
    nullFd ??= openSync("/dev/null", "r");
    libc.posix_spawn_file_actions_adddup2(actions, request.stdinFd ?? nullFd, 0);
    // Node.js marks its own 0, 1 and 2 close-on-exec at startup; a dup2 onto itself reverts that in the child.
    libc.posix_spawn_file_actions_adddup2(actions, request.stdoutFd ?? 1, 1);
    libc.posix_spawn_file_actions_adddup2(actions, request.stderrFd ?? 2, 2);
    // Last, because these may overwrite descriptors that are copied above. The copies lose close-on-exec.
    for (const [index, fd] of (request.inheritedFds ?? []).entries())
      libc.posix_spawn_file_actions_adddup2(actions, fd, FIRST_INHERITED_FD + index);
    if (request.cwd !== undefined) libc.posix_spawn_file_actions_addchdir_np(actions, keep(Memory.ofText(request.cwd)));
    const file = keep(Memory.ofText(request.file));
    const argv = keep(stringArray(request.argv));
    const envp = keep(stringArray(request.env, request.sharedEnv));
    const mask = request.blocksSignals === true ? foreignSignals : noSignals;
    libc.posix_spawnattr_setsigmask(spawnAttributes.address, mask.address);
    const failed = libc.posix_spawn(pidOut.address, file, actions, spawnAttributes.address, argv, envp);
    if (failed !== 0) throw new SystemCallError(`posix_spawn of ${request.file}`, failed);
    return pidOut.bytes.readInt32LE(0);
  } finally {
    libc.posix_spawn_file_actions_destroy(fileActions.address);
    kept.length = 0;
  }
}

/**
 * An anonymous executable file in memory, immutable and closed on exec. `name` is shown only in /proc.
 * @throws SystemCallError (ENOSYS; EACCES if vm.memfd_noexec is 2)
 */
export function openExecutableMemory(name: string, content: Uint8Array): number {
  const label = Memory.ofText(name);
  const create = (flags: number) => libc.memfd_create(label.address, flags);
  let fd = create(MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_EXEC);
  // Kernels before Linux 6.3 do not know the flag; there every such file is executable.
  if (fd < 0 && errno() === os.errno.EINVAL) fd = create(MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0) throw new SystemCallError("memfd_create", errno());
  writeSync(fd, content);
  if (libc.fcntl(fd, F_ADD_SEALS, BigInt(ALL_SEALS)) !== 0) {
    const failure = new SystemCallError("fcntl", errno());
    libc.close(fd);
    throw failure;
  }
  return fd;
}

/** Waits up to `boundMs` until a read of `fd` would not block; returns whether it is readable. */
export function waitReadable(fd: number, boundMs: number): boolean {
  const deadline = monotonicMs() + boundMs;
  for (;;) {
    scratch.bytes.writeInt32LE(fd, 0);
    scratch.bytes.writeInt32LE(POLLIN, 4);
    const count = libc.poll(scratch.address, 1n, Math.max(0, Math.ceil(deadline - monotonicMs())));
    if (count >= 0) return count > 0;
    if (errno() !== os.errno.EINTR) throw new SystemCallError("poll", errno());
  }
}

/**
 * Sends one datagram to a Unix socket without waiting; a leading "@" means Linux's abstract namespace. For sd_notify(3).
 * @throws SystemCallError (EAGAIN if the receiver has not read earlier ones)
 */
export function sendDatagram(path: string, text: string): void {
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0);
  if (fd < 0) throw new SystemCallError("socket", errno());
  try {
    const name = Buffer.from(path.startsWith("@") ? `\0${path.slice(1)}` : path);
    const address = Memory.ofSize(2 + name.length + 1);
    address.bytes.writeUInt16LE(AF_UNIX, 0);
    name.copy(address.bytes, 2);
    const length = 2 + name.length + (path.startsWith("@") ? 0 : 1);
    const body = Memory.ofText(text);
    const flags = MSG_NOSIGNAL | MSG_DONTWAIT;
    const sent = libc.sendto(fd, body.address, BigInt(Buffer.byteLength(text)), flags, address.address, length);
    if (sent < 0n) throw new SystemCallError("sendto", errno());
  } finally {
    libc.close(fd);
  }
}

/** Messages of sd_notify(3) have at most PIPE_BUF bytes; the rest of a longer one is cut. */
const MAX_DATAGRAM_BYTES = 4096;

/**
 * Binds a datagram socket to a path, close-on-exec. The kernel sends this process SIGIO whenever a datagram arrives
 * (fcntl(2), O_ASYNC): Node.js has no event for such sockets. @throws SystemCallError (EADDRINUSE, ENAMETOOLONG, EMFILE …)
 */
export function openDatagramReceiver(path: string): number {
  const fd = libc.socket(AF_UNIX, SOCK_DGRAM_CLOEXEC, 0);
  if (fd < 0) throw new SystemCallError("socket", errno());
  try {
    const { memory, length } = socketAddress({ family: "Unix", path });
    if (libc.bind(fd, memory.address, length) !== 0) throw new SystemCallError("bind", errno());
    if (libc.fcntl(fd, F_SETOWN, BigInt(process.pid)) !== 0) throw new SystemCallError("fcntl", errno());
    if (libc.fcntl(fd, F_SETFL, BigInt(O_NONBLOCK | O_ASYNC)) !== 0) throw new SystemCallError("fcntl", errno());
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/** The next datagram as UTF-8 text; undefined if none has arrived. */
export function receiveDatagram(fd: number): string | undefined {
  answer ??= Memory.ofSize(ANSWER_BYTES);
  const length = Number(libc.recv(fd, answer.address, BigInt(MAX_DATAGRAM_BYTES), MSG_DONTWAIT));
  return length < 0 ? undefined : answer.bytes.toString("utf8", 0, length);
}

/** Those of the descriptors that can be read without waiting. */
export function findReadable(fds: readonly number[]): readonly number[] {
  const entries = Memory.ofSize(fds.length * POLLFD_BYTES);
  for (const [index, fd] of fds.entries()) {
    entries.bytes.writeInt32LE(fd, index * POLLFD_BYTES);
    entries.bytes.writeInt16LE(POLLIN, index * POLLFD_BYTES + 4);
  }
  if (libc.poll(entries.address, BigInt(fds.length), 0) <= 0) return [];
  return fds.filter((_, index) => entries.bytes.readInt16LE(index * POLLFD_BYTES + 6) !== 0);
}

/** Where a stream socket listens; port 0 lets the kernel choose. */
export type ListenAddress =
  | { readonly family: "IPv4" | "IPv6"; readonly host: string; readonly port: number }
  | { readonly family: "Unix"; readonly path: string };

/**
 * Binds a stream socket and listens. The descriptor is close-on-exec and not below `lowestFd`. It blocks, as in
 * sd_listen_fds(3): all processes that inherit the socket share the flag. A program that polls sets O_NONBLOCK itself;
 * a plain accept loop would spin on a nonblocking socket. SO_REUSEADDR lets a restart bind a port whose old connections
 * linger. SO_REUSEPORT is not set, so no other process can share the port. Accepted connections inherit TCP_NODELAY
 * (tcp(7)): servers that do not set it, such as uvicorn with --fd, would answer each request on a kept-alive connection
 * 40 ms late, as Nagle's algorithm waits for the client's delayed ACK. An IPv6 wildcard also accepts IPv4 if
 * net.ipv6.bindv6only is 0. @throws SystemCallError (EADDRINUSE, EADDRNOTAVAIL, EACCES, EAFNOSUPPORT, ENOENT …)
 */
export function openListener(address: ListenAddress, backlog: number, lowestFd: number): number {
  const family = address.family === "Unix" ? AF_UNIX : address.family === "IPv4" ? AF_INET : AF_INET6;
  const opened = libc.socket(family, SOCK_STREAM_CLOEXEC, 0);
  if (opened < 0) throw new SystemCallError("socket", errno());
  const fd = raiseDescriptor(opened, lowestFd);
  try {
    if (family !== AF_UNIX) {
      enableOption(fd, SOL_SOCKET, SO_REUSEADDR);
      enableOption(fd, IPPROTO_TCP, TCP_NODELAY);
    }
    const { memory, length } = socketAddress(address);
    if (libc.bind(fd, memory.address, length) !== 0) throw new SystemCallError("bind", errno());
    if (libc.listen(fd, backlog) !== 0) throw new SystemCallError("listen", errno());
    return fd;
  } catch (error) {
    libc.close(fd);
    throw error;
  }
}

/**
 * Why a program that sets SO_REUSEADDR cannot bind a TCP port at `host`, as an errno name; undefined if it can.
 * SO_REUSEPORT is not set, so a socket that would share the port with others also blocks it. Binds briefly and does not
 * listen.
 */
export function whyNotBindable(address: Extract<ListenAddress, { family: "IPv4" | "IPv6" }>): string | undefined {
  const fd = libc.socket(address.family === "IPv4" ? AF_INET : AF_INET6, SOCK_STREAM_CLOEXEC, 0);
  if (fd < 0) return new SystemCallError("socket", errno()).code;
  try {
    enableOption(fd, SOL_SOCKET, SO_REUSEADDR);
    const { memory, length } = socketAddress(address);
    return libc.bind(fd, memory.address, length) === 0 ? undefined : new SystemCallError("bind", errno()).code;
  } finally {
    libc.close(fd);
  }
}

/** Length of a listening TCP socket's accept queue (tcp(7), TCP_INFO); undefined if the kernel does not report it. */
export function readTcpQueue(fd: number): number | undefined {
  const info = Memory.ofSize(256);
  scratch.bytes.writeUInt32LE(256);
  if (libc.getsockopt(fd, IPPROTO_TCP, TCP_INFO, info.address, scratch.address) !== 0) return undefined;
  // tcpi_unacked, which is sk_ack_backlog in this state (tcp_get_info in net/ipv4/tcp.c).
  return info.bytes.readUInt32LE(24);
}

let answer: Memory | undefined;

/**
 * Sends a request to the kernel's socket diagnostics (sock_diag(7)). Returns the messages of the answer with their
 * headers; undefined if the kernel refuses or does not know the request.
 */
export function querySockets(request: Uint8Array, isDump: boolean): readonly Buffer[] | undefined {
  const fd = libc.socket(AF_NETLINK, SOCK_RAW_CLOEXEC, NETLINK_SOCK_DIAG);
  if (fd < 0) return undefined;
  try {
    const message = Memory.ofSize(request.length);
    message.bytes.set(request);
    const kernel = Memory.ofSize(12);
    kernel.bytes.writeUInt16LE(AF_NETLINK, 0);
    const sent = libc.sendto(fd, message.address, BigInt(request.length), 0, kernel.address, 12);
    if (sent !== BigInt(request.length)) return undefined;
    const found: Buffer[] = [];
    answer ??= Memory.ofSize(ANSWER_BYTES);
    for (;;) {
      const length = Number(libc.recv(fd, answer.address, BigInt(ANSWER_BYTES), MSG_DONTWAIT));
      if (length < NLMSG_HEADER_BYTES) return undefined;
      for (let at = 0; at + NLMSG_HEADER_BYTES <= length; ) {
        const size = answer.bytes.readUInt32LE(at);
        const type = answer.bytes.readUInt16LE(at + 4);
        if (type === NLMSG_DONE) return found;
        if (type === NLMSG_ERROR || size < NLMSG_HEADER_BYTES) return undefined;
        found.push(Buffer.from(answer.bytes.subarray(at, Math.min(at + size, length))));
        at += (size + 3) & ~3;
      }
      if (!isDump) return found;
    }
  } finally {
    libc.close(fd);
  }
}

/** Sets a socket option to 1. @throws SystemCallError */
function enableOption(fd: number, level: number, option: number): void {
  scratch.bytes.writeInt32LE(1);
  if (libc.setsockopt(fd, level, option, scratch.address, 4) !== 0) throw new SystemCallError("setsockopt", errno());
}

/** A struct sockaddr_in, sockaddr_in6 or sockaddr_un. */
function socketAddress(address: ListenAddress): { readonly memory: Memory; readonly length: number } {
  const memory = Memory.ofSize(128);
  const { bytes } = memory;
  if (address.family === "Unix") {
    const path = Buffer.from(address.path);
    if (path.length > MAX_UNIX_PATH_BYTES) throw new SystemCallError("bind", os.errno.ENAMETOOLONG);
    bytes.writeUInt16LE(AF_UNIX, 0);
    path.copy(bytes, 2);
    return { memory, length: 2 + path.length + 1 };
  }
  const isIpv4 = address.family === "IPv4";
  bytes.writeUInt16LE(isIpv4 ? AF_INET : AF_INET6, 0);
  bytes.writeUInt16BE(address.port, 2);
  const host = Memory.ofText(address.host);
  // sin_addr follows the port, sin6_addr the flow label.
  const at = memory.address + (isIpv4 ? 4n : 8n);
  if (libc.inet_pton(isIpv4 ? AF_INET : AF_INET6, host.address, at) !== 1)
    throw new SystemCallError("inet_pton", os.errno.EINVAL);
  return { memory, length: isIpv4 ? 16 : 28 };
}

/** The port that an IPv4 or IPv6 socket is bound to (getsockname(2)). @throws SystemCallError */
export function boundPort(fd: number): number {
  if (!readName(libc.getsockname, fd)) throw new SystemCallError("getsockname", errno());
  return socketName.bytes.readUInt16BE(2);
}

/** The address family of a socket as C names it; undefined if it is another one. @throws SystemCallError */
export function socketFamily(fd: number): "AF_INET" | "AF_INET6" | "AF_UNIX" | undefined {
  if (!readName(libc.getsockname, fd)) throw new SystemCallError("getsockname", errno());
  const family = socketName.bytes.readUInt16LE(0);
  if (family === AF_UNIX) return "AF_UNIX";
  return family === AF_INET ? "AF_INET" : family === AF_INET6 ? "AF_INET6" : undefined;
}

/** A descriptor that refers to a process (pidfd_open(2)). The caller closes it. @throws SystemCallError */
export function openProcess(pid: number): number {
  const fd = Number(libc.syscall(BigInt(SYS_PIDFD_OPEN), BigInt(pid), 0n, 0n));
  if (fd < 0) throw new SystemCallError("pidfd_open", errno());
  return fd;
}

/**
 * A copy of another process's descriptor (pidfd_getfd(2)); requires permission to trace the process (ptrace(2)). The
 * caller closes it. Undefined if the process has closed the original. @throws SystemCallError such as EPERM
 */
export function copyDescriptor(processFd: number, fd: number): number | undefined {
  const copy = Number(libc.syscall(BigInt(SYS_PIDFD_GETFD), BigInt(processFd), BigInt(fd), 0n));
  if (copy >= 0) return copy;
  const number = errno();
  if (number === os.errno.EBADF) return undefined;
  throw new SystemCallError("pidfd_getfd", number);
}

/** A port of 127.0.0.1, or the path of a Unix socket. */
export type LocalEnd = { readonly port: number } | { readonly path: string };

/**
 * The ends of a connection; an end that is not on loopback or a Unix socket, or has no address, is undefined. Undefined
 * if the descriptor is not a connected socket.
 */
export function readConnection(fd: number) {
  if (!readName(libc.getpeername, fd)) return undefined;
  const peer = parseLocalEnd();
  return { peer, own: readName(libc.getsockname, fd) ? parseLocalEnd() : undefined };
}

/** Shuts down both directions of a connection, for every process that shares it (shutdown(2)). */
export function endConnection(fd: number): void {
  libc.shutdown(fd, SHUT_RDWR);
}

const socketName = Memory.ofSize(128);

function readName(call: typeof libc.getsockname, fd: number): boolean {
  scratch.bytes.writeUInt32LE(socketName.bytes.length);
  socketName.bytes.fill(0);
  return call(fd, socketName.address, scratch.address) === 0;
}

/** Parses the sockaddr_in or sockaddr_un in `socketName`, whose length is in `scratch`. */
function parseLocalEnd(): LocalEnd | undefined {
  const { bytes } = socketName;
  const family = bytes.readUInt16LE(0);
  if (family === AF_INET) return bytes.readUInt32BE(4) === 0x7f000001 ? { port: bytes.readUInt16BE(2) } : undefined;
  // A path ends with a zero byte; an abstract name begins with one.
  const length = Math.min(scratch.bytes.readUInt32LE(0), bytes.length);
  if (family !== AF_UNIX || length <= 2 || bytes[2] === 0) return undefined;
  const end = bytes.indexOf(0, 2);
  return { path: bytes.toString("utf8", 2, end < 0 ? length : end) };
}
