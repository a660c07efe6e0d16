/** `monoceros dump`: what the processes of one worker are currently doing. */
import type { ProcessDump, WorkerDump } from "../../admin/api.ts";
import { CLIENT_FLAGS, type Command } from "../command.ts";
import { connectController } from "../connectController.ts";
import { PID_FLAG, pidOf } from "../pidFlag.ts";

export const dump: Command = {
  name: "dump",
  summary: "Show what the processes of a worker are doing now, even if it hangs",
  details:
    "Reads from /proc what each thread runs or waits for, so it needs no cooperation of the worker. Prints the busiest process\nfirst; if none uses a CPU, the one that seems stuck. Prints the stacks of Python processes if py-spy is on the\ncontroller's PATH.",
  flags: { pid: { ...PID_FLAG, doc: "Only this process of the worker" }, ...CLIENT_FLAGS },
  arguments: [{ name: "WORKER", isRequired: true, doc: "Worker id, such as web-0" }],
  examples: [
    { command: "monoceros dump web-0", doc: "Describe all processes of a worker" },
    { command: "monoceros dump web-0 --pid 4711", doc: "Describe one of its processes" },
    { command: "monoceros dump web-0 --json", doc: "Print the same as JSON" },
  ],
  async run(context) {
    const pid = pidOf(context, "dump");
    const answer = await (await connectController(context)).dump(context.arguments[0] ?? "", pid);
    const text = context.isSet("json") ? `${JSON.stringify(answer, undefined, 2)}\n` : render(answer, pid);
    await context.terminal.write("stdout", text);
    return 0;
  },
};

function render(dump: WorkerDump, chosen: number | undefined): string {
  const { id, phase, incarnation, pid, text, processes, process_count: count } = dump;
  const head = `${id}: ${phase}, incarnation ${incarnation}${pid === null ? "" : `, pid ${pid}`}\n`;
  if (processes.length === 0) return `${head}${text}\n`;
  const left = chosen === undefined ? count - processes.length : 0;
  const more = left === 0 ? "" : `\n${left} more process${left === 1 ? "" : "es"} not shown\n`;
  return head + processes.map(renderProcess).join("\n") + more;
}

function renderProcess({ text, diagnosis, kernel_stack: kernel, stack, hint }: ProcessDump): string {
  const threads = diagnosis.threads.map(({ tid, name, state, syscall, waits_in: waitsIn }) => {
    const where = [syscall, waitsIn].filter((each) => each !== null).join(", ");
    return `  ${tid} ${state} ${name}${where === "" ? "" : `: ${where}`}\n`;
  });
  const more = diagnosis.thread_count - threads.length;
  return [
    `${text}\n`,
    ...(threads.length === 0 ? [] : ["\nThreads\n", ...threads]),
    ...(more > 0 ? [`  and ${more} more\n`] : []),
    ...(kernel === null || kernel.length === 0 ? [] : ["\nKernel stack\n", ...kernel.map((line) => `  ${line}\n`)]),
    ...(stack === null ? [] : [`\nStack (${stack.engine})\n${stack.text}\n`]),
    ...(hint === null ? [] : [`\nNo stack: ${hint}\n`]),
  ].join("");
}
