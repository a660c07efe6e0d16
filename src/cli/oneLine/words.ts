/** The words of a command: their placeholders, and the options for addresses and processes that a pool replaces. */
import { templated } from "../../config/scalars.ts";
import type { TemplateName, TemplatePart } from "../../config/template.ts";
import { type FoundOption, findOptions } from "../../programs/options.ts";
import type { AddressOption, Program } from "../../programs/program.ts";
import type { Mode } from "./options.ts";

export const PLACEHOLDERS = ["port", "socket", "fd", "slot"] as const;
export type Placeholder = (typeof PLACEHOLDERS)[number];

const TEMPLATES: Readonly<Record<Placeholder, TemplateName>> = {
  port: "Port",
  socket: "Socket",
  fd: "Fd",
  slot: "Slot",
};

const PLACEHOLDER = /\{(port|socket|fd|slot)\}/gu;

/** The placeholders that the words contain. */
export function placeholdersOf(words: readonly string[]): ReadonlySet<Placeholder> {
  return new Set(words.flatMap((word) => [...word.matchAll(PLACEHOLDER)].map(([, name]) => name as Placeholder)));
}

/** The mode that placeholders require; undefined if there is none. */
export function modeOf(placeholders: ReadonlySet<Placeholder>): Mode | undefined {
  if (placeholders.has("fd")) return "socket";
  return placeholders.has("port") || placeholders.has("socket") ? "proxy" : undefined;
}

/** A word as the configuration writes it: placeholders become templates, anything else stays literal. */
export function configured(word: string): string {
  const parts: TemplatePart[] = [];
  let at = 0;
  for (const match of word.matchAll(PLACEHOLDER)) {
    parts.push(word.slice(at, match.index), { name: TEMPLATES[match[1] as Placeholder] });
    at = match.index + match[0].length;
  }
  return literal([...parts, word.slice(at)]);
}

/** Text as the configuration writes it, with nothing in it replaced. */
export function literal(parts: readonly TemplatePart[]): string {
  return String(templated.show(parts));
}

/** A program's own address, as far as it was on its command line. */
export interface OwnAddress {
  readonly host?: string;
  readonly port?: number;
}

/** The words without options that a pool replaces. */
export type Stripped =
  | {
      readonly ok: true;
      readonly words: readonly string[];
      readonly address: OwnAddress;
      /** The number of processes that the program would start itself. */
      readonly workers: number | undefined;
      /** The removed options as written. */
      readonly removed: readonly string[];
    }
  | { readonly ok: false; readonly message: string };

/** Removes the program's own address and its number of processes. Its arguments begin at `from`. */
export function strip(words: readonly string[], from: number, program: Program): Stripped {
  const found = program.addressOptions.flatMap((option) =>
    findOptions(words, option.names, from).map((each) => ({ ...each, kind: option.value })),
  );
  let address: OwnAddress = {};
  for (const option of found) {
    const read = readAddress(option.kind, option.value ?? "");
    if (typeof read === "string") return { ok: false, message: `${spelling(words, option)} ${read}` };
    const isOther = read.port !== undefined && address.port !== undefined && read.port !== address.port;
    if (isOther) return { ok: false, message: `${program.name} has several ports, ${address.port} and ${read.port}` };
    address = { ...address, ...read };
  }
  const counts = findOptions(words, program.workers?.options ?? [], from).filter(({ value }) =>
    /^\d+$/u.test(value ?? ""),
  );
  const options: readonly FoundOption[] = [...found, ...counts].sort((a, b) => a.index - b.index);
  const indices = new Set(options.flatMap(({ index, length }) => (length === 2 ? [index, index + 1] : [index])));
  const workers = Number(counts.at(-1)?.value ?? 0);
  return {
    ok: true,
    words: words.filter((_, index) => !indices.has(index)),
    address,
    workers: workers > 0 ? workers : undefined,
    removed: options.map((option) => spelling(words, option)),
  };
}

/** What the value of an option says, or why it has no meaning for several workers. */
function readAddress(kind: AddressOption["value"], value: string): OwnAddress | string {
  const isSocket = kind === "socket" || /^(?:unix:|\/)/u.test(value);
  if (isSocket) return "is one socket for all workers; remove it, or write {socket} in its place";
  if (kind === "descriptor" || value.startsWith("fd://"))
    return "is a descriptor that workers do not have; remove it, or write {fd} in its place";
  if (kind === "host") return { host: value };
  const [, host = "", digits = ""] = /^(?:tcp:\/\/|http:\/\/)?(?:(\[[^\]]+\]|[^:/]*):)?(\d+)$/u.exec(value) ?? [];
  const port = Number(digits);
  if (port >= 1 && port <= 65_535) return host === "" ? { port } : { host: host.replace(/^\[(.*)\]$/u, "$1"), port };
  if (kind === "address" && /^[\w.-]+$/u.test(value) && digits === "") return { host: value };
  return "is no address that can be replaced; remove it, or write {port} in its place";
}

function spelling(words: readonly string[], { index, length }: FoundOption): string {
  return words.slice(index, index + length).join(" ");
}
