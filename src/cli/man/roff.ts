/** Text of manual pages in man(7), which groff and mandoc read. Pure. */

/** Characters that roff replaces by typographic ones. In literal text they must stay what they are. */
const LITERAL: Readonly<Record<string, string>> = { "-": "\\-", "'": "\\(aq", "`": "\\(ga" };

/** `text` as roff prints it unchanged. Literal text, such as a flag, can be copied from the page to a terminal. */
export function escapeRoff(text: string, kind: "prose" | "literal" = "prose"): string {
  return guardLines(escapeCharacters(text, kind));
}

function escapeCharacters(text: string, kind: "prose" | "literal"): string {
  return text.replaceAll(/[\\^~"'`-]|[^ -~\n]/gu, (character, offset: number) => {
    if (character === "\\") return "\\e";
    if (character === "^") return "\\(ha";
    if (character === "~") return "\\(ti";
    if (character === '"') return "\\(dq";
    if (kind === "literal" && character in LITERAL) return LITERAL[character] ?? character;
    if (character === "`") return "\\(ga";
    if (character === "'") return character;
    // A hyphen inside a word may be one; any other is a minus sign, as of a flag or a negative number.
    if (character === "-") return isBetweenLetters(text, offset) ? "-" : "\\-";
    return `\\[u${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, "0")}]`;
  });
}

function isBetweenLetters(text: string, offset: number): boolean {
  return /\p{L}/u.test(text[offset - 1] ?? "") && /\p{L}/u.test(text[offset + 1] ?? "");
}

/** A line that begins with a dot or an apostrophe would be a request. */
function guardLines(text: string): string {
  return text.replaceAll(/^(?=[.'])/gmu, "\\&");
}

export function bold(text: string): string {
  return `\\fB${escapeRoff(text, "literal")}\\fR`;
}

/** A command line: bold words, placeholders (in capitals) in italics. */
export function commandLine(text: string): string {
  return text.replaceAll(/[A-Z]{2,}(?:\|[A-Z]{2,})*|[^A-Z]+|[A-Z]/gu, (part) =>
    /^[A-Z]{2}/u.test(part) ? `\\fI${escapeRoff(part, "literal")}\\fR` : bold(part),
  );
}

/** Markdown inside a paragraph: code and emphasis become bold, links their text. */
export function inline(markdown: string): string {
  const parts = markdown.matchAll(
    /`(?<code>[^`]+)`|\*\*(?<strong>[^*]+)\*\*|\[(?<link>[^\]]*)\]\([^)]*\)|(?<text>[^`*[]+|.)/gsu,
  );
  const text = [...parts].map(({ groups = {} }) => {
    const literal = groups["code"] ?? groups["strong"];
    return literal === undefined ? escapeCharacters(groups["link"] ?? groups["text"] ?? "", "prose") : bold(literal);
  });
  return guardLines(fold(text.join("")));
}

/** Lines of at most 78 bytes, if the words allow it. */
function fold(text: string): string {
  const lines: string[] = [];
  for (const word of text.trim().split(/\s+/u)) {
    const last = lines.at(-1);
    if (last === undefined || last.length + 1 + word.length > 78) lines.push(word);
    else lines[lines.length - 1] = `${last} ${word}`;
  }
  return lines.join("\n");
}

/** Markdown with paragraphs and lists of one level. */
export function paragraphs(markdown: string): string[] {
  return markdown
    .trim()
    .split(/\n{2,}|\n(?=- )/u)
    .flatMap((block) => (block.startsWith("- ") ? [".IP \\(bu 3", inline(block.slice(2))] : [".PP", inline(block)]));
}

/** An entry of a list: a term, and what it means. */
export function entry(term: string, ...meaning: readonly string[]): string[] {
  return [".TP", term, ...meaning];
}

export interface Page {
  /** Such as "monoceros-run". */
  readonly name: string;
  readonly section: 1 | 5;
  /** One line without a full stop. */
  readonly summary: string;
  readonly version: string;
  /** Lines of roff by heading. */
  readonly parts: Readonly<Record<string, readonly string[]>>;
}

/** The whole page. It has no date, so that equal sources give equal pages. */
export function renderPage({ name, section, summary, version, parts }: Page): string {
  const title = `.TH "${escapeRoff(name.toUpperCase(), "literal")}" "${section}" "" "Monoceros ${escapeRoff(version, "literal")}" "Monoceros Manual"`;
  const lines = [
    `.\\" Generated from the sources of Monoceros.`,
    title,
    ".SH NAME",
    `${escapeRoff(name, "literal")} \\- ${escapeRoff(summary)}`,
  ];
  for (const [heading, content] of Object.entries(parts)) {
    // A paragraph right after a heading would be empty.
    const [first, ...rest] = content;
    if (first !== undefined) lines.push(`.SH ${heading}`, ...(first === ".PP" ? rest : content));
  }
  return `${lines.join("\n")}\n`;
}
