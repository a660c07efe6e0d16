/** The block `admin`: the controller's own endpoints. */
import { type Block, block, key, type Values } from "../field.ts";
import { path, port, text } from "../scalars.ts";

const keys = {
  port: key("port", port(0), {
    change: "refused",
    default: 9000,
    since: "original",
    doc: "TCP port of metrics and health; 0 lets the kernel choose.",
  }),
  address: key("address", text({ label: "address" }), {
    change: "refused",
    default: "0.0.0.0",
    doc: "Address of that port.",
  }),
  socket: key("socket", path, {
    change: "refused",
    unset: "the first writable of the default paths",
    doc: "Path of the control socket, mode 0600.",
  }),
  tokenFile: key("token_file", path, {
    change: "refused",
    doc: "File with the token for the whole API over TCP. A change of its content takes effect without a reload.",
  }),
};

export interface AdminConfig extends Values<typeof keys> {}

export const admin: Block<AdminConfig, typeof keys> = block(keys, {
  foreign: {
    "host bind listen ip": "write address, and port separately",
    "token password secret": "write token_file, the path of a file with the token",
    "unixsocket socketpath path file": "write socket",
  },
});
