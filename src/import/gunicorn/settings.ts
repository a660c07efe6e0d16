/** gunicorn's settings by what becomes of them. */

/** gunicorn goes on to read these from its file. */
export const KEPT: ReadonlySet<string> = new Set(
  [
    "worker_class worker_connections threads timeout limit_request_line limit_request_fields limit_request_field_size",
    "reload_engine reload_extra_files spew sendfile reuse_port chdir raw_env worker_tmp_dir umask initgroups tmp_upload_dir",
    "secure_scheme_headers forwarded_allow_ips accesslog disable_redirect_access_to_syslog access_log_format errorlog loglevel",
    "capture_output logger_class logconfig logconfig_dict logconfig_json syslog_addr syslog syslog_prefix syslog_facility",
    "enable_stdio_inheritance statsd_host dogstatsd_tags statsd_prefix proc_name default_proc_name pythonpath paste",
    "proxy_allow_ips raw_paste_global_conf permit_obsolete_folding strip_header_spaces permit_unconventional_http_method",
    "permit_unconventional_http_version casefold_http_method forwarder_headers header_map http_protocols dirty_apps",
    "dirty_workers dirty_timeout dirty_threads dirty_graceful_timeout dirty_post_fork dirty_worker_exit dirty_worker_init",
    "on_dirty_starting protocol wsgi_app keepalive backlog root_path http_parser asgi_disconnect_grace_period asgi_lifespan",
    "asgi_loop enable_backlog_metric http2_cleartext http2_initial_window_size http2_max_concurrent_streams",
    "http2_max_frame_size http2_max_header_list_size uwsgi_allow_ips websocket_max_message_size",
    "on_starting on_reload when_ready pre_fork post_fork post_worker_init worker_int worker_abort pre_exec pre_request",
    "post_request child_exit worker_exit nworkers_changed on_exit ssl_context",
  ]
    .join(" ")
    .split(" "),
);

/** Settings that have no equivalent, with the reason. */
export const REFUSED: Readonly<Record<string, string>> = {
  daemon: "remove it from the file: a worker must stay in the foreground",
  reload: "remove it from the file: it restarts the workers at each change, without the controller",
  proxy_protocol: "Envoy does not send the PROXY protocol to workers",
  check_config: "it has no meaning for a worker",
  print_config: "it has no meaning for a worker",
  control_socket: "the pool runs gunicorn with --no-control-socket, because all workers would share the socket",
  control_socket_mode: "the pool runs gunicorn with --no-control-socket, because all workers would share the socket",
  ca_certs: "Envoy does not verify certificates of clients",
  cert_reqs: "Envoy does not verify certificates of clients",
  ssl_version: "Envoy chooses the version of TLS",
  ciphers: "Envoy chooses the ciphers",
  do_handshake_on_connect: "Envoy terminates TLS",
  suppress_ragged_eofs: "Envoy terminates TLS",
};

/** Settings that translate.ts translates. */
export const TRANSLATED: ReadonlySet<string> = new Set(
  "workers bind graceful_timeout max_requests max_requests_jitter preload_app user group certfile keyfile pidfile control_socket_disable".split(
    " ",
  ),
);

/** Whether gunicorn knows the name. It ignores all others, so they are variables of the file. */
export function isSetting(name: string): boolean {
  return KEPT.has(name) || TRANSLATED.has(name) || Object.hasOwn(REFUSED, name);
}
