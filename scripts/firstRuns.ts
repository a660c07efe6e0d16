/**
 * Records what a new user sees, from the installation to the first answer and a rolling restart: installs the packages of
 * dist/release into empty directories, runs the commands of the page, and writes docs/howto/first-runs.md. Run it after
 * `make dist`: `node scripts/firstRuns.ts`. It needs python3 and npm with their registries, and the ports 8000 and 9000.
 */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, globSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";

const RELEASE = "dist/release";
/** The pinned Node.js first: that of the machine may be too old. */
const env = { ...process.env, PATH: `${resolve("node_modules/.bin")}:${process.env["PATH"]}` };
const PAGE = "docs/howto/first-runs.md";

interface FirstRun {
  readonly title: string;
  /** Shell patterns of the packages, which are copied into the directory. */
  readonly packages: readonly string[];
  readonly file: { readonly name: string; readonly text: string };
  /** Commands before the program starts. `PACKAGES` stands for the names of the packages. */
  readonly install: readonly string[];
  readonly start: string;
  /** Prefix of further commands. */
  readonly monoceros: string;
}

const RUNS: readonly FirstRun[] = [
  {
    title: "Python",
    packages: ["*-manylinux*_x86_64.whl"],
    file: {
      name: "app.py",
      text: `async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b"hello\\n"})
`,
    },
    install: ["python3 -m venv venv && . venv/bin/activate", "pip install --quiet './PACKAGES[proxy]' uvicorn"],
    start: "monoceros run -n 2 -- uvicorn app:app",
    monoceros: "monoceros",
  },
  {
    title: "Node.js",
    packages: ["monoceros-[0-9]*.tgz", "monoceros-linux-x64-*.tgz", "monoceros-envoy-linux-x64-*.tgz"],
    file: {
      name: "server.js",
      text: `require("node:http")
  .createServer((request, response) => response.end("hello\\n"))
  .listen(process.env.PORT);
`,
    },
    install: ["npm install --offline --no-audit --no-fund PACKAGES"],
    start: "npx monoceros run -n 2 -- node server.js",
    monoceros: "npx monoceros",
  },
];

/** Runs a command in a shell that has run `before`; returns what it prints. */
function run(directory: string, before: readonly string[], command: string): string {
  const script = [...before.map((each) => `${each} >/dev/null`), `${command} 2>&1`].join("\n");
  const { status, stdout } = spawnSync("sh", ["-euc", script], { cwd: directory, encoding: "utf8", env });
  if (status !== 0) throw new Error(`${command}: exit code ${status}\n${stdout}`);
  return stdout;
}

/** Removes what differs in each run: times, process ids, paths. */
function settled(text: string, directory: string): string {
  return text
    .replaceAll(directory, ".")
    .replaceAll(/"ts":[\d.]+/gu, '"ts":1767225600.0')
    .replaceAll(/^(\S+-\d+ +\w+ +)\d+/gmu, "$14242")
    .trimEnd();
}

async function ready(child: ChildProcess): Promise<readonly string[]> {
  const lines: string[] = [];
  let text = "";
  for (const stream of [child.stdout, child.stderr])
    stream?.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
      lines.splice(0, lines.length, ...text.split("\n").filter((line) => line !== ""));
    });
  const ended = once(child, "exit").then(() => {
    throw new Error(text);
  });
  while (!text.includes("controller is ready"))
    await Promise.race([ended, new Promise((wake) => setTimeout(wake, 50))]);
  ended.catch(() => {});
  return lines;
}

/** The messages of the controller's own records. */
function messagesOf(lines: readonly string[]): string[] {
  return lines.flatMap((line) => {
    const record = JSON.parse(line) as Readonly<Record<string, unknown>>;
    return record["worker_id"] === undefined ? [JSON.stringify(record)] : [];
  });
}

async function record({ title, packages, file, install, start, monoceros }: FirstRun): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), "first-run-"));
  try {
    const names = packages.flatMap((pattern) => globSync(`${RELEASE}/${pattern}`).map((path) => basename(path)));
    for (const name of names) copyFileSync(join(RELEASE, name), join(directory, name));
    writeFileSync(join(directory, file.name), file.text);
    const paths = title === "Python" ? names : names.map((name) => `./${name}`);
    const steps = install.map((each) => each.replace("PACKAGES", paths.join(" ")));
    const page = [`## ${title}`, "", `\`${file.name}\`:`, "", "```", file.text.trimEnd(), "```", "", "```console"];
    for (const [index, step] of steps.entries()) {
      page.push(`$ ${step}`);
      const said = settled(run(directory, steps.slice(0, index), step), directory);
      if (said !== "") page.push(said);
    }
    const activate = steps.filter((step) => step.includes("activate")).map(() => ". venv/bin/activate");
    const script = [...activate, `exec ${start}`].join("\n");
    const child = spawn("sh", ["-euc", script], {
      cwd: directory,
      env,
      stdio: ["ignore", "pipe", "pipe"],
      // A group of its own, as in a terminal: npx does not forward signals.
      detached: true,
    });
    const ended = once(child, "exit");
    try {
      const lines = await ready(child);
      page.push(`$ ${start}`, ...messagesOf(lines).map((line) => settled(line, directory)), "```", "");
      page.push("In another terminal:", "", "```console");
      for (const command of ["curl -sS http://localhost:8000/", `${monoceros} status`, `${monoceros} restart web`]) {
        page.push(`$ ${command}`, settled(run(directory, activate, command), directory));
      }
      page.push("```", "");
    } finally {
      if (child.pid !== undefined) process.kill(-child.pid, "SIGINT");
      await ended;
    }
    return page.join("\n");
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

const sections: string[] = [];
for (const each of RUNS) sections.push(await record(each));
writeFileSync(
  PAGE,
  `# First runs

From the packages to the first answer. \`scripts/firstRuns.ts\` ran these commands in empty directories and recorded what they print.
The other ways to install are in [install.md](install.md), and the tutorial goes on [here](../tutorial.md).

${sections.join("\n")}`,
);
