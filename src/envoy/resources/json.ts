/** JSON values as Envoy's resources are made of, and the few forms of protobuf in them. */

/** A JSON value that is built, never changed; undefined members are left out. */
export type Json = string | number | boolean | readonly Json[] | JsonObject;

/** A JSON object. */
export interface JsonObject {
  readonly [key: string]: Json | undefined;
}

/** A message of the type `type` inside google.protobuf.Any. */
export function typed(type: string, fields: JsonObject = {}): JsonObject {
  return { "@type": `type.googleapis.com/${type}`, ...fields };
}

/** google.protobuf.Duration. */
export function seconds(ms: number): string {
  return `${Math.round(ms * 1000) / 1_000_000}s`;
}
