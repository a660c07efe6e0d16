/** Default paths of the control socket: the one list that server and CLI share. Pure. */

/**
 * Paths of the control socket, in order of preference, at least one. `$MONOCEROS_SOCKET` overrides all others.
 * Otherwise the server uses the first path it can bind, and the CLI the first that answers.
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
  // The XDG base directory specification requires ignoring relative paths.
  return runtime.startsWith("/") ? [`${runtime}/monoceros/monoceros.sock`, ...candidates] : candidates;
}
