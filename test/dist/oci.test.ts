import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { globSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { RELEASE, unpack, VERSION } from "./installation.ts";
import { rootTest } from "./roots.ts";
import { smoke } from "./smoke.ts";

interface Descriptor {
  readonly digest: string;
  readonly size: number;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly platform?: { readonly architecture: string };
}

interface Document {
  readonly manifests: readonly Descriptor[];
  readonly config: Descriptor;
  readonly layers: readonly Descriptor[];
  readonly rootfs: { readonly diff_ids: readonly string[] };
  readonly architecture: string;
}

/** An unpacked archive. */
class Layout {
  readonly directory: string;

  constructor(directory: string) {
    this.directory = directory;
    for (const file of globSync(`${RELEASE}/*-oci.tar`)) unpack(file, directory);
  }

  /** Tag and manifest of each image for this machine. */
  get images(): ReadonlyMap<string, Document> {
    const index = JSON.parse(readFileSync(join(this.directory, "index.json"), "utf8")) as Document;
    return new Map(
      index.manifests.map((image) => {
        const platforms = this.#read(image).manifests;
        const own = platforms.find(({ platform }) => platform?.architecture === "amd64");
        assert.ok(own !== undefined);
        return [image.annotations?.["org.opencontainers.image.ref.name"] ?? "", this.#read(own)];
      }),
    );
  }

  /** Puts the layers of an image into a root. */
  apply({ config, layers }: Document, root: string): void {
    const { rootfs, architecture } = this.#read(config);
    assert.equal(architecture, "amd64");
    for (const [index, layer] of layers.entries()) {
      const bytes = this.#bytes(layer);
      assert.equal(`sha256:${sha256(gunzipSync(bytes))}`, rootfs.diff_ids[index], "the layer's uncompressed digest");
      unpack(this.#pathOf(layer), root);
    }
  }

  #read(descriptor: Descriptor): Document {
    return JSON.parse(this.#bytes(descriptor).toString()) as Document;
  }

  #bytes(descriptor: Descriptor): Buffer {
    const bytes = readFileSync(this.#pathOf(descriptor));
    assert.equal(bytes.length, descriptor.size);
    assert.equal(`sha256:${sha256(bytes)}`, descriptor.digest);
    return bytes;
  }

  #pathOf({ digest }: Descriptor): string {
    return join(this.directory, "blobs", ...digest.split(":"));
  }
}

function sha256(bytes: Buffer): string {
  return createHash("sha256").update(bytes).digest("hex");
}

rootTest("images serve: files copied into an image, with and without Envoy, and the Debian images", async (root) => {
  const layout = new Layout(`${root}.layout`);
  const { images } = layout;
  const tags = [VERSION, `${VERSION}-debian`, `${VERSION}-envoy`, `${VERSION}-envoy-debian`];
  assert.deepEqual([...images.keys()].sort(), tags);
  const program = "/usr/local/bin/monoceros";
  for (const [tag, target] of [
    // The root is Debian's already: what `COPY --from` does.
    [VERSION, root],
    [`${VERSION}-envoy-debian`, `${root}.debian`],
  ] as const) {
    const image = images.get(tag);
    assert.ok(image !== undefined);
    layout.apply(image, target);
    await smoke({ root: target, program, hasEnvoy: tag.includes("envoy") });
  }
});
