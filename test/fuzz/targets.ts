/** All fuzz targets. */
import { ADMIN_FRONT, CONTROL_REQUESTS } from "./adminRequests.ts";
import { CONFIGURATION } from "./configuration.ts";
import { IMPORTS } from "./imports.ts";
import { LOG_LINES } from "./logLines.ts";
import { PROMETHEUS_MERGER, PROMETHEUS_PARSER } from "./prometheus.ts";
import { HAS_ORACLE } from "./prometheusOracle.ts";
import type { FuzzTarget } from "./target.ts";

/** Targets that need the oracle are included only if it is installed. */
export const FUZZ_TARGETS: readonly FuzzTarget[] = [
  LOG_LINES,
  CONFIGURATION,
  IMPORTS,
  ADMIN_FRONT,
  CONTROL_REQUESTS,
  ...(HAS_ORACLE ? [PROMETHEUS_PARSER, PROMETHEUS_MERGER] : []),
];
