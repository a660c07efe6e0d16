/** Two kinds of plots as SVG: panels of bars, and distributions on a logarithmic axis. Readable on any background. */

const FONT = 'font-family="Helvetica, Arial, sans-serif"';
const INK = "#24292f";
const FAINT = "#6e7781";
const GRID = "#d8dee4";
const WIDTH = 880;

/** Colours of the series, which colour-blind readers can distinguish. */
const COLOURS = ["#d55e00", "#e69f00", "#0072b2", "#009e73"];

function colourOf(index: number): string {
  return COLOURS[index % COLOURS.length] ?? INK;
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;");
}

function text(
  x: number,
  y: number,
  content: string,
  options: {
    readonly size?: number;
    readonly anchor?: string;
    readonly colour?: string;
    readonly bold?: boolean;
    readonly hasEdge?: boolean;
  } = {},
): string {
  const { size = 13, anchor = "start", colour = INK, bold = false, hasEdge = false } = options;
  const weight = bold ? ' font-weight="bold"' : "";
  const edge = hasEdge ? ' paint-order="stroke" stroke="#ffffff" stroke-width="3"' : "";
  return `<text x="${round(x)}" y="${round(y)}" ${FONT} font-size="${size}" text-anchor="${anchor}" fill="${colour}"${weight}${edge}>${escaped(content)}</text>`;
}

function line(x1: number, y1: number, x2: number, y2: number, colour = GRID, dash = ""): string {
  const dashes = dash === "" ? "" : ` stroke-dasharray="${dash}"`;
  return `<line x1="${round(x1)}" y1="${round(y1)}" x2="${round(x2)}" y2="${round(y2)}" stroke="${colour}"${dashes}/>`;
}

function round(value: number): string {
  return String(Math.round(value * 10) / 10);
}

function frame(height: number, title: string, parts: readonly string[]): string {
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" role="img" aria-label="${escaped(title).replaceAll('"', "&quot;")}">`,
    `<rect width="${WIDTH}" height="${height}" fill="#ffffff"/>`,
    text(20, 28, title, { size: 16, bold: true }),
    ...parts,
    "</svg>",
    "",
  ].join("\n");
}

/** One panel with a bar for each value. */
export interface BarPanel {
  readonly title: string;
  /** A line below the title. */
  readonly note: string;
  readonly values: readonly number[];
}

/** Draws panels side by side with a common scale, and `reference` as a dashed line through all of them. */
export function drawBars(
  title: string,
  panels: readonly BarPanel[],
  reference: { readonly value: number; readonly label: string },
): string {
  const [left, top, height, gap] = [20, 92, 190, 22];
  const width = (WIDTH - left * 2 - gap * (panels.length - 1)) / Math.max(1, panels.length);
  const largest = Math.max(reference.value, ...panels.flatMap(({ values }) => values)) * 1.1;
  const yOf = (value: number): number => top + height - (value / largest) * height;
  const parts: string[] = [];
  for (const [index, { title: name, note, values }] of panels.entries()) {
    const x = left + index * (width + gap);
    parts.push(text(x, 58, name, { bold: true }), text(x, 76, note, { size: 12, colour: FAINT }));
    const step = width / Math.max(1, values.length);
    for (const [nth, value] of values.entries()) {
      const y = yOf(value);
      const barHeight = Math.max(1, top + height - y);
      parts.push(
        `<rect x="${round(x + nth * step + 2)}" y="${round(top + height - barHeight)}" width="${round(step - 4)}" height="${round(barHeight)}" fill="${colourOf(index)}"/>`,
        text(x + (nth + 0.5) * step, top + height + 16, String(nth), { size: 11, anchor: "middle", colour: FAINT }),
      );
    }
    parts.push(line(x, yOf(reference.value), x + width, yOf(reference.value), FAINT, "5 4"));
    // Drawn after the line and with a white edge, so that numbers stay readable.
    for (const [nth, value] of values.entries())
      parts.push(
        text(x + (nth + 0.5) * step, yOf(value) - 4, String(Math.round(value)), {
          size: 10,
          anchor: "middle",
          hasEdge: true,
        }),
      );
    parts.push(line(x, top + height, x + width, top + height, INK));
  }
  const y = top + height + 42;
  parts.push(line(left, y - 4, left + 34, y - 4, FAINT, "5 4"), text(left + 42, y, reference.label, { size: 12 }));
  return frame(top + height + 56, title, parts);
}

/** One curve: values at 0 … 1000 per mille. */
export interface Curve {
  readonly title: string;
  readonly perMille: readonly number[];
}

/** Labelled shares of the vertical axis, on which the last hundredth is as long as the first nine tenths. */
const LEVELS = [0, 0.5, 0.9, 0.99, 0.999];

/**
 * Draws latencies and the share of requests that took at most that long. The horizontal axis is logarithmic in ms. The
 * vertical axis is logarithmic in the share of slower requests, because the tail is of interest.
 */
export function drawDistributions(title: string, curves: readonly Curve[]): string {
  const [left, top, right, height] = [74, 52, 20, 330];
  const width = WIDTH - left - right;
  const all = curves.flatMap(({ perMille }) => perMille.slice(1)).filter((value) => value > 0);
  const low = Math.log10(Math.min(...all));
  const high = Math.log10(Math.max(...all) * 1.05);
  const xOf = (ms: number): number => left + ((Math.log10(Math.max(ms, 10 ** low)) - low) / (high - low)) * width;
  const yOf = (share: number): number => top + height - (-Math.log10(Math.max(1 - share, 0.001)) / 3) * height;
  const parts: string[] = [];
  for (const level of LEVELS) {
    parts.push(line(left, yOf(level), left + width, yOf(level)));
    parts.push(text(left - 8, yOf(level) + 4, `${level * 100} %`, { size: 12, anchor: "end", colour: FAINT }));
  }
  for (const ms of ticksBetween(10 ** low, 10 ** high)) {
    parts.push(line(xOf(ms), top, xOf(ms), top + height));
    parts.push(text(xOf(ms), top + height + 18, String(ms), { size: 12, anchor: "middle", colour: FAINT }));
  }
  parts.push(text(left + width / 2, top + height + 38, "milliseconds (logarithmic)", { size: 12, anchor: "middle" }));
  for (const [index, { title: name, perMille }] of curves.entries()) {
    const points = perMille.slice(1).map((ms, point) => `${round(xOf(ms))},${round(yOf((point + 1) / 1000))}`);
    parts.push(
      `<polyline points="${points.join(" ")}" fill="none" stroke="${colourOf(index)}" stroke-width="2.5" stroke-linejoin="round"/>`,
    );
    const y = top + height + 62 + Math.floor(index / 2) * 22;
    const x = left + (index % 2) * (width / 2);
    const p99 = perMille[990] ?? 0;
    parts.push(`<rect x="${round(x)}" y="${round(y - 10)}" width="26" height="5" fill="${colourOf(index)}"/>`);
    parts.push(text(x + 34, y - 3, `${name} (p99 ${p99 < 10 ? p99.toFixed(1) : Math.round(p99)} ms)`));
  }
  return frame(top + height + 70 + Math.ceil(curves.length / 2) * 22, title, parts);
}

/** 1, 2, 5, 10, 20, … between `low` and `high`. */
function ticksBetween(low: number, high: number): number[] {
  const ticks: number[] = [];
  for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) {
    for (const digit of [1, 2, 5]) {
      const tick = Number((digit * 10 ** power).toPrecision(1));
      if (tick >= low && tick <= high) ticks.push(tick);
    }
  }
  return ticks;
}
