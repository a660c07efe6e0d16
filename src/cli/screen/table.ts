/** Human-readable tables: aligned columns of cells. Pure; takes strings and returns lines. */
import { printable } from "../../base/printable.ts";
import { type Cell, paint, type RenderOptions } from "./render.ts";

/** One column. Numbers are right-aligned. */
export interface Column {
  readonly heading: string;
  readonly side: "left" | "right";
}

/** Columns with these headings, first those on the left. */
export function columns(left: readonly string[], right: readonly string[]): readonly Column[] {
  return [
    ...left.map((heading) => ({ heading, side: "left" }) as const),
    ...right.map((heading) => ({ heading, side: "right" }) as const),
  ];
}

/** `12.5 %`. */
export function percent(ratio: number | null): string {
  return ratio === null ? "-" : `${(ratio * 100).toFixed(1)} %`;
}

/** A cell without a colour. */
export function plain(text: string): Cell {
  return { text, colour: "none" };
}

/** The lines of a table, headings first, indented, without newlines. */
export function tableLines(
  columns: readonly Column[],
  rows: readonly (readonly Cell[])[],
  options: RenderOptions,
): readonly string[] {
  const headings = columns.map(({ heading }): Cell => ({ text: heading, colour: "dim" }));
  const cleaned = [headings, ...rows].map((row) => row.map(({ text, colour }) => ({ text: printable(text), colour })));
  const widths = columns.map((_, column) =>
    cleaned.reduce((width, row) => Math.max(width, row[column]?.text.length ?? 0), 0),
  );
  return cleaned.map((row) => {
    const cells = row.map(({ text, colour }, column) => {
      const padding = " ".repeat((widths[column] ?? 0) - text.length);
      const painted = paint(text, colour, options);
      return columns[column]?.side === "right" ? padding + painted : painted + padding;
    });
    return `  ${cells.join("  ")}`.trimEnd();
  });
}
