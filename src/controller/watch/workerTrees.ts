/** Follows the process tree of every worker and proxy by lifecycle events. */
import type { LifecycleEvent } from "../../core/event.ts";
import { TreeUsages } from "../../runtime/inspect/treeUsage.ts";
import { readSystemUnits } from "../../runtime/os/linux.ts";
import { readStat } from "../../runtime/os/procfs.ts";
import { ProcessTrees } from "../../runtime/process/processTrees.ts";

export class WorkerTrees {
  /** Which processes belong to which worker. */
  readonly processes: ProcessTrees;
  /** What they use. */
  readonly usages: TreeUsages;

  /** `mark` is the value of CONTROLLER_MARK in the environment of this controller's workers. */
  constructor(mark: string) {
    this.processes = new ProcessTrees(mark);
    this.usages = new TreeUsages({
      trees: this.processes,
      statOf: readStat,
      ...readSystemUnits(),
    });
  }

  /** Call for each lifecycle event before other listeners read trees: events start and end them. */
  handle(event: LifecycleEvent): void {
    if (event.kind === "spawned") {
      const { pid, pool, slot, incarnation } = event;
      this.processes.add({ leader: pid, pool, slot, incarnation });
    } else if (event.kind === "exited") {
      this.processes.remove(event.pid);
      this.usages.forget(event.pid);
    }
  }
}
