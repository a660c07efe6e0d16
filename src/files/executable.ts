/** Whether a path is a file, and whether this process may execute it. */
import { accessSync, constants, statSync } from "node:fs";

/** False if the path cannot be reached. */
export function isFile(path: string): boolean {
  try {
    return statSync(path).isFile();
  } catch {
    return false;
  }
}

export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return isFile(path);
  } catch {
    return false;
  }
}
