import type { BuildOptions } from "esbuild";

export const HEAP_FLAGS: readonly string[];
export const BUNDLE_OPTIONS: Pick<BuildOptions, "bundle" | "platform" | "format" | "target" | "supported">;
