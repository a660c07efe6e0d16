/** Root file systems to install packages into: Debian's essential packages, without libatomic. */
import assert from "node:assert/strict";
import { globSync } from "node:fs";
import { mkdtempDisposable } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { DEBIAN_BASE, unpack, whyNoRoots } from "./installation.ts";

const REASON = whyNoRoots();

/** A test that gets a new root; if there can be none, the test is skipped and says so. */
export function rootTest(name: string, act: (root: string, context: TestContext) => Promise<void>): void {
  test(name, async (context) => {
    if (REASON !== undefined) {
      process.stderr.write(`SKIPPED, ${name}: ${REASON}\n`);
      return context.skip(REASON);
    }
    await using directory = await mkdtempDisposable(join(tmpdir(), "monoceros-root-"));
    const root = join(directory.path, "root");
    unpack(DEBIAN_BASE, root);
    assert.deepEqual(globSync(`${root}/usr/lib/**/libatomic*`), []);
    await act(root, context);
  });
}
