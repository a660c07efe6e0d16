/** One run of the simulation from one seed. */
import { World } from "./world.ts";

/**
 * Runs `events` random events from one seed; where a controller ended early (its restarts were used up), the next one
 * boots, until the events are spent. `afterEvent` runs after each event that a controller handled. An error names the
 * seed, so that it can be run alone.
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
