/** Names of the system calls that a process waits in or is busy with, by their number on this machine (unistd.h). */

const X64 = `
  0 read, 1 write, 7 poll, 9 mmap, 11 munmap, 17 pread64, 18 pwrite64, 19 readv, 20 writev, 23 select, 28 madvise,
  34 pause, 35 nanosleep, 42 connect, 43 accept, 44 sendto, 45 recvfrom, 46 sendmsg, 47 recvmsg, 61 wait4, 72 fcntl,
  73 flock, 74 fsync, 75 fdatasync, 128 rt_sigtimedwait, 130 rt_sigsuspend, 202 futex, 220 semtimedop,
  230 clock_nanosleep, 232 epoll_wait, 247 waitid, 257 openat, 270 pselect6, 271 ppoll, 281 epoll_pwait, 288 accept4`;

const ARM64 = `
  22 epoll_pwait, 25 fcntl, 32 flock, 56 openat, 63 read, 64 write, 65 readv, 66 writev, 67 pread64, 68 pwrite64,
  72 pselect6, 73 ppoll, 82 fsync, 83 fdatasync, 95 waitid, 98 futex, 101 nanosleep, 115 clock_nanosleep,
  133 rt_sigsuspend, 137 rt_sigtimedwait, 192 semtimedop, 202 accept, 203 connect, 206 sendto, 207 recvfrom,
  211 sendmsg, 212 recvmsg, 215 munmap, 222 mmap, 233 madvise, 242 accept4, 260 wait4`;

/** Newer calls have the same number on every architecture. */
const COMMON = "426 io_uring_enter, 441 epoll_pwait2";

const NAMES = new Map(
  `${process.arch === "arm64" ? ARM64 : X64}, ${COMMON}`.split(",").map((entry) => {
    const [number, name] = entry.trim().split(" ");
    return [Number(number), name];
  }),
);

/** The name of a system call; `system call 999` if it is not one of the common ones. */
export function syscallName(number: number): string {
  return NAMES.get(number) ?? `system call ${number}`;
}
