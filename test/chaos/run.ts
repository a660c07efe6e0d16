/**
 * A chaos run: `node test/chaos/run.ts [--minutes N] [--seed N] [--only NAME,…] [--totals FILE]`. Runs one controller with a
 * pool of each traffic mode under load, injects random faults, and checks the promises of docs/reliability.md. The seed
 * determines the actions and their order, but not their timing. Prints the figures. If a promise was broken it prints the
 * seed and the last actions, and exits with 1. With --totals the figures are added to that file as a line of JSON.
 */
import { appendFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { SeededRandom } from "../support/random.ts";
import { ACTIONS, type Action } from "./actions.ts";
import { Client } from "./client.ts";
import { type Growth, growthOf, leaksOf } from "./footprint.ts";
import { choosePlaces, POOLS } from "./pools.ts";
import { Scene } from "./scene.ts";

const CLIENTS_PER_POOL = 4;
const CLIENT_PAUSE_MS = 120;
const ACTION_PAUSE_MS = 1500;
/** Number of actions after which the system must settle. */
const CALM_EVERY = 8;
/** In runs of at least this length the controller is ended in the first tenth only, so that one can be checked for leaks. */
const LONG_RUN_MINUTES = 25;
const SHOWN_ACTIONS = 40;

export interface RunOptions {
  readonly minutes: number;
  readonly seed: number;
  /** Names of actions, or parts of them; all if empty. */
  readonly only: readonly string[];
}

/** The result of a run. It is printed, and is a line of the file of totals. */
export interface RunResult {
  readonly ok: boolean;
  readonly seed: number;
  readonly minutes: number;
  readonly actions: number;
  readonly figures: Readonly<Record<string, unknown>> & { readonly growths: readonly Growth[] };
  readonly problems: readonly string[];
}

export async function runChaos({ minutes, seed, only }: RunOptions): Promise<RunResult> {
  const directory = mkdtempSync(join(tmpdir(), "monoceros-chaos-"));
  const random = new SeededRandom(seed);
  const scene = new Scene(random, await choosePlaces(directory));
  const clients: Client[] = [];
  const begun = performance.now();
  const end = begun + minutes * 60_000;
  let actions = 0;
  try {
    await scene.start();
    for (const [index, pool] of POOLS.entries())
      for (let nth = 0; nth < CLIENTS_PER_POOL; nth++) clients.push(newClient(scene, pool, seed + index * 100 + nth));
    while (performance.now() < end && scene.problems.length === 0) {
      const isLong = minutes >= LONG_RUN_MINUTES;
      const mayEndLife = !isLong || performance.now() < begun + minutes * 6000;
      await draw(random, only, mayEndLife).run(scene);
      await new Promise((wake) => setTimeout(wake, random.next() * ACTION_PAUSE_MS));
      if (++actions % CALM_EVERY === 0 && scene.problems.length === 0) await scene.calm();
    }
    if (scene.problems.length === 0) await scene.calm();
    await Promise.all(clients.map((client) => client.stop()));
    if (scene.problems.length === 0) await scene.end("SIGTERM");
  } catch (error) {
    scene.problem(error instanceof Error ? (error.stack ?? error.message) : String(error));
  } finally {
    // Clients of a failed run may wait for answers that never arrive; the end of the controller closes their connections.
    await scene[Symbol.asyncDispose]();
    await Promise.all(clients.map((client) => client.stop()));
    rmSync(directory, { recursive: true, force: true });
  }
  const growths = scene.footprints.flatMap((samples) => growthOf(samples) ?? []);
  for (const leak of growths.flatMap(leaksOf)) scene.problem(leak);
  const result = {
    ok: scene.problems.length === 0,
    seed,
    minutes: Math.round((performance.now() - begun) / 6000) / 10,
    actions,
    figures: {
      ...scene.tallies,
      worstWindow: scene.windows.worst,
      excused: Object.fromEntries(scene.excused),
      growths,
    },
    problems: scene.problems,
  };
  if (!result.ok) {
    process.stderr.write(`chaos: seed ${seed} broke a promise. Last actions:\n`);
    for (const line of scene.history.slice(-SHOWN_ACTIONS)) process.stderr.write(`  ${line}\n`);
    for (const problem of scene.problems.slice(0, 20)) process.stderr.write(`PROBLEM ${problem}\n`);
  }
  return result;
}

function newClient(scene: Scene, pool: (typeof POOLS)[number], seed: number): Client {
  return new Client({
    pool,
    port: scene.places.clients[pool],
    seed,
    pauseMs: CLIENT_PAUSE_MS,
    nextId: () => scene.nextId(),
    answered: () => scene.tallies.answered++,
    failed: (failure) => scene.requestFailed(failure),
    wrong: (problem) => scene.problem(`a wrong answer: ${problem}`),
  });
}

function draw(random: SeededRandom, only: readonly string[], mayEndLife: boolean): Action {
  const candidates = ACTIONS.filter(({ name, endsLife = false }) => {
    if (only.length > 0) return only.some((part) => name.includes(part));
    return mayEndLife || !endsLife;
  });
  let at = random.next() * candidates.reduce((sum, { weight }) => sum + weight, 0);
  const found = candidates.find(({ weight }) => {
    at -= weight;
    return at < 0;
  });
  if (found === undefined) throw new Error(`there is no action named ${only.join(" or ")}`);
  return found;
}

if (import.meta.main) {
  const { values } = parseArgs({
    options: {
      minutes: { type: "string", default: "3" },
      seed: { type: "string", default: String(Math.floor(Math.random() * 1e6)) },
      only: { type: "string", default: "" },
      totals: { type: "string" },
    },
  });
  const only = values.only.split(",").filter((part) => part !== "");
  const result = await runChaos({ minutes: Number(values.minutes), seed: Number(values.seed), only });
  process.stdout.write(`${JSON.stringify(result, undefined, 2)}\n`);
  if (values.totals !== undefined) appendFileSync(values.totals, `${JSON.stringify(result)}\n`);
  process.exitCode = result.ok ? 0 : 1;
}
