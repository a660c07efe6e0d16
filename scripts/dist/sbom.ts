/** Software bills of materials in CycloneDX: what is inside the program's packages, and inside Envoy's. */
import { createHash } from "node:crypto";
import { type NpmPackage, npmPackages } from "./bundled.ts";
import type { Content } from "./content.ts";
import type { NamedFile } from "./npm.ts";
import type { Payload } from "./payload.ts";
import { type Arch, ENVOY_VERSION, EPOCH, NODE_VERSION, VERSION } from "./release.ts";

interface Component {
  readonly type: "application" | "library" | "platform";
  readonly "bom-ref": string;
  readonly name: string;
  readonly version?: string;
  readonly purl?: string;
  readonly licenses?: readonly unknown[];
  readonly hashes?: readonly unknown[];
  readonly components?: readonly Component[];
}

export async function boms(payload: Payload): Promise<NamedFile[]> {
  const { arch, executable, envoy } = payload;
  const program = component("application", "monoceros", VERSION, "Apache-2.0", executable);
  const proxy = component("application", "envoy", ENVOY_VERSION, "Apache-2.0", envoy);
  return [
    [`monoceros-${VERSION}-linux-${arch}.cdx.json`, bom(arch, program, await parts(payload))],
    [`monoceros-envoy-${VERSION}-linux-${arch}.cdx.json`, bom(arch, proxy, [])],
  ];
}

async function parts({ libatomic }: Payload): Promise<Component[]> {
  return [
    { ...component("platform", "node", NODE_VERSION, "MIT"), components: insideNode() },
    // The file does not name its version; its hash identifies it.
    component("library", "libatomic", undefined, "GPL-3.0-or-later WITH GCC-exception-3.1", libatomic),
    ...(await npmPackages()).map(fromNpm),
  ];
}

function fromNpm({ name, version, license }: NpmPackage): Component {
  return { ...component("library", name, version, license), purl: `pkg:npm/${name.replace("@", "%40")}@${version}` };
}

/** The libraries that Node.js reports to contain. */
function insideNode(): Component[] {
  return Object.entries(process.versions)
    .filter(([name, version]) => !["node", "modules", "napi"].includes(name) && version !== undefined)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, version = ""]) => component("library", name, version));
}

function component(
  type: Component["type"],
  name: string,
  version: string | undefined,
  license?: string,
  content?: Content,
): Component {
  return {
    type,
    "bom-ref": version === undefined ? name : `${name}@${version}`,
    name,
    ...(version === undefined ? {} : { version }),
    ...(license === undefined ? {} : { licenses: [{ expression: license }] }),
    ...(content === undefined ? {} : { hashes: [{ alg: "SHA-256", content: sha256(content.bytes) }] }),
  };
}

function bom(arch: Arch, subject: Component, components: readonly Component[]): Buffer {
  const digest = sha256(Buffer.from(JSON.stringify([arch, subject, components])));
  const serial = digest.replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/u, "$1-$2-5$3-8$4-$5");
  const document = {
    bomFormat: "CycloneDX",
    specVersion: "1.6",
    serialNumber: `urn:uuid:${serial}`,
    version: 1,
    metadata: { timestamp: new Date(EPOCH * 1000).toISOString(), component: subject },
    components,
    dependencies: [
      { ref: subject["bom-ref"], dependsOn: components.map((each) => each["bom-ref"]) },
      ...components.map((each) => ({ ref: each["bom-ref"] })),
    ],
  };
  return Buffer.from(`${JSON.stringify(document, undefined, 2)}\n`);
}

export function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}
