/**
 * The token that opens the API over TCP, from its file. The file is read for each request that presents one, so that it can
 * be replaced without a restart. While it cannot be read no request is admitted by token. The token itself is not kept, only
 * its digest, and never told. node:crypto costs 4 MB and 8 ms, so it is loaded only where there is a token file.
 */
import { ControllerError } from "../../base/errors.ts";
import { FileError, readWholeFile } from "../../files/readFile.ts";

/** What a look at the file brings. */
export interface TokenReading {
  readonly token: string;
  /** What is doubtful, one line; undefined where nothing is. */
  readonly warning: string | undefined;
}

/** A token needs so many characters to withstand guessing (128 bits in base64). */
const SAFE_LENGTH = 22;

/** A token is a line; a larger file is something else. */
const MAX_BYTES = 64 * 1024;

/** Reads the token: the text of the file without the space around it. Rejects with a ControllerError TOKEN_FILE_INVALID. */
export async function readToken(path: string): Promise<TokenReading> {
  const { bytes, stats } = await readWholeFile(path, { maxBytes: MAX_BYTES }).catch((error: unknown) => {
    throw error instanceof FileError ? invalid(path, error.message, error) : error;
  });
  const text = bytes.toString("utf8").trim();
  if (text === "") throw invalid(path, "it is empty, a token is expected");
  if (/\s/u.test(text)) throw invalid(path, "it has several words, one token is expected");
  const warnings: string[] = [];
  if ((stats.mode & 0o004) !== 0) warnings.push("every user of this machine may read it (chmod o-r)");
  if (text.length < SAFE_LENGTH) warnings.push(`the token is short, ${SAFE_LENGTH} random characters are safe`);
  return {
    token: text,
    warning: warnings.length === 0 ? undefined : `admin.token_file "${path}": ${warnings.join("; ")}`,
  };
}

function invalid(path: string, reason: string, cause?: unknown): ControllerError {
  return new ControllerError("TOKEN_FILE_INVALID", `Cannot use token file "${path}": ${reason}`, { cause });
}

/** What of node:crypto is needed. */
type Crypto = Pick<typeof import("node:crypto"), "createHash" | "timingSafeEqual">;

export class TokenFile {
  readonly #path: string;
  readonly #warn: (message: string) => void;
  readonly #crypto: Crypto;
  /** undefined while the file holds no token. */
  #digest: Buffer | undefined;
  /** What is wrong with the file, or doubtful, as it was last reported. */
  #reported: string | undefined;
  #reading: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  private constructor(path: string, warn: (message: string) => void, crypto: Crypto) {
    this.#path = path;
    this.#warn = warn;
    this.#crypto = crypto;
  }

  /** `warn` is called with what is doubtful in a file that has changed. Rejects with a ControllerError TOKEN_FILE_INVALID. */
  static async open(path: string, warn: (message: string) => void): Promise<TokenFile> {
    const file = new TokenFile(path, warn, await import("node:crypto"));
    const { token, warning } = await readToken(path);
    file.#digest = file.#digestOf(token);
    file.#reported = warning;
    return file;
  }

  /**
   * Whether `text` is the token that the file holds now; takes as long whatever it has in common with it. One read at a
   * time serves all requests that came before it.
   */
  async matches(text: string): Promise<boolean> {
    await this.#refresh();
    return this.#digest !== undefined && this.#crypto.timingSafeEqual(this.#digest, this.#digestOf(text));
  }

  /** Reads the file in a read that begins after this call. */
  #refresh(): Promise<void> {
    if (this.#reading === undefined) {
      this.#reading = this.#read().finally(() => {
        this.#reading = undefined;
      });
      return this.#reading;
    }
    this.#next ??= this.#reading.then(() => {
      this.#next = undefined;
      return this.#refresh();
    });
    return this.#next;
  }

  async #read(): Promise<void> {
    let report: string | undefined;
    try {
      const { token, warning } = await readToken(this.#path);
      this.#digest = this.#digestOf(token);
      report = warning;
    } catch (error) {
      if (!(error instanceof ControllerError)) throw error;
      this.#digest = undefined;
      report = `${error.message}; requests with a token are refused until the file exists`;
    }
    if (report !== undefined && report !== this.#reported) this.#warn(report);
    this.#reported = report;
  }

  #digestOf(text: string): Buffer {
    return this.#crypto.createHash("sha256").update(text).digest();
  }
}
