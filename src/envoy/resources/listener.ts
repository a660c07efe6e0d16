/**
 * The single listener of a proxy. It is transparent: a worker sees what the client sent, and the client what the worker
 * sent, except for `x-forwarded-for`, `x-forwarded-proto` and hop-by-hop headers. Pure.
 */
import { fileSource } from "./files.ts";
import { type Json, type JsonObject, seconds, typed } from "./json.ts";
import { CLUSTER_NAME, LISTENER_NAME, type ProxySettings, SINCE } from "./settings.ts";

const CONNECTION_MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/** Time limit from the first byte of a request to the end of its headers; slower clients only hold the connection. */
const HEADERS_TIMEOUT_MS = 60_000;

/** Bounds of max_header_field_size_kb. */
const DEFAULT_HEADER_FIELD_KIB = 64;
const MAX_HEADER_FIELD_KIB = 256;

/**
 * Together these match every upgrade token except `websocket`, the only one that the listener supports. RE2 has no
 * negative lookahead, and Envoy limits the size of a regular expression, so each position has its own.
 */
const UNKNOWN_UPGRADES: readonly JsonObject[] = [
  ...[..."websocket"].map((letter, index) => `${"websocket".slice(0, index)}([^${letter}].*)?`),
  "websocket.+",
].map((regex) => ({ safe_regex: { regex: `(?i)${regex}` } }));

/** Preserves the case of header names. */
export const PRESERVE_HEADER_CASE: JsonObject = {
  stateful_formatter: {
    name: "preserve_case",
    typed_config: typed("envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig", {
      forward_reason_phrase: true,
    }),
  },
};

/** Type of the listener resource. */
export const LISTENER_TYPE = "envoy.config.listener.v3.Listener";

/** Type of the resource that holds the routes. */
export const ROUTES_TYPE = "envoy.config.route.v3.RouteConfiguration";

/**
 * The listener resource. Its routes come from the file `routesPath`, because Envoy closes connections when a listener
 * changes, but not when its routes change. Without a path the listener contains the routes.
 */
export function listener(settings: ProxySettings, routesPath?: string): JsonObject {
  return {
    name: LISTENER_NAME,
    stat_prefix: LISTENER_NAME,
    address: { socket_address: listenerAddress(settings) },
    // With SO_REUSEPORT a second program of the same user could bind the port too and silently take half of the
    // traffic. Several threads need it: otherwise each connection would wake all of them.
    enable_reuse_port: settings.concurrency > 1,
    filter_chains: [
      {
        filters: [settings.protocol === "tcp" ? tcpProxy(settings) : connectionManager(settings, routesPath)],
        transport_socket: settings.tls === undefined ? undefined : transportSocket(settings, settings.tls),
      },
    ],
  };
}

function listenerAddress({ listenerAddress: address, listenerPort }: ProxySettings): JsonObject {
  return {
    address: address === "localhost" ? "127.0.0.1" : address,
    port_value: listenerPort,
    // Only the unspecified IPv6 address can also accept IPv4.
    ipv4_compat: address === "::" ? true : undefined,
  };
}

