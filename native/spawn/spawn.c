/*
 * The spawn shim: becomes what a worker should be and then executes its program. It runs between the controller's
 * posix_spawn and the program, so that identity and limits change in the child only. It is freestanding: no libc, no
 * allocation, no relocations. docs/decisions/0013-spawn-shim.md explains why.
 *
 *   argv: SETTINGS DIRECTORY PROGRAM ARG...     (DIRECTORY may be empty; ARG... is the program's argv)
 *
 * SETTINGS is text without spaces: a letter and its numbers for each setting, each ended by a semicolon.
 *   r FD               descriptor to report on; closed by a successful exec
 *   l RES,SOFT,HARD    resource limit; an empty HARD keeps the present one, raised to SOFT if it is lower
 *   n NICE             nice value
 *   o ADJ, O DELTA     oom_score_adj, absolute or relative to the inherited one
 *   G GID,...          supplementary groups
 *   g GID, u UID       real, effective and saved ids
 *   a CAP,...          capabilities below 32 that are kept when the ids change, also by the program (ambient)
 *   m MASK             umask
 *   d PARENT           SIGKILL when the parent ends; exit if PARENT is not the parent any more
 *   p                  write the own pid into the variable LISTEN_PID, which has room for it
 * SETTINGS "" does nothing and exits 0: the controller tries out whether the shim may be executed.
 *
 * A report is 8 bytes: the letter of the setting (x: exec, c: directory), its resource, 2 unused bytes, errno. Failed
 * limits, nice and oom_score_adj are reported and the program starts nevertheless; everything else ends the shim with 127.
 */
typedef unsigned long u64;
typedef long i64;
typedef unsigned int u32;
typedef unsigned char u8;

#if defined(__x86_64__)
enum {
  SYS_write = 1, SYS_close = 3, SYS_getpid = 39, SYS_execve = 59, SYS_exit = 60, SYS_fcntl = 72, SYS_chdir = 80,
  SYS_umask = 95, SYS_getppid = 110, SYS_setgroups = 116, SYS_setresuid = 117, SYS_setresgid = 119,
  SYS_setpriority = 141, SYS_capset = 126, SYS_prctl = 157, SYS_openat = 257, SYS_prlimit64 = 302, SYS_pread64 = 17,
};

/* A fifth argument is 0: prctl(2) looks at it. */
static inline i64 call4(i64 number, u64 a, u64 b, u64 c, u64 d) {
  register u64 r10 __asm__("r10") = d;
  register u64 r8 __asm__("r8") = 0;
  i64 result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8) : "rcx", "r11", "memory");
  return result;
}

__asm__(".globl _start\n_start:\n  xor %ebp, %ebp\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call begin\n");
#elif defined(__aarch64__)
enum {
  SYS_write = 64, SYS_close = 57, SYS_getpid = 172, SYS_execve = 221, SYS_exit = 93, SYS_fcntl = 25, SYS_chdir = 49,
  SYS_umask = 166, SYS_getppid = 173, SYS_setgroups = 159, SYS_setresuid = 147, SYS_setresgid = 149,
  SYS_setpriority = 140, SYS_capset = 91, SYS_prctl = 167, SYS_openat = 56, SYS_prlimit64 = 261, SYS_pread64 = 67,
};

static inline i64 call4(i64 number, u64 a, u64 b, u64 c, u64 d) {
  register u64 x8 __asm__("x8") = (u64)number;
  register u64 x0 __asm__("x0") = a;
  register u64 x1 __asm__("x1") = b;
  register u64 x2 __asm__("x2") = c;
  register u64 x3 __asm__("x3") = d;
  register u64 x4 __asm__("x4") = 0;
  __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4) : "memory");
  return (i64)x0;
}

__asm__(".globl _start\n_start:\n  mov x29, #0\n  mov x30, #0\n  mov x0, sp\n  b begin\n");
#else
#error "only x86_64 and aarch64 are supported"
#endif

