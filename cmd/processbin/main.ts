/**
 * processbin: a useful program to be managed, for examples and tests. It behaves as its flags say, well or badly; see
 * USAGE in flags.ts. Exit codes: 143 after SIGTERM, 130 after SIGINT, --exit-code after --exit-after, 2 usage.
 */

import { readEnvironment } from "./environment.ts";
import { startGrandchildren } from "./family.ts";
import { parseFlags, USAGE } from "./flags.ts";
import { listenTargets, serve } from "./http.ts";
import { report, startWriting } from "./lines.ts";
import { handleSignals, scheduleExit } from "./stop.ts";
import { hang, spin, startLeak } from "./strain.ts";

function main(argv: readonly string[]): void {
  const flags = parseFlags(argv);
  if (flags === "help") {
    process.stdout.write(USAGE);
    return;
  }
  if (flags instanceof Error) {
    process.stderr.write(`processbin: ${flags.message}\n`);
    process.exitCode = 2;
    return;
  }

  let drain: () => Promise<void> = async () => {};
  handleSignals(flags, () => drain());
  scheduleExit(flags);
  if (flags.printEnv) report("surroundings", { surroundings: readEnvironment() });
  if (flags.grandchildren > 0) report("grandchildren", { pids: startGrandchildren(flags) });
  if (flags.leakBytesPerSecond > 0) startLeak(flags.leakBytesPerSecond);
  startWriting(flags);

  const boot = (): void => {
    drain = serve(flags, listenTargets(flags, process.env));
    // A turn of the event loop later, so that what was written and bound before the block is visible.
    if (flags.hang) setTimeout(hang, 50);
    if (flags.spin) setTimeout(spin, 50);
  };
  if (flags.slowBootMs > 0) setTimeout(boot, flags.slowBootMs);
  else boot();
}

main(process.argv.slice(2));
