/**
 * Reader for the INI dialect of supervisord (Python's RawConfigParser): `;` and `#` comments, also after a value if a
 * space precedes them, `=` or `:`, values continued on indented lines, keys in any case.
 */
import { SourceError } from "../draft.ts";

export interface Entry {
  /** In lower case. */
  readonly key: string;
  /** Lines of a continued value are joined by newlines. */
  readonly value: string;
  /** `file:line`. */
  readonly where: string;
}

export interface Section {
  readonly name: string;
  readonly where: string;
  readonly entries: Entry[];
}

/** The sections in the order of the file; a name may occur more than once. @throws SourceError */
export function parseIni(text: string, file: string): Section[] {
  const sections: Section[] = [];
  let lines: string[] | undefined;
  let open: { key: string; where: string } | undefined;
  const close = () => {
    if (open !== undefined && lines !== undefined)
      sections.at(-1)?.entries.push({ ...open, value: lines.join("\n").trim() });
    open = undefined;
    lines = undefined;
  };
  for (const [index, raw] of text.split(/\r\n|[\n\r]/u).entries()) {
    const where = `${file}:${index + 1}`;
    const line = withoutComment(raw);
    if (line.trim() === "") continue;
    if (/^\s/u.test(line) && lines !== undefined) {
      lines.push(line.trim());
      continue;
    }
    close();
    const header = /^\s*\[([^\]]+)\]/u.exec(line);
    if (header !== null) {
      sections.push({ name: header[1]?.trim() ?? "", where, entries: [] });
      continue;
    }
    const entry = /^\s*([^=:]+?)\s*(?:[=:]\s*(.*))?$/su.exec(line);
    const short = JSON.stringify(line.trim().slice(0, 60));
    if (sections.length === 0)
      throw new SourceError(`${where}: expected a section such as [program:web], got ${short}`);
    if (entry?.[1] === undefined || entry[2] === undefined)
      throw new SourceError(`${where}: expected key=value, got ${short}`);
    open = { key: entry[1].toLowerCase(), where };
    lines = [entry[2]];
  }
  close();
  return sections;
}

function withoutComment(line: string): string {
  if (/^\s*[#;]/u.test(line)) return "";
  return line.replace(/\s[#;].*$/su, "");
}
