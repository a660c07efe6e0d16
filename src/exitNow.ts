/** The one way out of the program. */
import ffi from "node:ffi";

/**
 * Ends this process with `code` as soon as the listeners of "exit" have run, through _exit(2). Both ways of Node.js wait
 * for threads first: one in a write to a reader that stopped never comes, nor does one of V8 that waits for a collection
 * by this thread, and a controller that is done would stay. Text that the system does not have yet is lost.
 */
export function exitNow(code: number): never {
  process.emit("exit", code);
  ffi.dlopen(null, { _exit: { arguments: ["i32"], return: "void" } }).functions._exit(code);
  throw new Error("_exit returned");
}
