/** Which files and directories do not lead to a restart: what editors, package managers, tests and programs write. Pure. */

/** Names of directories. All whose name begins with a dot are ignored too. */
const DIRECTORIES: ReadonlySet<string> = new Set([
  "__pycache__",
  "bower_components",
  "coverage",
  "htmlcov",
  "log",
  "logs",
  "node_modules",
  "temp",
  "tmp",
  "venv",
]);

/** A directory with this file is a virtual environment of Python, whatever its name is. */
export const VIRTUAL_ENVIRONMENT = "pyvenv.cfg";

const FILES: readonly RegExp[] = [
  // Hidden files, such as .app.js.swp, .#app.js, .DS_Store and .coverage, but not .env.
  /^\.(?!env(?:\.|$))/u,
  // Backups and files in progress of vim, emacs, JetBrains, LibreOffice and others. Vim probes a directory with 4913.
  /~$|^4913$|^#.*#$|\.(?:sw[a-p]|tmp|temp|bak|orig|part)$|___jb_(?:tmp|old)___$/u,
  // What Python and TypeScript write beside sources.
  /\.(?:pyc|pyo|tsbuildinfo)$/u,
  // What programs write while they run.
  /\.(?:log|pid|sock|prof|heapsnapshot)$|\.log\.\d+$|^nohup\.out$/u,
  /\.(?:db|sqlite|sqlite3)(?:-journal|-wal|-shm)?$/u,
];

export function isIgnoredDirectory(name: string): boolean {
  return name.startsWith(".") || DIRECTORIES.has(name) || name.endsWith(".egg-info");
}

export function isIgnoredFile(name: string): boolean {
  return FILES.some((pattern) => pattern.test(name));
}
