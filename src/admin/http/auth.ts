/**
 * Access control over TCP. Metrics and health are open to all. Everything else needs the token, or must come from this
 * machine under a Host that only it can have: a page whose name resolves to 127.0.0.1 (DNS rebinding) sends its own
 * name as Host. Browsers let a page of another origin send any GET, so such pages may not request anything that
 * changes state or is costly. Pure.
 */

/** The properties of a request that decide access. */
export interface Credentials {
  /** Whether the route needs no permission. */
  readonly isOpen: boolean;
  /** Whether a page of another origin may send the request: it changes nothing and costs next to nothing. */
  readonly isForeignAllowed: boolean;
  /** Address of the peer, as Node.js writes it; undefined if the connection is closed. */
  readonly remoteAddress: string | undefined;
  readonly host: string | undefined;
  readonly origin: string | undefined;
  /** Fetch metadata (W3C): how the requesting page relates to this server. */
  readonly secFetchSite: string | undefined;
  readonly authorization: string | undefined;
}

/** undefined if no token is configured; otherwise checks whether a text is the token. */
export type TokenCheck = undefined | ((text: string) => boolean);

export type AccessDecision =
  | { readonly kind: "admitted"; readonly who: "any client" | "the token" | "loopback" }
  | { readonly kind: "refused"; readonly status: 401 | 403; readonly message: string };

/** Decides whether the request is permitted. */
export function decideAccess(credentials: Credentials, isToken: TokenCheck): AccessDecision {
  if (!credentials.isForeignAllowed && isForeign(credentials))
    return { kind: "refused", status: 403, message: "a page of another origin may not send this request" };
  if (credentials.isOpen) return { kind: "admitted", who: "any client" };
  const presented = bearerToken(credentials.authorization);
  if (isToken !== undefined && presented !== undefined) {
    if (isToken(presented)) return { kind: "admitted", who: "the token" };
    return { kind: "refused", status: 401, message: "the token is wrong" };
  }
  if (isLoopbackAddress(credentials.remoteAddress)) {
    if (isLoopbackHost(credentials.host)) return { kind: "admitted", who: "loopback" };
    const message = "over loopback, the Host must be localhost, 127.0.0.1 or [::1]";
    return { kind: "refused", status: 403, message };
  }
  if (isToken !== undefined) return { kind: "refused", status: 401, message: "a token is required" };
  return {
    kind: "refused",
    status: 403,
    message: "permitted over loopback only; admin.token_file permits other clients",
  };
}

/** The token that an Authorization header presents (RFC 6750); undefined if it presents none. */
export function bearerToken(authorization: string | undefined): string | undefined {
  return /^Bearer +(\S+) *$/iu.exec(authorization ?? "")?.[1];
}

/**
 * Whether a page of another origin sent the request. Only browsers send these headers. Same-site counts as another
 * origin, because it covers every port of this machine. A browser sends no Origin when it GETs an image.
 */
function isForeign({ origin, secFetchSite, host }: Credentials): boolean {
  const site = secFetchSite?.trim().toLowerCase();
  if (site !== undefined && site !== "same-origin" && site !== "none") return true;
  if (origin === undefined) return false;
  // Compare without the scheme: a TLS-terminating proxy may be in front of this server.
  const own = host?.trim().toLowerCase();
  return own === undefined || !URL.canParse(origin) || withoutScheme(new URL(origin)) !== own;
}

function withoutScheme({ protocol, host }: URL): string | undefined {
  return protocol === "http:" || protocol === "https:" ? host : undefined;
}

/** Matches 127.0.0.0/8 and ::1, also as IPv4-mapped IPv6 addresses. */
export function isLoopbackAddress(address: string | undefined): boolean {
  return address !== undefined && /^(?:::ffff:)?127(?:\.\d{1,3}){3}$|^::1$/iu.test(address);
}

/** Matches localhost, 127.0.0.0/8 and [::1], with or without a port. */
export function isLoopbackHost(host: string | undefined): boolean {
  return host !== undefined && /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/iu.test(host.trim());
}
