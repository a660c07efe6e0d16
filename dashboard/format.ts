/** Formats numbers for people. null means unknown and becomes a dash. Pure. */

const DASH = "–";
const UNITS = ["B", "KiB", "MiB", "GiB", "TiB"] as const;

/** 0.4 s, 12 s, 3 m 20 s, 2 h 5 m, 4 d 2 h. */
export function duration(seconds: number | null): string {
  if (seconds === null) return DASH;
  if (seconds < 10) return `${(Math.floor(seconds * 10) / 10).toFixed(1)} s`;
  const whole = Math.floor(seconds);
  const pairs = [
    [86_400, "d", 3600, "h"],
    [3600, "h", 60, "m"],
    [60, "m", 1, "s"],
  ] as const;
  for (const [big, bigUnit, small, smallUnit] of pairs)
    if (whole >= big) return `${Math.floor(whole / big)} ${bigUnit} ${Math.floor((whole % big) / small)} ${smallUnit}`;
  return `${whole} s`;
}

/** 512 B, 1.5 KiB, 120 MiB: at most three digits. */
export function bytes(count: number | null): string {
  if (count === null) return DASH;
  let value = count;
  let unit = 0;
  while (value >= 1000 && unit < UNITS.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${value < 10 && unit > 0 ? value.toFixed(1) : Math.round(value)} ${UNITS[unit] ?? "B"}`;
}

/** A share of one CPU as percent. */
export function percent(ratio: number | null): string {
  if (ratio === null) return DASH;
  const value = ratio * 100;
  return `${value > 0 && value < 10 ? value.toFixed(1) : Math.round(value)} %`;
}

/** A number that may have a fraction, such as a rate. */
export function number(value: number | null): string {
  if (value === null) return DASH;
  return value > 0 && value < 10 && !Number.isInteger(value) ? value.toFixed(1) : String(Math.round(value));
}

/** A number that is not rounded. */
export function count(value: number | null): string {
  return value === null ? DASH : String(value);
}

/** Local time of the browser: 14:02:07. */
export function clockTime(iso: string): string {
  const time = new Date(iso);
  return [time.getHours(), time.getMinutes(), time.getSeconds()].map((part) => String(part).padStart(2, "0")).join(":");
}