enum { F_SETFD = 2, FD_CLOEXEC = 1, PR_SET_PDEATHSIG = 1, SIGKILL = 9, RLIMIT_NPROC = 6, AT_FDCWD = -100, O_RDWR_CLOEXEC = 02000002 };
enum { PR_SET_KEEPCAPS = 8, PR_CAP_AMBIENT = 47, PR_CAP_AMBIENT_RAISE = 2, CAPABILITY_VERSION = 0x20080522 };
enum { EINVAL = 22, MAX_GROUPS = 8192, CANNOT_EXECUTE = 127 };

static i64 report_fd = -1;

static void report(u8 what, u8 resource, i64 error) {
  u8 record[8] = {what, resource, 0, 0, 0, 0, 0, 0};
  *(int *)(record + 4) = (int)-error;
  if (report_fd >= 0) call4(SYS_write, (u64)report_fd, (u64)record, sizeof record, 0);
}

__attribute__((noreturn)) static void leave(u64 code) {
  for (;;) call4(SYS_exit, code, 0, 0, 0);
}

/* Never runs the program as something that it should not be. */
static void require(u8 what, i64 result) {
  if (result >= 0) return;
  report(what, 0, result);
  leave(CANNOT_EXECUTE);
}

/* A decimal number at *at, which moves behind it. */
static u64 number(const char **at) {
  u64 value = 0;
  while (**at >= '0' && **at <= '9') value = value * 10 + (u64)(*(*at)++ - '0');
  return value;
}

static i64 signed_number(const char **at) {
  if (**at != '-') return (i64)number(at);
  ++*at;
  return -(i64)number(at);
}

/* Whether one more number follows. */
static int comma(const char **at) {
  if (**at != ',') return 0;
  ++*at;
  return 1;
}

/* Writes digits and a zero byte, and returns their number without it. */
static u64 write_number(char *to, i64 value) {
  char reversed[20];
  u64 count = 0, length = 0;
  u64 left = value < 0 ? (u64)-value : (u64)value;
  do reversed[count++] = (char)('0' + left % 10); while ((left /= 10) > 0);
  if (value < 0) to[length++] = '-';
  while (count > 0) to[length++] = reversed[--count];
  to[length] = 0;
  return length;
}

static void set_oom_score(int is_relative, i64 value) {
  char text[24];
  i64 fd = call4(SYS_openat, (u64)AT_FDCWD, (u64) "/proc/self/oom_score_adj", O_RDWR_CLOEXEC, 0);
  i64 failed = fd;
  if (fd >= 0) {
    if (is_relative) {
      i64 length = failed = call4(SYS_pread64, (u64)fd, (u64)text, sizeof text - 1, 0);
      text[length < 0 ? 0 : length] = 0;
      const char *at = text;
      value += signed_number(&at);
      if (value > 1000) value = 1000;
      if (value < -1000) value = -1000;
    }
    if (failed >= 0) failed = call4(SYS_write, (u64)fd, (u64)text, write_number(text, value), 0);
    call4(SYS_close, (u64)fd, 0, 0, 0);
  }
  if (failed < 0) report('o', 0, failed);
}

struct limit { u64 soft, hard; };

static u64 larger(u64 a, u64 b) { return a > b ? a : b; }

/*
 * All limits are set before the ids change, because raising them may need rights. The limit of processes is only raised
 * then and set afterwards: if the new user has reached it, the program could not be executed (execve(2), EAGAIN).
 */
static void set_limit(const char **at, int is_second) {
  u64 resource = number(at);
  struct limit present, wanted = {0, 0};
  int keeps_hard = 1;
  if (comma(at)) wanted.soft = number(at);
  if (comma(at) && **at != ';') wanted.hard = number(at), keeps_hard = 0;
  if (is_second && resource != RLIMIT_NPROC) return;
  i64 failed = call4(SYS_prlimit64, 0, resource, 0, (u64)&present);
  if (failed >= 0) {
    if (keeps_hard) wanted.hard = larger(wanted.soft, present.hard);
    if (resource == RLIMIT_NPROC && !is_second) {
      wanted.soft = larger(wanted.soft, present.soft);
      wanted.hard = larger(wanted.hard, present.hard);
    }
    failed = call4(SYS_prlimit64, 0, resource, (u64)&wanted, 0);
  }
  /* Once: what could not be raised cannot be set either. */
  if (failed < 0 && (is_second || resource != RLIMIT_NPROC)) report('l', (u8)resource, failed);
}

