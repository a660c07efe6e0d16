/** Pools that are being removed. Other pools wait for their names, ports and sockets. */
import { areInConflict, type PlacedPool } from "./placeConflicts.ts";

interface Departure {
  readonly pool: PlacedPool;
  readonly gone: Promise<void>;
}

export class Departures {
  readonly #leaving = new Set<Departure>();

  /** Records that a pool is being removed. Call the returned function when the removal is complete. */
  begin(pool: PlacedPool): () => void {
    const { promise: gone, resolve } = Promise.withResolvers<void>();
    const departure = { pool, gone };
    this.#leaving.add(departure);
    return () => {
      this.#leaving.delete(departure);
      resolve();
    };
  }

  /** Resolves when no pool under removal conflicts with `pool`; undefined if none does. */
  wayFor(pool: PlacedPool): Promise<unknown> | undefined {
    const blocking = [...this.#leaving].filter((departure) => areInConflict(departure.pool, pool));
    return blocking.length === 0 ? undefined : Promise.all(blocking.map(({ gone }) => gone));
  }
}
