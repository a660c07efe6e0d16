/** The ports that the kernel assigns to outgoing connections in this network namespace. */
import { readFileSync } from "node:fs";

const DIRECTORY = "/proc/sys/net/ipv4";

/** The range in /proc; undefined if it cannot be read. IPv6 uses the same range. */
export function readEphemeralPorts(directory = DIRECTORY): ReturnType<typeof parseEphemeralPorts> {
  try {
    const read = (name: string) => readFileSync(`${directory}/${name}`, "utf8");
    return parseEphemeralPorts(read("ip_local_port_range"), read("ip_local_reserved_ports"));
  } catch {
    return undefined;
  }
}

/** Parses the texts of ip_local_port_range and, for exceptions, ip_local_reserved_ports (`8080,9000-9100`). Pure. */
export function parseEphemeralPorts(range: string, reserved: string) {
  const [from, to] = range.trim().split(/\s+/u).map(Number);
  if (from === undefined || to === undefined || !(from <= to)) return undefined;
  const ranges = reserved
    .trim()
    .split(",")
    .filter((part) => part !== "");
  return {
    from,
    to,
    reserved: ranges.map((part) => {
      const [first = "", last = first] = part.split("-");
      return { from: Number(first), to: Number(last) };
    }),
  };
}
