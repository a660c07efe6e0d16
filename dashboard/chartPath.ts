/** SVG paths of the small charts, in a box of `width` by `height`. Pure. */

/** A line through `values`, with the newest at the right edge of `capacity` places and a gap for each null. */
export function linePath(
  values: readonly (number | null)[],
  box: { readonly width: number; readonly height: number; readonly capacity: number },
): string {
  const most = Math.max(...values.map((value) => value ?? 0), Number.MIN_VALUE);
  const step = box.width / Math.max(1, box.capacity - 1);
  let isOpen = false;
  return values
    .map((value, index) => {
      if (value === null) {
        isOpen = false;
        return "";
      }
      const x = box.width - (values.length - 1 - index) * step;
      const command = isOpen ? "L" : "M";
      isOpen = true;
      return `${command}${short(x)} ${short(box.height - (value / most) * box.height)}`;
    })
    .join("");
}

/** One bar per value; the highest bar is as high as the box. */
export function barsPath(
  values: readonly (number | null)[],
  box: { readonly width: number; readonly height: number },
): string {
  const most = Math.max(...values.map((value) => value ?? 0), Number.MIN_VALUE);
  const step = box.width / Math.max(1, values.length);
  return values
    .map((value, index) => {
      const height = ((value ?? 0) / most) * box.height;
      return height <= 0
        ? ""
        : `M${short(index * step)} ${short(box.height)}v-${short(height)}h${short(step * 0.8)}v${short(height)}z`;
    })
    .join("");
}

function short(value: number): string {
  return String(Math.round(value * 100) / 100);
}
