/**
 * The guardian: a small shell script that briefly outlives the controller. It reads the pids of worker sessions from a
 * pipe that only the controller holds. If the pipe closes without `bye`, the controller was killed: the guardian then
 * stops every known session and every process that carries the controller's mark in its environment. Works on every
 * image that has a shell, without setpriv. If the controller is PID 1, the kernel does the same.
 */
import { closeSync, constants, existsSync, openSync, writeSync } from "node:fs";
import { openPipe, PreparedStrings, spawnProcess } from "../os/linux.ts";

/** Marks each process that descends from this controller: `<pid>.<start>`. */
export const CONTROLLER_MARK = "MONOCEROS_CONTROLLER";

/** A variable that is not the first in the guardian's environment; the guardian tests its grep with it. */
const TRIAL = "MONOCEROS_GUARDIAN";

/**
 * The guardian's name in process lists. It is not the program's name: `pkill -f monoceros` must reach only the
 * controller. Otherwise every process of the service would seem to have received the signal (groupSignals.ts).
 */
const GUARDIAN_NAME = "controller-guardian";

/**
 * Reads `+pid`, `-pid` and `bye`. Sends SIGTERM so that requests can finish, then SIGKILL after a second.
 *
 * At a process limit no command can start, so builtins stop the known sessions. `command eval` keeps a failed fork from
 * ending dash and BusyBox, and a subshell from continuing the script. Bash retries a fork for 15 s, then exits, so in
 * bash nothing is started. Without sleep, pauses poll the clock (`read -t` needs SIGALRM in bash; dash lacks -t).
 *
 * The mark in their environment identifies processes that left their group. The script uses grep, or reads the
 * environment of each process younger than the controller. All shells but bash read byte by byte, so they do that only
 * after the sessions have exited. Shells drop the zero bytes between variables, so the mark may be anywhere in a line.
 * BusyBox's grep sees only the first variable, so head names the files and tr splits the variables into lines. Each
 * match is checked again, because a variable may hold anything. Only `kill -TERM -pid` works in dash, bash and BusyBox.
 */
const SCRIPT = `
trap '' TERM INT HUP QUIT USR1 USR2 PIPE
mark=$1
pids=' '
found=
while read -r line; do
  case $line in
    +*) pids="$pids\${line#+} " ;;
    -*) gone=\${line#-}; case $pids in *" $gone "*) pids="\${pids%% $gone *} \${pids#* $gone }" ;; esac ;;
    bye) exit 0 ;;
  esac
done
signal() {
  for pid in $pids; do kill "-$1" "-$pid"; done
  for pid in $found; do kill "-$1" "$pid"; done
} 2>/dev/null
alive() {
  for pid in $pids; do kill -0 "-$pid" && return 0; done
  for pid in $found; do kill -0 "$pid" && return 0; done
  return 1
} 2>/dev/null
signal TERM
forkless=$BASH_VERSION
command -v grep >/dev/null || forkless=y
uptime() { read -r up line </proc/uptime; up=\${up%.*}\${up#*.}; }
pause() {
  if [ ! "$BASH_VERSION" ] && command eval 'sleep 0.1'; then return 0; fi
  uptime; until=$((up + 10))
  while [ "$up" -lt "$until" ] && alive; do uptime; done
}
files() { grep -slF "$mark" /proc/[0-9]*/environ; }
if [ ! "$forkless" ] && ! command eval 'grep -sqF "${TRIAL}=" /proc/$$/environ'; then
  lines() { tr '\\000' '\\n'; }
  files() {
    head -c 131072 /proc/[0-9]*/environ | lines | grep -F -e '==> /proc/' -e "$mark" | while read -r line; do
      case $line in
        '==> /proc/'*) environ=\${line#'==> '}; environ=\${environ%' <=='} ;;
        *) lines <"$environ" | grep -qxF "$mark" && echo "$environ" ;;
      esac
    done
  }
fi
read_stat() {
  line=
  read -r line <"/proc/$1/stat"
  set -- \${line##*) } 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0
  group=$3 started=\${20}
}
add() {
  pid=\${1#/proc/}; pid=\${pid%/environ}
  read_stat "$pid"
  case "$pids$$ " in *" $group "*) ;; *) found="$found $pid" ;; esac
}
seen=' '
search() {
  found=
  environs=
  [ "$forkless" ] || command eval 'environs=$(command eval "files; echo all"; exit)'
  case $environs in
    *all) unsearched=; for environ in \${environs%all}; do add "$environ"; done; return ;;
  esac
  [ "$BASH_VERSION$killing" ] || { unsearched=y; return; }
  unsearched=
  for environ in /proc/[0-9]*/environ; do
    pid=\${environ#/proc/}; pid=\${pid%/environ}
    case $seen in *" $pid "*) continue ;; esac
    read_stat "$pid"
    if ! [ "$started" -lt "\${mark##*.}" ]; then
      while read -r line || [ "$line" ]; do
        case $line in *"$mark"*) add "$environ"; continue 2 ;; esac
      done <"$environ"
    fi
    seen="$seen$pid "
  done
}
left() { alive || { search; [ "$found$unsearched" ]; }; }
killing=
search
for pid in $found; do kill -TERM "$pid"; done
for turn in 1 2 3 4 5 6 7 8; do
  left || exit 0
  [ ! "$unsearched" ] || alive || break
  pause
done
killing=y
for turn in 1 2 3; do
  signal KILL
  search
  signal KILL
  left || exit 0
  pause
done
`;