static void set_groups(const char **at) {
  u32 groups[MAX_GROUPS];
  u64 count = 0;
  if (**at != ';') do {
    if (count == MAX_GROUPS) require('G', -EINVAL);
    groups[count++] = (u32)number(at);
  } while (comma(at));
  require('G', call4(SYS_setgroups, count, (u64)groups, 0, 0));
}

/* A change from root to another user drops all capabilities; those that are kept are no longer in effect either. */
static void keep_capabilities(const char **at, int is_second) {
  if (!is_second) {
    require('a', call4(SYS_prctl, PR_SET_KEEPCAPS, 1, 0, 0));
    return;
  }
  const char *list = *at;
  u32 mask = 0;
  do mask |= 1u << (number(at) & 31); while (comma(at));
  u32 header[2] = {CAPABILITY_VERSION, 0};
  /* Effective, permitted and inheritable set of capabilities 0 to 31, then of the others. */
  u32 sets[6] = {mask, mask, mask, 0, 0, 0};
  require('a', call4(SYS_capset, (u64)header, (u64)sets, 0, 0));
  do require('a', call4(SYS_prctl, PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, number(&list), 0)); while (comma(&list));
}

static void die_with_parent(u64 parent) {
  require('d', call4(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL, 0, 0));
  /* It may have ended before. */
  if ((u64)call4(SYS_getppid, 0, 0, 0, 0) != parent) leave(CANNOT_EXECUTE);
}

static void set_listen_pid(char **envp) {
  static const char name[] = "LISTEN_PID=";
  for (; *envp != 0; envp++) {
    u64 at = 0;
    while (name[at] != 0 && (*envp)[at] == name[at]) at++;
    if (name[at] == 0) write_number(*envp + at, call4(SYS_getpid, 0, 0, 0, 0));
  }
}

/* One pass over the settings: the first before, the second after the ids have changed. */
static void apply(const char *at, int is_second, char **envp) {
  u64 id;
  while (*at != 0) {
    switch (*at++) {
      case 'r':
        report_fd = (i64)number(&at);
        if (!is_second) require('r', call4(SYS_fcntl, (u64)report_fd, F_SETFD, FD_CLOEXEC, 0));
        break;
      case 'l':
        set_limit(&at, is_second);
        break;
      case 'n':
        id = (u64)signed_number(&at);
        if (!is_second) {
          i64 failed = call4(SYS_setpriority, 0, 0, id, 0);
          if (failed < 0) report('n', 0, failed);
        }
        break;
      case 'o':
      case 'O':
        id = at[-1] == 'O';
        if (is_second) signed_number(&at);
        else set_oom_score((int)id, signed_number(&at));
        break;
      case 'G':
        if (!is_second) set_groups(&at);
        break;
      case 'g':
        id = number(&at);
        if (!is_second) require('g', call4(SYS_setresgid, id, id, id, 0));
        break;
      case 'u':
        id = number(&at);
        if (!is_second) require('u', call4(SYS_setresuid, id, id, id, 0));
        break;
      case 'a':
        keep_capabilities(&at, is_second);
        break;
      case 'm':
        id = number(&at);
        if (!is_second) call4(SYS_umask, id, 0, 0, 0);
        break;
      case 'd':
        id = number(&at);
        /* A change of ids resets it. */
        if (is_second) die_with_parent(id);
        break;
      case 'p':
        if (!is_second) set_listen_pid(envp);
        break;
    }
    while (*at != 0 && *at++ != ';') {
    }
  }
}

__attribute__((noreturn, used)) void begin(u64 *stack) {
  u64 argc = stack[0];
  char **argv = (char **)(stack + 1);
  char **envp = argv + argc + 1;
  if (argc < 4) leave(argc == 1 && argv[0][0] == 0 ? 0 : CANNOT_EXECUTE);
  apply(argv[0], 0, envp);
  apply(argv[0], 1, envp);
  /* As the program's user, who may not pass through directories that the controller may. */
  if (argv[1][0] != 0) require('c', call4(SYS_chdir, (u64)argv[1], 0, 0, 0));
  require('x', call4(SYS_execve, (u64)argv[2], (u64)(argv + 3), (u64)envp, 0));
  leave(CANNOT_EXECUTE);
}
