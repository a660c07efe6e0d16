/** The registry of the methods that connect to a server. A new method needs only its file and its line here. */
import type { NetworkMethod } from "./attempt.ts";
import type { GrpcSettings } from "./grpcProbe.ts";
import { httpMethod } from "./httpProbe.ts";
import { tcpMethod } from "./tcpProbe.ts";

const grpcMethod: NetworkMethod<GrpcSettings> = {
  describe: (where) => `gRPC health check of ${where}`,
  // node:http2 costs memory, so it is loaded with the first attempt.
  attempt: lazily(async () => (await import("./grpcProbe.ts")).attemptGrpc),
};

/** By their key in the configuration. */
const METHODS = { http: httpMethod, tcp: tcpMethod, grpc: grpcMethod };

export type NetworkKey = keyof typeof METHODS;

type SettingsOf<M> = M extends NetworkMethod<infer Settings> ? Settings : never;

type ProbeOf<Key extends NetworkKey> = SettingsOf<(typeof METHODS)[Key]> & {
  /** If set, it overrides the worker's own address. */
  readonly port: number | undefined;
};

/** A method with its settings. */
export type NetworkProbe = { [Key in NetworkKey]: ProbeOf<Key> & { readonly kind: Key } }[NetworkKey];

/** The first of `keys` that `settings` has, as a probe. */
export function networkProbe(
  keys: readonly NetworkKey[],
  settings: { readonly [Key in NetworkKey]: ProbeOf<Key> | undefined },
): NetworkProbe | undefined {
  const kind = keys.find((key) => settings[key] !== undefined);
  // The compiler does not see that the key belongs to the settings.
  return kind && ({ kind, ...settings[kind] } as NetworkProbe);
}

/** The method of a probe. */
export function methodOf({ kind }: NetworkProbe): NetworkMethod<NetworkProbe> {
  return METHODS[kind] as NetworkMethod<NetworkProbe>;
}

/** An attempt whose code is loaded first. */
function lazily<Settings>(load: () => Promise<NetworkMethod<Settings>["attempt"]>): NetworkMethod<Settings>["attempt"] {
  return (address, settings, timeoutMs, settle) => {
    let attempt: Disposable | undefined;
    let isDisposed = false;
    load().then(
      (start) => {
        if (!isDisposed) attempt = start(address, settings, timeoutMs, settle);
      },
      (error: unknown) => {
        if (!isDisposed) settle({ kind: "error", reason: String(error) });
      },
    );
    return {
      [Symbol.dispose]: () => {
        isDisposed = true;
        attempt?.[Symbol.dispose]();
      },
    };
  };
}