function connectionManager(settings: ProxySettings, routesPath: string | undefined): JsonObject {
  return {
    name: "envoy.filters.network.http_connection_manager",
    typed_config: typed(CONNECTION_MANAGER, {
      stat_prefix: LISTENER_NAME,
      // HTTP/1.1, HTTP/2 with prior knowledge, or the protocol negotiated by ALPN.
      codec_type: "AUTO",
      route_config: routesPath === undefined ? routes(settings) : undefined,
      rds:
        routesPath === undefined
          ? undefined
          : { route_config_name: LISTENER_NAME, config_source: fileSource(routesPath) },
      http_filters: [
        {
          name: "envoy.filters.http.router",
          typed_config: typed("envoy.extensions.filters.http.router.v3.Router", { suppress_envoy_headers: true }),
        },
      ],
      http_protocol_options: {
        accept_http_10: true,
        default_host_for_http_10: "localhost",
        enable_trailers: true,
        allow_custom_methods: true,
        header_key_format: PRESERVE_HEADER_CASE,
        // Envoy responds 403 to an upgrade that it does not support, although HTTP lets a server ignore it.
        ignore_http_11_upgrade: settings.envoyMinor < SINCE.ignore_http_11_upgrade ? undefined : UNKNOWN_UPGRADES,
      },
      common_http_protocol_options: { max_headers_count: settings.maxHeaders },
      max_request_headers_kb: headerKilobytes(settings),
      // WebSocket over HTTP/2 (RFC 8441).
      http2_protocol_options: { allow_connect: true, ...maxHeaderField(settings) },
      upgrade_configs: [{ upgrade_type: "websocket" }],
      server_header_transformation: "PASS_THROUGH",
      ...clientAddress(settings),
      // Envoy obeys control headers such as x-envoy-retry-on from no address (1.31 trusts private addresses).
      internal_address_config: {},
      // A proxy in front that terminates mutual TLS passes details of the client's certificate to the worker.
      forward_client_cert_details: "ALWAYS_FORWARD_ONLY",
      // A random UUID costs a few percent of a small request, and a worker that needs an id creates its own. Envoy
      // passes on an id that the client sent.
      generate_request_id: false,
      proxy_100_continue: true,
      normalize_path: false,
      // Server-sent events and long polls may be idle indefinitely.
      stream_idle_timeout: "0s",
      request_headers_timeout: seconds(HEADERS_TIMEOUT_MS),
      local_reply_config: { mappers: [OPTIONS_OF_SERVER] },
      access_log: settings.accessLog ? [accessLog(HTTP_ACCESS_LOG)] : undefined,
    }),
  };
}

/** Maximum size of the headers of one message, in whole KiB. */
export function headerKilobytes({ maxHeaderBytes }: ProxySettings): number {
  return Math.max(1, Math.ceil(maxHeaderBytes / 1024));
}

/** HTTP/2 options that allow one header field the size of all headers together; without them its limit is 64 KiB. */
export function maxHeaderField(settings: ProxySettings): JsonObject {
  const kilobytes = Math.min(headerKilobytes(settings), MAX_HEADER_FIELD_KIB);
  const isDefault = kilobytes < DEFAULT_HEADER_FIELD_KIB || settings.envoyMinor < SINCE.max_header_field_size_kb;
  return isDefault ? {} : { max_header_field_size_kb: kilobytes };
}

/**
 * How Envoy determines a client's address. With trusted hops it is an x-forwarded-for element, counted from the right,
 * and the nearest proxy's x-forwarded-proto stays. Without them it is the peer's, and Envoy sets x-forwarded-proto. The
 * route appends the peer to x-forwarded-for, because Envoy writes its own address for a loopback peer.
 */
function clientAddress({ trustedHops }: ProxySettings): JsonObject {
  return trustedHops === 0
    ? { use_remote_address: true, skip_xff_append: true }
    : { use_remote_address: false, xff_num_trusted_hops: trustedHops - 1 };
}

/**
 * `OPTIONS *` addresses the server as a whole. Envoy cannot route a request without a path and would respond 404. A
 * client that checks the server's availability this way would treat 404 as a failure.
 */
const OPTIONS_OF_SERVER: JsonObject = {
  filter: {
    and_filter: {
      filters: [
        { header_filter: { header: { name: ":method", string_match: { exact: "OPTIONS" } } } },
        { header_filter: { header: { name: ":path", string_match: { exact: "*" } } } },
      ],
    },
  },
  status_code: 200,
};

/** The routes resource, with a single route. Not used for TCP. */
export function routes(settings: ProxySettings): JsonObject {
  return {
    name: LISTENER_NAME,
    validate_clusters: false,
    // Envoy sets this header if it trusts no proxy in front.
    request_headers_to_remove: settings.trustedHops === 0 ? ["x-envoy-external-address"] : undefined,
    request_headers_to_add: [
      {
        header: { key: "x-forwarded-for", value: "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%" },
        append_action: "APPEND_IF_EXISTS_OR_ADD",
      },
    ],
    virtual_hosts: [
      {
        name: CLUSTER_NAME,
        domains: ["*"],
        routes: [
          {
            match: { prefix: "/" },
            route: {
              cluster: CLUSTER_NAME,
              timeout: seconds(settings.requestTimeoutMs),
              hash_policy: httpHashPolicy(settings),
              retry_policy: RETRY_POLICY,
            },
          },
        ],
      },
    ],
  };
}

