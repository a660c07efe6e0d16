/** The items of `sockets` of a pool. */
import { block, key } from "../field.ts";
import { integer, text } from "../scalars.ts";

const socketName = text({ expected: "letters, digits, _ . or -", pattern: /^[A-Za-z0-9_.-]{1,63}$/u });

const socketAddress = text({
  label: "address",
  expected: 'an address with a port such as "0.0.0.0:8080" or "[::]:8080", or an absolute path',
  pattern: /^(?:(?:[A-Za-z0-9.-]*|\[[\da-fA-F:.]+\]):\d{1,5}|\/.+)$/u,
});

export const socket = block({
  name: key("name", socketName, { change: "refused", required: true, doc: "Name in `LISTEN_FDNAMES`." }),
  listen: key("listen", socketAddress, {
    change: "refused",
    required: true,
    doc: "Address and port, or the absolute path of a Unix socket.",
  }),
  backlog: key("backlog", integer(1, 1_000_000), {
    change: "refused",
    default: 1024,
    doc: "Maximum number of connections that wait to be accepted; the kernel caps it at `net.core.somaxconn`.",
  }),
});
