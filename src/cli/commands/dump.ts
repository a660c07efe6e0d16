/** `monoceros dump`: what one worker is doing at this moment. */
import type { WorkerDump } from "../../admin/api.ts";
import { CLIENT_FLAGS, type Command } from "../command.ts";
import { connectController } from "../connectController.ts";

export const dump: Command = {
  name: "dump",
  summary: "Show what one worker is doing at this moment",
  details:
    "Tells from /proc what each thread does or waits for; the worker is not asked, so it works on one that hangs. The stack\nof a Python worker comes with it where py-spy is on the controller's PATH.",
  flags: CLIENT_FLAGS,
  arguments: [{ name: "WORKER", isRequired: true, doc: "Id of a worker such as web-0" }],
  examples: [
    { command: "monoceros dump web-0", doc: "For a person" },
    { command: "monoceros dump web-0 --json", doc: "For a program" },
  ],
  async run(context) {
    const answer = await (await connectController(context)).dump(context.arguments[0] ?? "");
    const text = context.isSet("json") ? `${JSON.stringify(answer, undefined, 2)}\n` : render(answer);
    await context.terminal.write("stdout", text);
    return 0;
  },
};

function render({
  id,
  phase,
  incarnation,
  pid,
  text,
  diagnosis,
  kernel_stack: kernel,
  stack,
  hint,
}: WorkerDump): string {
  const threads = (diagnosis?.threads ?? []).map(({ tid, name, state, syscall, waits_in: waitsIn }) => {
    const where = [syscall, waitsIn].filter((each) => each !== null).join(", ");
    return `  ${tid} ${state} ${name}${where === "" ? "" : `: ${where}`}\n`;
  });
  const more = (diagnosis?.thread_count ?? 0) - threads.length;
  return [
    `${id}: ${phase}, process ${incarnation} of its slot${pid === null ? "" : `, pid ${pid}`}\n${text}\n`,
    ...(threads.length === 0 ? [] : ["\nThreads\n", ...threads]),
    ...(more > 0 ? [`  and ${more} more\n`] : []),
    ...(kernel === null || kernel.length === 0
      ? []
      : ["\nStack in the kernel\n", ...kernel.map((line) => `  ${line}\n`)]),
    ...(stack === null ? [] : [`\nStack by ${stack.engine}\n${stack.text}\n`]),
    ...(hint === null ? [] : [`\nNo stack: ${hint}\n`]),
  ].join("");
}
