/** PHP's servers. */
import type { Program } from "./program.ts";

/** `php -S`; php with other arguments is another program. */
export const PHP_SERVER: Program = {
  name: "php -S",
  executables: [],
  serves: "http",
  port: ["-S", "127.0.0.1:{port}"],
  addressOptions: [{ names: ["-S"], value: "address" }],
  placement: "first",
  note: "PHP's development server; handles one request at a time.",
};

const fpm: Program = {
  name: "php-fpm",
  executables: ["php-fpm"],
  serves: "fastcgi",
  addressOptions: [],
  daemonOptions: ["--daemonize", "-D"],
  stop: { signal: "SIGQUIT", onTerm: "aborts its requests" },
  note: "Speaks FastCGI, so it needs a web server of its own, and listens where its configuration says.",
};

export const PHP: readonly Program[] = [PHP_SERVER, fpm];
