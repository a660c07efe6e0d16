/** From flags and environment to the running controller that a command is about. */
import { tmpdir } from "node:os";
import { defaultSocketCandidates } from "../admin/socketPath.ts";
import type { ControlClient } from "./client.ts";
import type { Context } from "./command.ts";

/**
 * The controller that --socket names, or -c's admin.socket, or the environment, or that is at one of the usual places.
 * @throws ControllerError NO_CONTROLLER, CONFIG_UNREADABLE, CONFIG_INVALID
 */
export async function connectController(context: Context): Promise<ControlClient> {
  const { findController } = await import("./client.ts");
  return findController(await socketCandidates(context));
}

async function socketCandidates(context: Context): Promise<readonly string[]> {
  const socket = context.text("socket");
  if (socket !== undefined) return [socket];
  const file = context.text("config");
  if (file !== undefined) {
    const { readConfig } = await import("./configFile.ts");
    const configured = (await readConfig(file, context.env)).config.admin.socket;
    if (configured !== undefined) return [configured];
  }
  return defaultSocketCandidates(context.env, process.getuid?.() ?? 0, tmpdir());
}
