/** JSON values that make up Envoy's resources, and the few protobuf types in them. */

/** An immutable JSON value; undefined members are omitted. */
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
