/** Pools that were removed, until nothing of them is left: others wait for their names, ports and sockets. */
import { areInConflict, type PlacedPool } from "./placeConflicts.ts";

interface Departure {
  readonly pool: PlacedPool;
  readonly gone: Promise<void>;
}

export class Departures {
  readonly #leaving = new Set<Departure>();

  /** A pool begins to leave; the function that is returned tells that it is gone. */
  begin(pool: PlacedPool): () => void {
    const { promise: gone, resolve } = Promise.withResolvers<void>();
    const departure = { pool, gone };
    this.#leaving.add(departure);
    return () => {
      this.#leaving.delete(departure);
      resolve();
    };
  }

  /** Resolves when nobody who leaves is in the way of `pool`; undefined where nobody is. */
  wayFor(pool: PlacedPool): Promise<unknown> | undefined {
    const blocking = [...this.#leaving].filter((departure) => areInConflict(departure.pool, pool));
    return blocking.length === 0 ? undefined : Promise.all(blocking.map(({ gone }) => gone));
  }
}
