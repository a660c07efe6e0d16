import assert from "node:assert/strict";
import fs, { mkdirSync, mkdtempSync, realpathSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { eventually } from "../../../test/support/controller.ts";
import { ControllerError } from "../../base/errors.ts";
import { TreeWatch } from "./treeWatch.ts";

/** A watched directory with src/app.js, node_modules/x and a virtual environment. */
class Scene implements Disposable {
  readonly root = realpathSync(mkdtempSync(join(tmpdir(), "monoceros-tree-")));
  readonly changed: string[] = [];
  readonly failures: string[] = [];
  readonly trees: TreeWatch;

  constructor(maxDirectories?: number) {
    for (const directory of ["src/inner", "node_modules/x", "env/lib", ".git/objects"])
      mkdirSync(join(this.root, directory), { recursive: true });
    this.write("env/pyvenv.cfg");
    this.write("src/app.js");
    this.trees = new TreeWatch(
      {
        changed: (path) => this.changed.push(path.slice(this.root.length + 1)),
        failed: ({ message }) => this.failures.push(message),
      },
      maxDirectories,
    );
  }

  write(path: string, text = ""): void {
    writeFileSync(join(this.root, path), text);
  }

  seen(path: string): Promise<true> {
    return eventually(() => this.changed.includes(path) || undefined, `a change of ${path} is noticed`);
  }

  [Symbol.dispose](): void {
    this.trees[Symbol.dispose]();
    rmSync(this.root, { recursive: true, force: true });
  }
}

function watchFailure(add: () => void): ControllerError {
  try {
    add();
  } catch (error) {
    assert.ok(error instanceof ControllerError);
    assert.equal(error.code, "WATCH_FAILED");
    return error;
  }
  assert.fail("nothing failed");
}

test("changes are noticed in all directories except ignored ones", async () => {
  using scene = new Scene();
  scene.trees.add(scene.root);
  assert.equal(scene.trees.size, 3, "the root, src and src/inner");
  for (const path of ["node_modules/x/index.js", "env/lib/site.py", ".git/index", "src/.app.js.swp", "server.log"])
    scene.write(path);
  scene.write("src/inner/deep.js");
  await scene.seen("src/inner/deep.js");
  scene.write("src/app.js", "changed");
  await scene.seen("src/app.js");
  assert.deepEqual([...new Set(scene.changed)].sort(), ["src/app.js", "src/inner/deep.js"]);
});

test("new directories are watched, also after they were moved, and removed ones are forgotten", async () => {
  using scene = new Scene();
  scene.trees.add(scene.root);
  mkdirSync(join(scene.root, "lib/a"), { recursive: true });
  await eventually(() => scene.trees.size === 5 || undefined, "lib and lib/a are watched");
  scene.write("lib/a/x.js");
  await scene.seen("lib/a/x.js");
  renameSync(join(scene.root, "lib"), join(scene.root, "moved"));
  await scene.seen("moved");
  scene.write("moved/a/y.js");
  await scene.seen("moved/a/y.js");
  rmSync(join(scene.root, "moved"), { recursive: true });
  await eventually(() => scene.trees.size === 3 || undefined, "the removed directories are not watched");
  assert.deepEqual(scene.failures, []);
});

test("a missing directory, and a file, cannot be watched", () => {
  using scene = new Scene();
  assert.match(
    watchFailure(() => scene.trees.add(join(scene.root, "none"))).message,
    /none" for changes: no such directory$/u,
  );
  assert.match(
    watchFailure(() => scene.trees.add(join(scene.root, "src/app.js"))).message,
    /app\.js" for changes: not a directory$/u,
  );
});

test("a tree with too many directories is refused with a hint, and later ones are reported", async () => {
  using small = new Scene(2);
  const { message, hint } = watchFailure(() => small.trees.add(small.root));
  assert.match(message, /it has more than 2 directories$/u);
  assert.match(hint ?? "", /--watch-path/u);
  using scene = new Scene(3);
  scene.trees.add(scene.root);
  mkdirSync(join(scene.root, "more"));
  await eventually(() => scene.failures.length > 0 || undefined, "the new directory is reported");
  assert.match(scene.failures[0] ?? "", /more" for changes: it has more than 3 directories$/u);
});

test("the limits of inotify are named with the way to raise them", (context) => {
  using scene = new Scene();
  for (const [code, limit] of [
    ["ENOSPC", "fs.inotify.max_user_watches"],
    ["EMFILE", "fs.inotify.max_user_instances"],
  ] as const) {
    const broken = context.mock.method(fs, "watch", () => {
      throw Object.assign(new Error("watch"), { code });
    });
    syncBuiltinESMExports();
    try {
      const { message, hint } = watchFailure(() => scene.trees.add(scene.root));
      assert.ok(message.includes(`${limit} is the limit`), message);
      assert.ok(hint?.includes(`sysctl -w ${limit}=`), hint ?? "no hint");
    } finally {
      broken.mock.restore();
      syncBuiltinESMExports();
    }
  }
});
