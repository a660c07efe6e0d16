/** Records the output of a command. */
import { printableLines } from "../../src/base/printable.ts";
import type { Screen } from "../../src/cli/screen/screen.ts";
import type { StreamName, Terminal } from "../../src/cli/screen/terminal.ts";

export class MemoryTerminal implements Terminal {
  readonly hasColours = false;
  isInteractive = false;
  stdout = "";
  stderr = "";
  readonly #interrupted = new Set<() => void>();
  readonly #onWrite: (stream: StreamName, text: string) => void;

  /** `onWrite` is called after each write. */
  constructor(onWrite: (stream: StreamName, text: string) => void = () => {}) {
    this.#onWrite = onWrite;
  }

  write(stream: StreamName, text: string): Promise<void> {
    return this.writePainted(stream, printableLines(text));
  }

  async writePainted(stream: StreamName, text: string): Promise<void> {
    this[stream] += text;
    this.#onWrite(stream, text);
  }

  onInterrupt(listener: () => void): Disposable {
    this.#interrupted.add(listener);
    return { [Symbol.dispose]: () => this.#interrupted.delete(listener) };
  }

  /** A test that needs a screen replaces it. */
  openScreen(): Screen | undefined {
    return undefined;
  }

  /** Acts as Ctrl-C. Returns whether there is a listener. */
  interrupt(): boolean {
    for (const listener of this.#interrupted) listener();
    return this.#interrupted.size > 0;
  }
}
