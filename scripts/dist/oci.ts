/**
 * Container images as one OCI archive, built without a daemon:
 *
 * - `V` and `V-envoy` contain only files below /usr/local, for `COPY --from`;
 * - `V-debian` and `V-envoy-debian` have the root file system of debian:*-slim below them, for `FROM`. They exist for the
 *   architecture of this machine, if scripts/debianBase.sh could make the root file system.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { below, Content, type Entry, sorted } from "./content.ts";
import type { NamedFile } from "./npm.ts";
import { envoyFiles, type Payload, programFiles } from "./payload.ts";
import { ARCHITECTURES, EPOCH, OWN_ARCH, ROOT, SUMMARY, VERSION } from "./release.ts";
import { sha256 } from "./sbom.ts";
import { gzip, tar } from "./tar.ts";

const BASE = join(ROOT, "node_modules", ".tools", "debian-base.tar");
const TYPE = "application/vnd.oci.image";
const CREATED = new Date(EPOCH * 1000).toISOString();

interface Descriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
}

interface Layer {
  readonly descriptor: Descriptor;
  readonly diffId: string;
  readonly origin: string;
}

/** The content-addressed store of the archive. */
class Blobs {
  readonly entries = new Map<string, Entry>();

  add(mediaType: string, bytes: Buffer): Descriptor {
    const hash = sha256(bytes);
    this.entries.set(hash, { path: `blobs/sha256/${hash}`, content: new Content(bytes) });
    return { mediaType, digest: `sha256:${hash}`, size: bytes.length };
  }

  addJson(mediaType: string, value: unknown): Descriptor {
    return this.add(mediaType, Buffer.from(JSON.stringify(value)));
  }

  async addLayer(pieces: readonly Content[], origin: string): Promise<Layer> {
    const diffId = `sha256:${sha256(Buffer.concat(pieces.map(({ bytes }) => bytes)))}`;
    return { descriptor: this.add(`${TYPE}.layer.v1.tar+gzip`, await gzip(pieces)), diffId, origin };
  }
}

/** One archive with the images of all architectures. */
export async function ociArchive(payloads: readonly Payload[]): Promise<NamedFile> {
  const blobs = new Blobs();
  const base = existsSync(BASE) ? await blobs.addLayer([Content.read(BASE)], "Debian's essential packages") : undefined;
  const manifests = new Map<string, Descriptor[]>();
  for (const payload of payloads) {
    const program = await blobs.addLayer(programLayer(payload), "monoceros");
    const envoy = await blobs.addLayer(envoyLayer(payload), "Envoy");
    const add = (tag: string, layers: readonly Layer[]) => {
      manifests.set(tag, [...(manifests.get(tag) ?? []), addImage(blobs, payload, layers)]);
    };
    add(VERSION, [program]);
    add(`${VERSION}-envoy`, [program, envoy]);
    if (base === undefined || payload.arch !== OWN_ARCH) continue;
    add(`${VERSION}-debian`, [base, program]);
    add(`${VERSION}-envoy-debian`, [base, program, envoy]);
  }
  const images = [...manifests].map(([tag, platforms]) => ({
    ...blobs.addJson(`${TYPE}.index.v1+json`, {
      schemaVersion: 2,
      mediaType: `${TYPE}.index.v1+json`,
      manifests: platforms,
    }),
    annotations: { "org.opencontainers.image.ref.name": tag },
  }));
  const index = { schemaVersion: 2, mediaType: `${TYPE}.index.v1+json`, manifests: images };
  const files = sorted([
    ...blobs.entries.values(),
    { path: "oci-layout", content: new Content('{"imageLayoutVersion":"1.0.0"}') },
    { path: "index.json", content: new Content(JSON.stringify(index)) },
  ]);
  return [`monoceros-${VERSION}-oci.tar`, Buffer.concat(tar(files).map(({ bytes }) => bytes))];
}

function programLayer(payload: Payload): Content[] {
  const files = [...programFiles(payload), ...below("share/doc/monoceros", payload.licenses)];
  return tar(sorted(below("usr/local", files)), { hasDirectories: true });
}

function envoyLayer(payload: Payload): Content[] {
  const files = [...envoyFiles(payload), ...below("share/doc/monoceros-envoy", payload.envoyLicenses)];
  return tar(sorted(below("usr/local", files)), { hasDirectories: true });
}

/** Adds configuration and manifest of an image. Returns the manifest's descriptor. */
function addImage(
  blobs: Blobs,
  { arch }: Payload,
  layers: readonly Layer[],
): Descriptor & { readonly platform: unknown } {
  const platform = { architecture: ARCHITECTURES[arch].debian, os: "linux" };
  const config = blobs.addJson(`${TYPE}.config.v1+json`, {
    ...platform,
    created: CREATED,
    config: {
      Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
      Entrypoint: ["/usr/local/bin/monoceros"],
      Cmd: ["run", "-c", "/etc/monoceros/monoceros.yaml"],
      Labels: {
        "org.opencontainers.image.title": "monoceros",
        "org.opencontainers.image.version": VERSION,
        "org.opencontainers.image.description": SUMMARY,
        "org.opencontainers.image.licenses": "Apache-2.0",
      },
    },
    rootfs: { type: "layers", diff_ids: layers.map(({ diffId }) => diffId) },
    history: layers.map(({ origin }) => ({ created: CREATED, created_by: origin })),
  });
  const manifest = blobs.addJson(`${TYPE}.manifest.v1+json`, {
    schemaVersion: 2,
    mediaType: `${TYPE}.manifest.v1+json`,
    config,
    layers: layers.map(({ descriptor }) => descriptor),
  });
  return { ...manifest, platform };
}
