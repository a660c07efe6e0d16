/** One run of the simulation from one seed. */
import { World } from "./world.ts";

/**
 * Runs `events` random events from one seed. If a controller stops early, for example at its restart limit, the next one
 * boots. `afterEvent` runs after each event that a controller handled. An error names the seed, so that the run can be
 * repeated.
 */
export function simulate(seed: number, events: number, afterEvent?: (world: World) => void): World {
  let world = new World(seed, afterEvent);
  try {
    for (let event = 0; event < events; event++) {
      if (world.finished !== undefined) world = new World(seed + 1_000_000 * event, afterEvent);
      world.step(event > events / 2);
    }
    world.shutDown();
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new Error(`seed ${seed} breaks an invariant: ${message}`, { cause: error });
  }
  return world;
}
