/**
 * Draws the terminal output of a command, read from stdin, as an SVG on stdout, with `--prompt COMMAND` above it. Supports
 * only the colours that the CLI uses, no cursor movement and no wrapping. The pictures in docs/images are made by
 *
 *   script -qec "dist/monoceros restart web" /dev/null | node_modules/.bin/node scripts/terminalPicture.ts \
 *     --prompt "monoceros restart web" > docs/images/restart.svg
 */
import { text } from "node:stream/consumers";
import { parseArgs } from "node:util";

const FONT_PX = 12;
/** Advance of a character in the monospaced fonts below, and distance of lines. */
const CHARACTER_PX = 7.23;
const LINE_PX = 17;
const MARGIN_PX = 16;

/** The picture has its own dark background, so the page may be light or dark. */
const GROUND = "#0d1117";
const FOREGROUND = "#d1d7e0";
const COLOURS: Readonly<Record<string, string>> = { 2: "#8b949e", 31: "#ff7b72", 32: "#56d364", 33: "#e3b341" };

/** Text in one colour. */
interface Span {
  readonly text: string;
  readonly colour: string;
}

/** Splits a line with SGR sequences into spans. Any other sequence is an error, because the picture would be wrong. */
function spansOf(line: string): Span[] {
  let colour = FOREGROUND;
  const spans: Span[] = [];
  for (const part of line.split(/(\x1b\[\d*m)/u)) {
    const code = /^\x1b\[(\d*)m$/u.exec(part)?.[1];
    if (code !== undefined) colour = COLOURS[code] ?? FOREGROUND;
    else if (/[\x00-\x1f]/u.test(part)) throw new Error(`cannot draw ${JSON.stringify(part)}`);
    else if (part !== "") spans.push({ text: part, colour });
  }
  return spans;
}

function escaped(value: string): string {
  return value.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll('"', "&quot;");
}

function draw(lines: readonly (readonly Span[])[], label: string): string {
  const columns = Math.max(...lines.map((spans) => spans.reduce((sum, { text: part }) => sum + part.length, 0)));
  const width = Math.ceil(2 * MARGIN_PX + columns * CHARACTER_PX);
  const height = 2 * MARGIN_PX + lines.length * LINE_PX;
  const rows = lines.map((spans, row) => {
    const y = MARGIN_PX + row * LINE_PX + FONT_PX;
    let column = 0;
    // Each span has its own position, regardless of the width of the reader's font.
    const parts = spans.map(({ text: part, colour }) => {
      const x = (MARGIN_PX + column * CHARACTER_PX).toFixed(1);
      column += part.length;
      const length = (part.length * CHARACTER_PX).toFixed(1);
      return part.trim() === ""
        ? ""
        : `<tspan x="${x}" textLength="${length}" fill="${colour}">${escaped(part)}</tspan>`;
    });
    return `<text y="${y}">${parts.join("")}</text>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}"` +
      ` font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="${FONT_PX}"` +
      ` xml:space="preserve" role="img" aria-label="${escaped(label)}">`,
    `<rect width="${width}" height="${height}" rx="8" fill="${GROUND}"/>`,
    ...rows,
    "</svg>\n",
  ].join("\n");
}

const { values } = parseArgs({ options: { prompt: { type: "string" } } });
const printed = (await text(process.stdin)).replaceAll("\r\n", "\n").trimEnd().split("\n").map(spansOf);
const prompt = values.prompt === undefined ? [] : [spansOf(`\x1b[32m$\x1b[0m ${values.prompt}`)];
process.stdout.write(draw([...prompt, ...printed], values.prompt ?? "output of a terminal"));
