/**
 * Setup and teardown of this folder's tests. The setup builds the image with the Dockerfile of docs/howto/kubernetes.md on a slim
 * root. The teardown removes everything that podman created, including what an aborted test left behind.
 */
import { spawnSync } from "node:child_process";
import { copyFileSync, existsSync, globSync, linkSync, mkdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join, resolve } from "node:path";
import { CGROUP_PARENT, IMAGE, podman, SLIM_IMAGE, STORE, whyNoContainers } from "./podman.ts";

const ROOT = resolve("node_modules/.tools/slim-root");
const CONFIG = "supervisor:\n  workers:\n    - { name: web, exec: sleep, args: [infinity] }\n";

export async function globalSetup(): Promise<void> {
  const reason = whyNoContainers() ?? (existsSync(ROOT) ? undefined : `${ROOT} is missing, see scripts/slimRoot.sh`);
  if (reason !== undefined) {
    process.stderr.write(`\nSKIPPED, container tests: ${reason}\n\n`);
    return;
  }
  // Remove what a killed run has left behind.
  await clean();
  const context = join(STORE, "context");
  mkdirSync(join(context, "dist"), { recursive: true });
  for (const name of ["monoceros", "envoy", "libatomic.so.1", "libatomic.LICENSE"]) {
    link(resolve("dist", name), join(context, "dist", name));
  }
  writeFileSync(join(context, "monoceros.yaml"), CONFIG);
  writeFileSync(join(context, "Dockerfile"), documentedDockerfile());
  const archive = join(STORE, "slim.tar");
  must("tar", ["-C", ROOT, "-c", "-f", archive, "."]);
  for (const step of [
    ["import", archive, SLIM_IMAGE],
    ["build", "--layers=false", "--network", "none", "--pull-never", "--tag", IMAGE, context],
  ]) {
    const { code, stderr } = await podman(...step);
    if (code !== 0) throw new Error(`podman ${step.join(" ")}: ${stderr}`);
  }
  rmSync(archive);
}

export async function globalTeardown(): Promise<void> {
  await clean();
}

/** The Dockerfile of docs/howto/kubernetes.md, with the slim image instead of one from a registry. */
function documentedDockerfile(): string {
  const page = readFileSync("docs/howto/kubernetes.md", "utf8");
  const text = /```dockerfile\n([\s\S]*?)```/u.exec(page)?.[1];
  if (text === undefined || !/^FROM \S+$/mu.test(text)) throw new Error("docs/howto/kubernetes.md has no Dockerfile");
  return text.replace(/^FROM \S+$/mu, `FROM ${SLIM_IMAGE}`);
}

/** Creates a hard link, or a copy if the file system does not support that. */
function link(from: string, to: string): void {
  try {
    linkSync(from, to);
  } catch {
    mkdirSync(dirname(to), { recursive: true });
    copyFileSync(from, to);
  }
}

async function clean(): Promise<void> {
  if (!existsSync(STORE)) return;
  await podman("rm", "--all", "--force", "--time", "0");
  const mounts = readFileSync("/proc/mounts", "utf8")
    .split("\n")
    .map((line) => line.split(" ")[1] ?? "")
    .filter((path) => path.startsWith(`${STORE}/`));
  for (const path of mounts.toReversed()) must("umount", [path]);
  rmSync(STORE, { recursive: true, force: true });
  const groups = [`/sys/fs/cgroup${CGROUP_PARENT}`, ...globSync(`/sys/fs/cgroup/*${CGROUP_PARENT}`)].filter(existsSync);
  if (groups.length > 0) must("find", [...groups, "-depth", "-type", "d", "-exec", "rmdir", "{}", "+"]);
}

function must(file: string, args: readonly string[]): void {
  const { status, stderr } = spawnSync(file, args, { encoding: "utf8" });
  if (status !== 0) throw new Error(`${file} ${args.join(" ")}: ${stderr}`);
}