const SHELLS = ["/bin/sh", "/usr/bin/sh", "/busybox/sh", "/bin/busybox"];

/** A shell of this image. */
export interface Shell {
  /** Absolute path. */
  readonly file: string;
  /** Arguments before those of the shell, starting with its own name. */
  readonly argv: readonly string[];
}

/** The shell of this image; undefined if it has none. */
export function findShell(): Shell | undefined {
  const file = SHELLS.find((path) => existsSync(path));
  if (file === undefined) return undefined;
  return { file, argv: file.endsWith("busybox") ? ["busybox", "sh"] : ["sh"] };
}

/** The controller's connection to its guardian. */
export class Guardian {
  readonly #mark: string;
  readonly #shell: Shell | undefined;
  readonly #sessions = new Set<number>();
  #writeFd: number | undefined;
  #pid: number | undefined;
  #pending = "";
  /** Whether a guardian should run: from `start` to `release`. */
  #isWanted = false;

  /** `mark` is the value of CONTROLLER_MARK in the environment of every worker. */
  constructor(mark: string) {
    this.#mark = mark;
    this.#shell = findShell();
  }

  /** Process id of the guardian; undefined before `start` and if there is no shell. */
  get pid(): number | undefined {
    return this.#pid;
  }

  /** Starts the guardian unless it runs; false if the image has no shell. @throws SystemCallError */
  start(): boolean {
    if (this.#shell === undefined) return false;
    if (this.#pid !== undefined) return true;
    this.#isWanted = true;
    const nullFd = openSync("/dev/null", "r+");
    const { readFd, writeFd } = openPipe();
    try {
      this.#pid = spawnProcess({
        file: this.#shell.file,
        argv: [...this.#shell.argv, "-c", SCRIPT, GUARDIAN_NAME, `${CONTROLLER_MARK}=${this.#mark}`],
        sharedEnv: new PreparedStrings([]),
        env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/busybox", `${TRIAL}=1`],
        cwd: "/",
        stdinFd: readFd,
        // /dev/null, so that the guardian never keeps the controller's output open.
        stdoutFd: nullFd,
        stderrFd: nullFd,
        // Blocked from the start, because the script sets its trap only later.
        blocksSignals: true,
      });
    } finally {
      closeSync(readFd);
      closeSync(nullFd);
    }
    // Reopened to make only this end non-blocking: a suspended guardian must not block the controller.
    this.#writeFd = openSync(`/proc/self/fd/${writeFd}`, constants.O_WRONLY | constants.O_NONBLOCK);
    closeSync(writeFd);
    this.#pending = [...this.#sessions].map((pid) => `+${pid}\n`).join("");
    this.#flush();
    return true;
  }

  /** Registers the session led by `pid`, which must not outlive the controller. */
  add(pid: number): void {
    this.#sessions.add(pid);
    this.#queue(`+${pid}\n`);
  }

  /** Unregisters the session led by `pid`, which is empty. */
  remove(pid: number): void {
    this.#sessions.delete(pid);
    this.#queue(`-${pid}\n`);
  }

  /** Call when `pid` was reaped. Replaces the guardian if it exited; returns whether it was the guardian. */
  handleExit(pid: number): boolean {
    if (pid !== this.#pid) return false;
    this.#close();
    this.#replace();
    return true;
  }

  /** Notifies the guardian of a graceful shutdown. */
  release(): void {
    this.#isWanted = false;
    this.#pending += "bye\n";
    this.#flush();
    this.#close();
  }

  /** Batches the lines of one turn into one write: 500 workers start without 500 wake-ups of the guardian. */
  #queue(line: string): void {
    if (this.#pending === "") queueMicrotask(() => this.#flush());
    this.#pending += line;
  }

  /** A failed start (no free descriptor or process) is retried when the next worker starts. */
  #replace(): void {
    try {
      this.start();
    } catch {
      this.#close();
    }
  }

  #flush(): void {
    if (this.#pid === undefined && this.#isWanted) this.#replace();
    const text = this.#pending;
    this.#pending = "";
    if (this.#writeFd === undefined || text === "") return;
    try {
      writeSync(this.#writeFd, text);
    } catch {
      // The guardian has exited (once reaped, it is replaced, and the new one receives all sessions) or does not read.
      // In that case it still finds the processes by their mark.
    }
  }

  #close(): void {
    if (this.#writeFd !== undefined) closeSync(this.#writeFd);
    this.#writeFd = undefined;
    this.#pid = undefined;
  }
}
