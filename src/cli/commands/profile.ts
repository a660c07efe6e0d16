/** `monoceros profile`: where one process of a worker, or the controller itself, spends its time. */
import { writeFileSync } from "node:fs";
import { type Bounds, PROFILE_HZ, PROFILE_SECONDS } from "../../admin/api.ts";
import { ControllerError, codeOf } from "../../base/errors.ts";
import type { TakenProfile } from "../client.ts";
import { CLIENT_FLAGS, type Command, type Context } from "../command.ts";
import { usage } from "../commandLine.ts";
import { connectController } from "../connectController.ts";
import { PID_FLAG, pidOf } from "../pidFlag.ts";

/** The name of the controller on the command line. It is no worker id, because those end in a number. */
const CONTROLLER = "controller";

export const profile: Command = {
  name: "profile",
  summary: "Profile a worker or the controller, and write a file for go tool pprof",
  details:
    "Profiles the busiest process of a worker, or the process given with --pid. For Python, py-spy samples the functions that\nuse CPU, if it is on the controller's PATH. For other programs, the profile shows thread states: running, or waiting in\nwhich system call. The output names the engine. If the process exits early, the profile covers the time until then.",
  flags: {
    seconds: { type: "string", short: "s", value: "N", doc: bounds("Duration in seconds", PROFILE_SECONDS) },
    hz: { type: "string", value: "N", doc: bounds("Samples per second, for a worker", PROFILE_HZ) },
    heap: {
      type: "boolean",
      doc: "For the controller: profile the memory that it allocates and keeps, not its CPU time",
    },
    pid: { ...PID_FLAG, doc: "Profile this process of the worker instead of the busiest" },
    output: { type: "string", short: "o", value: "FILE", doc: "Output file (default WORKER.pb.gz)" },
    ...CLIENT_FLAGS,
  },
  arguments: [
    {
      name: "WORKER|controller",
      isRequired: true,
      doc: "Worker id, such as web-0, or the word controller",
      values: ["controller"],
    },
  ],
  examples: [
    { command: "monoceros profile web-0", doc: "Write web-0.pb.gz" },
    { command: "monoceros profile web-0 --pid 4711", doc: "Profile one of its processes, which dump and top list" },
    { command: "monoceros profile controller --heap -o heap.pb.gz", doc: "Profile the memory of the controller" },
  ],
  async run(context) {
    const [target = ""] = context.arguments;
    const taken = await take(context, target);
    const file = context.text("output") ?? `${target.replaceAll(/[^\w.-]/gu, "_")}.pb.gz`;
    write(file, taken.pprof);
    const { engine, note = null, pid } = taken;
    const source = pid === undefined ? "" : ` from pid ${pid}`;
    const text = context.isSet("json")
      ? `${JSON.stringify({ file, engine, pid: pid ?? null, note, bytes: taken.pprof.length })}\n`
      : `wrote ${file}, profiled with ${engine}${source}${note === null ? "" : `: ${note}`}\nRead it with: go tool pprof -top ${file}\n`;
    await context.terminal.write("stdout", text);
    return 0;
  },
};

async function take(context: Context, target: string): Promise<TakenProfile> {
  const seconds = numberOf(context, "seconds", PROFILE_SECONDS);
  const hz = numberOf(context, "hz", PROFILE_HZ);
  const isHeap = context.isSet("heap");
  const pid = pidOf(context, "profile");
  if (target === CONTROLLER && pid !== undefined)
    throw usage("--pid applies only to workers, not to the controller", "monoceros profile");
  if (target !== CONTROLLER && isHeap)
    throw usage("--heap applies only to the controller, not to workers", "monoceros profile");
  const client = await connectController(context);
  return target === CONTROLLER
    ? client.profileSelf(isHeap ? "heap" : "cpu", seconds)
    : client.profileWorker(target, { seconds, hz, ...(pid === undefined ? {} : { pid }) });
}

function bounds(what: string, { least, most, default: usual }: Bounds): string {
  return `${what}, ${least} to ${most} (default ${usual})`;
}

/** @throws ControllerError USAGE */
function numberOf(context: Context, flag: string, { least, most, default: usual }: Bounds): number {
  const text = context.text(flag);
  if (text === undefined) return usual;
  const value = /^\d+$/u.test(text) ? Number(text) : Number.NaN;
  if (value >= least && value <= most) return value;
  throw usage(`--${flag}: expected a whole number from ${least} to ${most}, got "${text}"`, "monoceros profile");
}

/** @throws ControllerError FILE_UNWRITABLE */
function write(file: string, bytes: Buffer): void {
  try {
    writeFileSync(file, bytes);
  } catch (error) {
    throw new ControllerError("FILE_UNWRITABLE", `Cannot write the profile "${file}": ${codeOf(error) ?? error}`, {
      cause: error,
      hint: "Choose another file with -o FILE.",
    });
  }
}
