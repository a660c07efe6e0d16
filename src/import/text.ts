/** Text in the syntax of our configuration: what must be escaped, and units and names in our notation. */
import { formatDuration, formatSize } from "../base/units.ts";

/** Text that is not a template (paths, names), with `$` escaped where our file would read a variable. */
export function plain(text: string): string {
  return text.replaceAll(/\$(?=[${])/gu, "$$$$");
}

/** Text of arguments and variables, in which our file also reads templates. */
export function literal(text: string): string {
  return plain(text).replaceAll(/\{\{(?=\s*(?:\.|"\{\{"))/gu, '{{"{{"}}');
}

/** The variable `name` of the environment in which our file is read. */
export function variable(name: string): string {
  return `\${${name}}`;
}

/** `15` or `1.5` seconds as a duration; undefined if it is not a number of at least 0. */
export function seconds(text: string): string | undefined {
  return /^\d+(?:\.\d+)?$/u.test(text.trim()) ? formatDuration(Number(text) * 1000) : undefined;
}

/** A size with suffixes for powers of 1024: `50MB`, `512M`, `1g` or a number of bytes. */
export function binarySize(text: string): string | undefined {
  const [, digits = "", unit = ""] = /^(\d+(?:\.\d+)?)\s*([kmgt]?)i?b?$/iu.exec(text.trim()) ?? [];
  if (digits === "") return undefined;
  const power = "kmgt".indexOf(unit.toLowerCase() || "-") + 1;
  return formatSize(Math.round(Number(digits) * 1024 ** power));
}

const SIGNAL_NAMES: Readonly<Record<string, string>> = {
  "1": "SIGHUP",
  "2": "SIGINT",
  "3": "SIGQUIT",
  "6": "SIGABRT",
  "9": "SIGKILL",
  "10": "SIGUSR1",
  "12": "SIGUSR2",
  "15": "SIGTERM",
};

/** `TERM`, `SIGTERM` or `15` as `SIGTERM`. */
export function signal(text: string): string {
  const upper = text.trim().toUpperCase();
  return SIGNAL_NAMES[upper] ?? (upper.startsWith("SIG") ? upper : `SIG${upper}`);
}

/** The boolean spellings of INI files and systemd. */
export function boolean(text: string): boolean | undefined {
  if (/^(?:true|yes|on|1|t|y)$/iu.test(text.trim())) return true;
  return /^(?:false|no|off|0|f|n)$/iu.test(text.trim()) ? false : undefined;
}

/** Splits a command as a POSIX shell would, without expansions; undefined if a quote is not closed. */
export function splitWords(text: string): string[] | undefined {
  const words: string[] = [];
  let word: string | undefined;
  let quote = "";
  for (let at = 0; at < text.length; at += 1) {
    const char = text.charAt(at);
    if (quote === "'") {
      if (char === "'") quote = "";
      else word += char;
    } else if (char === "\\" && (quote === "" || '"\\'.includes(text.charAt(at + 1)))) {
      at += 1;
      if (at >= text.length) return undefined;
      word = (word ?? "") + text.charAt(at);
    } else if (quote === '"') {
      if (char === '"') quote = "";
      else word += char;
    } else if (char === "'" || char === '"') {
      quote = char;
      word ??= "";
    } else if (/\s/u.test(char)) {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? "") + char;
  }
  if (quote !== "") return undefined;
  return word === undefined ? words : [...words, word];
}
