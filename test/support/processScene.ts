/**
 * Real processes without a controller: one pool of shell scripts and its exits. The test's own process reaps with
 * waitpid(-1), so it must not start children in any other way.
 */
import assert from "node:assert/strict";
import { chmodSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { TestContext } from "node:test";
import { setTimeout as wait } from "node:timers/promises";
import type { Logger } from "../../src/base/log.ts";
import type { ExitStatus } from "../../src/core/exit.ts";
import { listChildren, readStat } from "../../src/runtime/os/procfs.ts";
import type { PoolLaunch } from "../../src/runtime/process/poolLaunch.ts";
import { Processes } from "../../src/runtime/process/processes.ts";
import type { Credentials } from "../../src/runtime/process/spawnShim.ts";
import { killAll } from "./watch.ts";

/** The exit of a worker's leader. */
export interface ToldExit {
  readonly slot: number;
  readonly incarnation: number;
  readonly status: ExitStatus;
  readonly survivors: boolean;
}

export class ProcessScene {
  readonly processes: Processes;
  readonly exits: ToldExit[] = [];
  readonly vacated: number[] = [];
  /** A private directory, the working directory of the workers. */
  readonly directory: string;
  readonly mark = `${process.pid}.scene`;

  /** All workers run `script`, with `credentials` if given. `changes` apply to the pool. */
  constructor(
    context: TestContext,
    script: string,
    { credentials, ...changes }: Partial<PoolLaunch> & { readonly credentials?: Credentials } = {},
  ) {
    this.directory = mkdtempSync(join(tmpdir(), "processes-"));
    if (credentials !== undefined) chmodSync(this.directory, 0o755);
    const ignore = () => {};
    const log: Logger = { debug: ignore, info: ignore, warn: ignore, error: ignore };
    const pool: PoolLaunch = {
      name: "web",
      plan: {
        file: "/bin/sh",
        commands: new Map(),
        configured: new Set(),
        env: { PATH: "/usr/bin:/bin", SHARED: "by all" },
        cwd: this.directory,
        credentials,
        umask: undefined,
        nice: undefined,
        oomScoreAdj: undefined,
        rlimits: new Map(),
      },
      argsOf: () => ["-c", script],
      envOf: (slot) => ({ OWN: `of ${slot}` }),
      captured: false,
      ...changes,
    };
    this.processes = new Processes({
      launchOf: () => pool,
      attach: () => ({ finish: ignore }),
      listener: {
        exited: ({ slot, incarnation }, status, survivors) => this.exits.push({ slot, incarnation, status, survivors }),
        vacated: ({ slot }) => this.vacated.push(slot),
      },
      guardian: undefined,
      log,
      mark: this.mark,
      nofileSoft: 1024,
    });
    context.after(async () => {
      // Repeated, because the kernel's list of children is incomplete while some of them exit. Each child leads a group of
      // its own, so the test's own group is not affected.
      await until(() => {
        killAll(listChildren().map((pid) => -pid));
        this.processes.reap();
        return listChildren().length === 0;
      }, "all children have ended");
      this.processes.close();
      rmSync(this.directory, { recursive: true, force: true });
    });
  }

  /** A path in the private directory. */
  path(name: string): string {
    return join(this.directory, name);
  }
}

/** Waits until `condition` holds. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!condition()) {
    assert.ok(performance.now() < deadline, `timed out waiting until ${what}`);
    await wait(2);
  }
}

/** Whether the process exists and is not a zombie. */
export function lives(pid: number): boolean {
  const stat = readStat(pid);
  return stat !== undefined && stat.state !== "Z";
}
