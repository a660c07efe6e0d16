/** Keeps what a command prints. */
import type { StreamName, Terminal } from "../../src/cli/terminal.ts";

export class MemoryTerminal implements Terminal {
  readonly hasColours = false;
  stdout = "";
  stderr = "";
  readonly #onWrite: (stream: StreamName, text: string) => void;

  /** `onWrite` is called after each write. */
  constructor(onWrite: (stream: StreamName, text: string) => void = () => {}) {
    this.#onWrite = onWrite;
  }

  async write(stream: StreamName, text: string): Promise<void> {
    this[stream] += text;
    this.#onWrite(stream, text);
  }
}
