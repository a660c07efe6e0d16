/** The applications of a PM2 file as pools. */
import { Draft, type Imported, PoolDraft, poolName, SourceError } from "../draft.ts";
import { AppReader } from "./app.ts";
import type { JsonObject, Pm2File } from "./document.ts";

export interface Pm2Options {
  /** Merges `env_<name>` into `env`. */
  readonly env: string | undefined;
}

/** @throws SourceError if no application has the environment */
export function translatePm2(file: Pm2File, options: Pm2Options): Imported {
  if (options.env !== undefined && !file.apps.some((app) => Object.hasOwn(app, `env_${options.env}`)))
    throw new SourceError(`no application has env_${options.env}`);
  const general = new Draft();
  const pools: PoolDraft[] = [];
  for (const key of file.others)
    general.ignore(
      { name: key, short: key, where: file.whereOf(-1, key) },
      key === "deploy" ? "deployment is not a task of the controller" : "PM2 reads only apps and deploy",
    );
  for (const [index, app] of file.apps.entries()) {
    const name = typeof app["name"] === "string" ? app["name"] : baseName(app);
    const where = file.whereOf(index, app["name"] === undefined ? "script" : "name");
    const pool = new PoolDraft(poolName(name, pools), `apps[${index}] at ${where}`);
    new AppReader(pool, app, {
      index,
      whereOf: (key) => file.whereOf(index, key),
      env: options.env,
    }).read();
    pools.push(pool);
  }
  return { pools, general };
}

/** PM2 names an application after its script. */
function baseName(app: JsonObject): string {
  const script = String(app["script"] ?? app["exec"] ?? "app");
  return (
    script
      .split(/\s/u)[0]
      ?.split("/")
      .at(-1)
      ?.replace(/\.\w+$/u, "") ?? "app"
  );
}
