/**
 * The token that opens the API over TCP, from its file. The file is read again when it has changed, so that a token can be
 * replaced without a restart. Where it can no longer be read nobody has the token. The token itself is not kept, only
 * its digest, and never told. node:crypto costs 4 MB and 8 ms, so it is loaded only where there is a token file.
 */
import { readFileSync, type Stats, statSync } from "node:fs";
import { ControllerError } from "../base/errors.ts";

/** What a look at the file brings. */
export interface TokenReading {
  readonly token: string;
  /** What is doubtful, one line; undefined where nothing is. */
  readonly warning: string | undefined;
}

/** A token needs so many characters to withstand guessing (128 bits in base64). */
const SAFE_LENGTH = 22;

/** Reads the token: the text of the file without the space around it. @throws ControllerError TOKEN_FILE_INVALID */
export function readToken(path: string): TokenReading {
  let text: string;
  let mode: number;
  try {
    mode = statSync(path).mode;
    text = readFileSync(path, "utf8").trim();
  } catch (error) {
    throw invalid(path, reasonOf(error as NodeJS.ErrnoException), error);
  }
  if (text === "") throw invalid(path, "it is empty, a token is expected");
  if (/\s/u.test(text)) throw invalid(path, "it has several words, one token is expected");
  const warnings: string[] = [];
  if ((mode & 0o004) !== 0) warnings.push("every user of this machine may read it (chmod o-r)");
  if (text.length < SAFE_LENGTH) warnings.push(`the token is short, ${SAFE_LENGTH} random characters are safe`);
  return {
    token: text,
    warning: warnings.length === 0 ? undefined : `admin.token_file "${path}": ${warnings.join("; ")}`,
  };
}

function invalid(path: string, reason: string, cause?: unknown): ControllerError {
  return new ControllerError("TOKEN_FILE_INVALID", `Cannot use token file "${path}": ${reason}`, { cause });
}

function reasonOf({ code, message }: NodeJS.ErrnoException): string {
  if (code === "ENOENT" || code === "ENOTDIR") return "there is no such file";
  if (code === "EACCES" || code === "EPERM") return "this user may not read it";
  return code === "EISDIR" ? "it is a directory" : (code ?? message);
}

/** What of node:crypto is needed. */
type Crypto = Pick<typeof import("node:crypto"), "createHash" | "timingSafeEqual">;

export class TokenFile {
  readonly #path: string;
  readonly #warn: (message: string) => void;
  readonly #crypto: Crypto;
  /** Of the file as it was read last; undefined where it could not be. */
  #stamp: string | undefined;
  #digest: Buffer | undefined;

  private constructor(path: string, warn: (message: string) => void, crypto: Crypto) {
    this.#path = path;
    this.#warn = warn;
    this.#crypto = crypto;
    this.#stamp = this.#look();
    this.#digest = this.#digestOf(readToken(path).token);
  }

  /** `warn` hears of what is doubtful in a file that has changed. @throws ControllerError TOKEN_FILE_INVALID */
  static async open(path: string, warn: (message: string) => void): Promise<TokenFile> {
    return new TokenFile(path, warn, await import("node:crypto"));
  }

  /** Whether `text` is the token of now; takes as long whatever it has in common with it. */
  matches(text: string): boolean {
    this.#refresh();
    return this.#digest !== undefined && this.#crypto.timingSafeEqual(this.#digest, this.#digestOf(text));
  }

  #refresh(): void {
    const stamp = this.#look();
    if (stamp === this.#stamp) return;
    this.#stamp = stamp;
    this.#digest = undefined;
    try {
      const { token, warning } = readToken(this.#path);
      this.#digest = this.#digestOf(token);
      if (warning !== undefined) this.#warn(warning);
    } catch (error) {
      if (!(error instanceof ControllerError)) throw error;
      this.#warn(`${error.message}; until it is there nobody has the token`);
    }
  }

  #digestOf(text: string): Buffer {
    return this.#crypto.createHash("sha256").update(text).digest();
  }

  /** What changes with the file, also where another one takes its place. */
  #look(): string | undefined {
    let stats: Stats | undefined;
    try {
      stats = statSync(this.#path, { throwIfNoEntry: false });
    } catch {
      return undefined;
    }
    return stats === undefined ? undefined : `${stats.ino} ${stats.mtimeMs} ${stats.size} ${stats.mode}`;
  }
}
