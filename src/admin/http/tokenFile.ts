/**
 * The token for the API over TCP, read from its file. The file is read for each request that presents a token, so it
 * can be replaced without a restart. While it is unreadable, no token is accepted. Only the digest of the token is
 * kept; the token is never disclosed. node:crypto costs 4 MB and 8 ms, so it is loaded only for a token file.
 */
import { ControllerError } from "../../base/errors.ts";
import { FileError, readWholeFile } from "../../files/readFile.ts";

/** Minimum token length to withstand guessing (128 bits in base64). */
const SAFE_LENGTH = 22;

/** A token is one line; a larger file contains something else. */
const MAX_BYTES = 64 * 1024;

/** Reads the token: the file's text, trimmed. `warning` is one line. Rejects with a ControllerError TOKEN_FILE_INVALID. */
export async function readToken(path: string) {
  const { bytes, stats } = await readWholeFile(path, { maxBytes: MAX_BYTES }).catch((error: unknown) => {
    throw error instanceof FileError ? invalid(path, error.message, error) : error;
  });
  const text = bytes.toString("utf8").trim();
  if (text === "") throw invalid(path, "it is empty, expected a token");
  if (/\s/u.test(text)) throw invalid(path, "it contains several words, expected one token");
  const warnings: string[] = [];
  if ((stats.mode & 0o004) !== 0) warnings.push("every user can read it (chmod o-r)");
  if (text.length < SAFE_LENGTH) warnings.push(`the token is short; use at least ${SAFE_LENGTH} random characters`);
  return {
    token: text,
    warning: warnings.length === 0 ? undefined : `admin.token_file "${path}": ${warnings.join("; ")}`,
  };
}

function invalid(path: string, reason: string, cause?: unknown): ControllerError {
  return new ControllerError("TOKEN_FILE_INVALID", `Cannot use token file "${path}": ${reason}`, { cause });
}

/** The parts of node:crypto in use. */
type Crypto = Pick<typeof import("node:crypto"), "createHash" | "timingSafeEqual">;

export class TokenFile {
  readonly #path: string;
  readonly #warn: (message: string) => void;
  readonly #crypto: Crypto;
  /** undefined while the file holds no token. */
  #digest: Buffer | undefined;
  /** The last reported error or warning about the file. */
  #reported: string | undefined;
  #reading: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  private constructor(path: string, warn: (message: string) => void, crypto: Crypto) {
    this.#path = path;
    this.#warn = warn;
    this.#crypto = crypto;
  }

  /** Calls `warn` with problems of a changed file. Rejects with a ControllerError TOKEN_FILE_INVALID. */
  static async open(path: string, warn: (message: string) => void): Promise<TokenFile> {
    const file = new TokenFile(path, warn, await import("node:crypto"));
    const { token, warning } = await readToken(path);
    file.#digest = file.#digestOf(token);
    file.#reported = warning;
    return file;
  }

  /**
   * Whether `text` is the token currently in the file, compared in constant time. One read at a time serves all
   * requests that arrived before it.
   */
  async matches(text: string): Promise<boolean> {
    await this.#refresh();
    return this.#digest !== undefined && this.#crypto.timingSafeEqual(this.#digest, this.#digestOf(text));
  }

  /** Waits for a read of the file that starts after this call. */
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
      report = `${error.message}; requests with a token are refused until the file is valid`;
    }
    if (report !== undefined && report !== this.#reported) this.#warn(report);
    this.#reported = report;
  }

  #digestOf(text: string): Buffer {
    return this.#crypto.createHash("sha256").update(text).digest();
  }
}
