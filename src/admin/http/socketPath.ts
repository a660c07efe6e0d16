/** Where the control socket is when the configuration does not say: the one list that server and CLI share. Pure. */

/**
 * Paths of the control socket, best first, at least one. `$MONOCEROS_SOCKET` is an order and leaves no other choice;
 * otherwise the server takes the first it can make, the CLI the first that answers.
 */
export function defaultSocketCandidates(
  env: Readonly<Record<string, string | undefined>>,
  uid: number,
  tmpdir: string,
): string[] {
  const chosen = env["MONOCEROS_SOCKET"] ?? "";
  if (chosen !== "") return [chosen];
  const candidates = ["/run/monoceros/monoceros.sock", `${tmpdir}/monoceros-${uid}/monoceros.sock`];
  const runtime = env["XDG_RUNTIME_DIR"] ?? "";
  // The XDG base directory specification tells to ignore paths that are not absolute.
  return runtime.startsWith("/") ? [`${runtime}/monoceros/monoceros.sock`, ...candidates] : candidates;
}
