/** The only exit of the program. */
import ffi from "node:ffi";

/**
 * Runs the "exit" listeners, then ends this process with `code` through _exit(2). Both exits of Node.js first wait for
 * threads, which can block indefinitely: a thread that writes to a stopped reader, or a V8 thread that waits for a
 * garbage collection by this thread. Output that the system has not received yet is lost.
 */
export function exitNow(code: number): never {
  process.emit("exit", code);
  ffi.dlopen(null, { _exit: { arguments: ["i32"], return: "void" } }).functions._exit(code);
  throw new Error("_exit returned");
}
