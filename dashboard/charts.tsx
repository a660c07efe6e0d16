/** Small charts as SVG, hidden from screen readers; the numbers beside them are text. */
import type { JSX } from "preact";
import { SERIES_LENGTH } from "./activity.ts";
import { barsPath, linePath } from "./chartPath.ts";

const WIDTH = 120;
const HEIGHT = 24;

/** One number over the last minutes: its name, its current value and a line. */
export function Sparkline(props: { name: string; now: string; values: readonly (number | null)[] }): JSX.Element {
  return (
    <div class="spark">
      <span class="name">{props.name}</span>
      <span class="now">{props.now}</span>
      <svg viewBox={`0 -2 ${WIDTH} ${HEIGHT + 4}`} preserveAspectRatio="none" aria-hidden="true">
        <path d={linePath(props.values, { width: WIDTH, height: HEIGHT, capacity: SERIES_LENGTH })} />
      </svg>
    </div>
  );
}

/** One bar per worker, to show uneven load at a glance. */
export function Bars({ label, values }: { label: string; values: readonly (number | null)[] }): JSX.Element {
  return (
    <figure class="bars">
      <figcaption>{label}</figcaption>
      <svg viewBox="0 0 600 32" preserveAspectRatio="none" aria-hidden="true">
        <path d={barsPath(values, { width: 600, height: 32 })} />
      </svg>
    </figure>
  );
}
