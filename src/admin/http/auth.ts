/**
 * Who may do what over TCP. Metrics and health are open to all. Everything else needs the token, or comes from this
 * machine under a name that cannot be somebody else's: a page whose name resolves to 127.0.0.1 (DNS rebinding) sends its
 * own name as Host. A page of another origin, which a browser lets send any GET, may not ask for what changes or costs
 * something. Pure.
 */

/** What a request says about itself. */
export interface Credentials {
  /** Needs no permission. */
  readonly isOpen: boolean;
  /** Whether a page of another origin may ask: it changes nothing, and costs next to nothing. */
  readonly isForeignAllowed: boolean;
  /** Address of the peer, as Node.js writes it; undefined where the connection is gone. */
  readonly remoteAddress: string | undefined;
  readonly host: string | undefined;
  readonly origin: string | undefined;
  /** Fetch metadata (W3C): how the page that asks relates to us. */
  readonly secFetchSite: string | undefined;
  readonly authorization: string | undefined;
}

/** What is known of the token: there is none, or whether a text is it. */
export type TokenCheck = undefined | ((text: string) => boolean);

export type AccessDecision =
  | { readonly kind: "admitted"; readonly who: "anybody" | "the token" | "loopback" }
  | { readonly kind: "refused"; readonly status: 401 | 403; readonly message: string };

/** Whether the request is carried out. */
export function decideAccess(credentials: Credentials, isToken: TokenCheck): AccessDecision {
  if (!credentials.isForeignAllowed && isForeign(credentials))
    return { kind: "refused", status: 403, message: "a page of another origin may not ask for this" };
  if (credentials.isOpen) return { kind: "admitted", who: "anybody" };
  const presented = bearerToken(credentials.authorization);
  if (isToken !== undefined && presented !== undefined) {
    if (isToken(presented)) return { kind: "admitted", who: "the token" };
    return { kind: "refused", status: 401, message: "this is not the token" };
  }
  if (isLoopbackAddress(credentials.remoteAddress)) {
    if (isLoopbackHost(credentials.host)) return { kind: "admitted", who: "loopback" };
    const message = "from this machine only under a name of it: localhost, 127.0.0.1 or [::1]";
    return { kind: "refused", status: 403, message };
  }
  if (isToken !== undefined) return { kind: "refused", status: 401, message: "this needs the token" };
  return { kind: "refused", status: 403, message: "only from this machine; admin.token_file opens it to others" };
}

/** The token that an Authorization header presents (RFC 6750); undefined if it presents none. */
export function bearerToken(authorization: string | undefined): string | undefined {
  return /^Bearer +(\S+) *$/iu.exec(authorization ?? "")?.[1];
}

/**
 * Whether a page of another origin asks. Programs that are no browsers send neither header. The same site is another origin, too:
 * it has every port of this machine. A browser sends no Origin with the GET of an image.
 */
function isForeign({ origin, secFetchSite, host }: Credentials): boolean {
  const site = secFetchSite?.trim().toLowerCase();
  if (site !== undefined && site !== "same-origin" && site !== "none") return true;
  if (origin === undefined) return false;
  // Scheme and host are compared without the scheme: in front of us may be something that speaks TLS.
  const own = host?.trim().toLowerCase();
  return own === undefined || !URL.canParse(origin) || withoutScheme(new URL(origin)) !== own;
}

function withoutScheme({ protocol, host }: URL): string | undefined {
  return protocol === "http:" || protocol === "https:" ? host : undefined;
}

/** 127.0.0.0/8 and ::1, also as IPv4-mapped IPv6 address. */
export function isLoopbackAddress(address: string | undefined): boolean {
  return address !== undefined && /^(?:::ffff:)?127(?:\.\d{1,3}){3}$|^::1$/iu.test(address);
}

/** localhost, 127.0.0.0/8 and [::1], with or without a port. */
export function isLoopbackHost(host: string | undefined): boolean {
  return host !== undefined && /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?$/iu.test(host.trim());
}
