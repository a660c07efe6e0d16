/**
 * The guardian: a small shell that outlives the controller by moments. It reads the pids of worker sessions from a pipe
 * that only the controller holds; when the pipe ends without a farewell, the controller was killed, and the guardian
 * ends every session it knows and every process that carries the controller's mark in its environment. Works on every
 * image that has a shell, without setpriv; where the controller is PID 1 the kernel does the same for it.
 */
import { closeSync, constants, existsSync, openSync, writeSync } from "node:fs";
import { openPipe, PreparedStrings, spawnProcess } from "../os/linux.ts";

/** Marks each process that descends from this controller: `<pid>.<start>`. */
export const CONTROLLER_MARK = "MONOCEROS_CONTROLLER";

/** A variable that is not the first of the guardian's environment, by which it tries out its grep. */
const TRIAL = "MONOCEROS_GUARDIAN";

/**
 * Its name in process lists. Not the program's: `pkill -f monoceros` is to reach the controller, and would otherwise look as if
 * every process of the service had received the signal (groupSignals.ts).
 */
const GUARDIAN_NAME = "controller-guardian";

/**
 * Reads `+pid`, `-pid` and `bye`. SIGTERM first, so that requests under way may end; SIGKILL after a second for what remains.
 *
 * At a limit on processes no command can be started, so the known sessions are ended by builtins alone. `command eval` keeps a
 * failing fork from ending dash and BusyBox, and a subshell from continuing the script. Bash retries it for 15 s and then exits, so in bash nothing is started at all. Without
 * sleep, a pause is a look at the clock again and again (`read -t` needs SIGALRM in bash, and dash has no -t).
 *
 * Processes that left their group are found by the mark in their environment: by grep, or by reading the environment of each
 * process that is younger than the controller. All shells but bash read byte by byte, so they do that only after the sessions are
 * gone. A shell drops the zero bytes between variables, so the mark is looked for inside a line. BusyBox's grep looks only at
 * the first variable, so head names the files and tr splits the variables into lines; each file found is checked again, because a
 * variable may hold anything. `kill -TERM -pid` is the one form that dash, bash and BusyBox understand alike.
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
  /** The arguments before those of the shell, its own name first. */
  readonly argv: readonly string[];
}

/** The shell of this image; undefined where it has none. */
export function findShell(): Shell | undefined {
  const file = SHELLS.find((path) => existsSync(path));
  if (file === undefined) return undefined;
  return { file, argv: file.endsWith("busybox") ? ["busybox", "sh"] : ["sh"] };
}

/** The controller's line to its guardian. */
export class Lifeline {
  readonly #mark: string;
  readonly #shell: Shell | undefined;
  readonly #sessions = new Set<number>();
  #writeFd: number | undefined;
  #pid: number | undefined;
  #pending = "";
  /** Whether there shall be a guardian: from the start to the farewell. */
  #isWanted = false;

  /** `mark` is the value of CONTROLLER_MARK in the environment of every worker. */
  constructor(mark: string) {
    this.#mark = mark;
    this.#shell = findShell();
  }

  /** Process id of the guardian; undefined before `start` and where there is no shell. */
  get pid(): number | undefined {
    return this.#pid;
  }

  /** Starts the guardian, unless it runs; false where the image has no shell. @throws SystemCallError */
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
        // Its own descriptors lead nowhere, so that it never keeps the controller's output open.
        stdoutFd: nullFd,
        stderrFd: nullFd,
        // From its first moment on: the trap of the script comes later.
        blocksSignals: true,
      });
    } finally {
      closeSync(readFd);
      closeSync(nullFd);
    }
    // Opened anew to be non-blocking at this end only: a guardian that is stopped must not stop the controller.
    this.#writeFd = openSync(`/proc/self/fd/${writeFd}`, constants.O_WRONLY | constants.O_NONBLOCK);
    closeSync(writeFd);
    this.#pending = [...this.#sessions].map((pid) => `+${pid}\n`).join("");
    this.#flush();
    return true;
  }

  /** The session led by `pid` shall not outlive the controller. */
  add(pid: number): void {
    this.#sessions.add(pid);
    this.#queue(`+${pid}\n`);
  }

  /** The session led by `pid` is empty. */
  remove(pid: number): void {
    this.#sessions.delete(pid);
    this.#queue(`-${pid}\n`);
  }

  /** Call when `pid` was reaped: a guardian that someone killed is replaced. Whether it was the guardian. */
  handleExit(pid: number): boolean {
    if (pid !== this.#pid) return false;
    this.#close();
    this.#replace();
    return true;
  }

  /** Tells the guardian that the controller leaves in order. */
  release(): void {
    this.#isWanted = false;
    this.#pending += "bye\n";
    this.#flush();
    this.#close();
  }

  /** One write for all that happens in one turn: 500 workers start without 500 wake-ups of the guardian. */
  #queue(line: string): void {
    if (this.#pending === "") queueMicrotask(() => this.#flush());
    this.#pending += line;
  }

  /** A start that fails (no descriptor, no process left) is tried again when the next worker starts. */
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
      // It is gone (its exit is on the way and brings a new one that is told everything) or does not read: then it
      // still finds the processes by their mark.
    }
  }

  #close(): void {
    if (this.#writeFd !== undefined) closeSync(this.#writeFd);
    this.#writeFd = undefined;
    this.#pid = undefined;
  }
}
