/** Identifies this build. The build replaces the two names; they are undefined when run from source. */

declare const MONOCEROS_VERSION: string | undefined;
declare const MONOCEROS_COMMIT: string | undefined;

/** The product's version, such as "0.1.0". */
export const VERSION: string = typeof MONOCEROS_VERSION === "string" ? MONOCEROS_VERSION : "0.0.0-dev";

/** The short commit it was built from, or "unknown". */
export const REVISION: string = typeof MONOCEROS_COMMIT === "string" ? MONOCEROS_COMMIT : "unknown";
