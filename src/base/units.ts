/**
 * Durations and sizes as people write them. The syntax of durations is that of Go's time.ParseDuration
 * (https://pkg.go.dev/time#ParseDuration), because the configuration files of the predecessor use it.
 */

const MS_PER_UNIT: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  μs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

const BYTES_PER_UNIT: Readonly<Record<string, number>> = {
  B: 1,
  KB: 1e3,
  MB: 1e6,
  GB: 1e9,
  TB: 1e12,
  KiB: 2 ** 10,
  MiB: 2 ** 20,
  GiB: 2 ** 30,
  TiB: 2 ** 40,
};

/** Milliseconds of a Go duration such as "500ms", "1h30m" or "0"; undefined if the text is not a duration. */
export function parseDuration(text: string): number | undefined {
  const match = /^([+-]?)((?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+|0)$/u.exec(text);
  const body = match?.[2];
  if (body === undefined) return undefined;
  if (body === "0") return 0;
  let ms = 0;
  for (const [, value, unit] of body.matchAll(/(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)/gu)) {
    ms += Number(value) * (MS_PER_UNIT[unit ?? ""] ?? Number.NaN);
  }
  return match?.[1] === "-" ? -ms : ms;
}

/** A duration as Go prints it, to the millisecond at most: 90000 → "1m30s", 1500 → "1.5s", 0.25 → "250µs". */
export function formatDuration(ms: number): string {
  if (ms < 0) return `-${formatDuration(-ms)}`;
  if (ms === 0) return "0s";
  // A value that would round up to a full unit is written in the next larger unit.
  if (ms < 0.9995) return `${Number((ms * 1000).toFixed(0))}µs`;
  if (ms < 999.5) return `${Number(ms.toFixed(ms < 10 ? 1 : 0))}ms`;
  const totalSeconds = Math.round(ms) / 1000;
  const hours = Math.floor(totalSeconds / 3600);
  const minutes = Math.floor((totalSeconds % 3600) / 60);
  const seconds = Number((totalSeconds % 60).toFixed(3));
  return `${hours > 0 ? `${hours}h` : ""}${minutes > 0 ? `${minutes}m` : ""}${seconds > 0 ? `${seconds}s` : ""}`;
}

/**
 * Bytes of a size such as "512MiB", "512Mi", "1GB" or "1024"; undefined for any other text. "512M" is refused: it is
 * 1000² to Kubernetes and 1024² to systemd and docker.
 */
export function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)\s*([KMGT]i?B|[KMGT]i|B)?$/u.exec(text);
  if (match === null) return undefined;
  const unit = match[2] ?? "B";
  const bytes = Number(match[1]) * (BYTES_PER_UNIT[unit.endsWith("B") ? unit : `${unit}B`] ?? Number.NaN);
  return Number.isSafeInteger(Math.round(bytes)) ? Math.round(bytes) : undefined;
}

/** A size in the largest binary unit that keeps it short: 1048576 → "1MiB", 1500 → "1500B". */
export function formatSize(bytes: number): string {
  for (const unit of ["TiB", "GiB", "MiB", "KiB"] as const) {
    const scaled = bytes / (BYTES_PER_UNIT[unit] ?? 1);
    if (scaled >= 1 && Number.isInteger(scaled)) return `${scaled}${unit}`;
  }
  return `${bytes}B`;
}

/** A measured size for people, to a tenth of the largest binary unit: 642000000 → "612.3 MiB". */
export function formatRoundSize(bytes: number): string {
  for (const unit of ["TiB", "GiB", "MiB", "KiB"] as const) {
    const scaled = Number((bytes / (BYTES_PER_UNIT[unit] ?? 1)).toFixed(1));
    if (scaled >= 1) return `${scaled} ${unit}`;
  }
  return `${bytes} B`;
}

/** `1 pool`, `2 pools`. */
export function plural(count: number, one: string, many: string): string {
  return `${count} ${count === 1 ? one : many}`;
}