/** One more than the failures that eject a worker, with pauses in which Envoy's threads learn of the ejection. */
const RETRIES = 4;
const BACK_OFF: JsonObject = { base_interval: seconds(5), max_interval: seconds(50) };

/**
 * Retries only if no worker can have seen the request, so that nothing is done twice: no connection, a stream refused
 * by HTTP/2, or a connection that broke before the headers were written (needs Envoy 1.31). Retries use another worker,
 * unless the balancing algorithm insists on the same one; then outlier detection ejects that worker.
 */
const RETRY_POLICY: JsonObject = {
  retry_on: "connect-failure,refused-stream,reset-before-request",
  num_retries: RETRIES,
  retry_back_off: BACK_OFF,
  retry_host_predicate: [
    {
      name: "envoy.retry_host_predicates.previous_hosts",
      typed_config: typed("envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"),
    },
  ],
  host_selection_retry_max_attempts: 5,
};

function isHashed({ algorithm }: ProxySettings): boolean {
  return algorithm === "RING_HASH" || algorithm === "MAGLEV";
}

function httpHashPolicy(settings: ProxySettings): readonly Json[] | undefined {
  const { hashOn } = settings;
  if (!isHashed(settings) || hashOn === undefined) return undefined;
  const separator = hashOn.indexOf(":");
  const name = hashOn.slice(separator + 1);
  switch (hashOn.slice(0, Math.max(separator, 0))) {
    case "header":
      return [{ header: { header_name: name } }];
    case "cookie":
      return [{ cookie: { name } }];
    case "query":
      return [{ query_parameter: { name } }];
    default:
      return [{ connection_properties: { source_ip: true } }];
  }
}

function tcpProxy(settings: ProxySettings): JsonObject {
  return {
    name: "envoy.filters.network.tcp_proxy",
    typed_config: typed("envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", {
      stat_prefix: LISTENER_NAME,
      cluster: CLUSTER_NAME,
      // A connection may be idle indefinitely.
      idle_timeout: "0s",
      max_connect_attempts: RETRIES + 1,
      backoff_options: settings.envoyMinor < SINCE.backoff_options ? undefined : BACK_OFF,
      hash_policy: isHashed(settings) ? [{ source_ip: {} }] : undefined,
      access_log: settings.accessLog ? [accessLog(TCP_ACCESS_LOG)] : undefined,
    }),
  };
}

const TCP_ACCESS_LOG: JsonObject = {
  start_time: "%START_TIME%",
  duration_ms: "%DURATION%",
  flags: "%RESPONSE_FLAGS%",
  bytes_received: "%BYTES_RECEIVED%",
  bytes_sent: "%BYTES_SENT%",
  upstream: "%UPSTREAM_HOST%",
  client: "%DOWNSTREAM_REMOTE_ADDRESS%",
};

const HTTP_ACCESS_LOG: JsonObject = {
  ...TCP_ACCESS_LOG,
  method: "%REQ(:METHOD)%",
  path: "%REQ(:PATH)%",
  protocol: "%PROTOCOL%",
  host: "%REQ(:AUTHORITY)%",
  status: "%RESPONSE_CODE%",
  status_details: "%RESPONSE_CODE_DETAILS%",
  upstream_duration_ms: "%RESPONSE_DURATION%",
  attempts: "%UPSTREAM_REQUEST_ATTEMPT_COUNT%",
  user_agent: "%REQ(USER-AGENT)%",
  request_id: "%REQ(X-REQUEST-ID)%",
};

/** One JSON line on stdout for each request or connection. */
function accessLog(fields: JsonObject): JsonObject {
  return {
    name: "envoy.access_loggers.stdout",
    typed_config: typed("envoy.extensions.access_loggers.stream.v3.StdoutAccessLog", {
      log_format: { json_format: fields },
    }),
  };
}

function transportSocket({ protocol }: ProxySettings, tls: { cert: string; key: string }): JsonObject {
  return {
    name: "envoy.transport_sockets.tls",
    typed_config: typed("envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", {
      common_tls_context: {
        alpn_protocols: protocol === "tcp" ? undefined : ["h2", "http/1.1"],
        tls_certificates: [{ certificate_chain: { filename: tls.cert }, private_key: { filename: tls.key } }],
      },
    }),
  };
}
