import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { FakeClock } from "../../../test/support/fakeClock.ts";
import type { Upstream } from "../resources/settings.ts";
import { type AppliedState, Publisher } from "./publisher.ts";

const root = mkdtempSync(join(tmpdir(), "monoceros-publisher-"));
after(() => rmSync(root, { recursive: true }));

function upstream(slot: number, changes: Partial<Upstream> = {}): Upstream {
  return { slot, incarnation: 1, state: "serving", address: { port: 9000 + slot }, ...changes };
}

let directories = 0;

/** A publisher, a clock and an Envoy that reads the file when it is told to. */
class Scene {
  readonly clock = new FakeClock();
  readonly directory = join(root, String(directories++));
  readonly news: string[] = [];
  readonly publisher: Publisher;
  state: AppliedState = { version: "", refusals: 0 };
  asked = 0;
  isSilent = false;

  constructor() {
    mkdirSync(this.directory);
    this.publisher = new Publisher({
      file: join(this.directory, "eds.json"),
      clock: this.clock,
      listener: {
        applied: (upstreams) =>
          this.news.push(`applied ${upstreams.map((each) => `${each.slot}/${each.incarnation}`)}`),
        updateLate: (version, waitedMs) => this.news.push(`late ${version} ${waitedMs}`),
        updateRefused: (version) => this.news.push(`refused ${version}`),
        writeFailed: () => this.news.push("write failed"),
      },
    });
  }

  /** The version in the file and its ports. */
  get file(): string {
    const text = readFileSync(join(this.directory, "eds.json"), "utf8");
    const { version_info: version } = JSON.parse(text) as { version_info: string };
    const ports = [...text.matchAll(/"port_value":(\d+)/gu)].map((match) => match[1]);
    return `${version}: ${ports.join(" ")}`;
  }

  attach(): void {
    this.publisher.attach(async () => {
      this.asked += 1;
      if (this.isSilent) throw new Error("gone");
      return this.state;
    });
  }

  /** Envoy reads the file. */
  read(): void {
    this.state = { ...this.state, version: this.file.split(":")[0] ?? "" };
  }

  /** Time passes and the answers come in. */
  async pass(ms: number): Promise<void> {
    for (let left = ms; left > 0; left -= 1) {
      this.clock.pass(1);
      await new Promise((turn) => setImmediate(turn));
    }
  }
}

test("nothing is written before prepare(), and each later update is written at once and completely", () => {
  const scene = new Scene();
  scene.publisher.publish([upstream(1)]);
  assert.deepEqual(readdirSync(scene.directory), []);
  scene.publisher.prepare();
  assert.equal(scene.file, "1: 9001");
  scene.publisher.publish([upstream(2), upstream(1)]);
  assert.equal(scene.file, "2: 9001 9002");
  scene.publisher.publish([upstream(1), upstream(2)]);
  assert.equal(scene.file, "2: 9001 9002");
  assert.deepEqual(readdirSync(scene.directory), ["eds.json"]);
});

test("an update is reported as applied when Envoy confirms it, and polling stops", async () => {
  const scene = new Scene();
  scene.publisher.prepare();
  scene.attach();
  scene.read();
  await scene.pass(3);
  assert.deepEqual(scene.news, ["applied "]);
  scene.publisher.publish([upstream(0)]);
  await scene.pass(5);
  assert.deepEqual(scene.news, ["applied "]);
  scene.read();
  await scene.pass(10);
  assert.deepEqual(scene.news, ["applied ", "applied 0/1"]);
  const { asked } = scene;
  await scene.pass(5000);
  assert.equal(scene.asked, asked);
  assert.deepEqual(scene.clock.armed, []);
});

test("the newest endpoints win: they are written at once, and skipped versions are never reported", async () => {
  const scene = new Scene();
  scene.publisher.prepare();
  scene.attach();
  scene.publisher.publish([upstream(0)]);
  scene.publisher.publish([upstream(0), upstream(1)]);
  scene.publisher.publish([upstream(2)]);
  assert.equal(scene.file, "4: 9002");
  scene.read();
  await scene.pass(5);
  assert.deepEqual(scene.news, ["applied 2/1"]);
});

test("Envoy sees a slot removed before its next incarnation", async () => {
  const scene = new Scene();
  scene.publisher.publish([upstream(0), upstream(1)]);
  scene.publisher.prepare();
  scene.attach();
  scene.read();
  await scene.pass(3);
  scene.publisher.publish([upstream(0, { incarnation: 2 }), upstream(1)]);
  assert.equal(scene.file, "2: 9001");
  scene.read();
  await scene.pass(5);
  assert.equal(scene.file, "3: 9000 9001");
  scene.read();
  await scene.pass(5);
  assert.deepEqual(scene.news, ["applied 0/1,1/1", "applied 1/1", "applied 0/2,1/1"]);
  // Also when it was gone for a moment that Envoy may have missed.
  scene.publisher.publish([upstream(1)]);
  scene.publisher.publish([upstream(0, { incarnation: 3 }), upstream(1)]);
  assert.equal(scene.file, "4: 9001");
});

test("a starting Envoy reads the desired endpoints, whatever its predecessor knew", () => {
  const scene = new Scene();
  scene.publisher.publish([upstream(0)]);
  scene.publisher.prepare();
  scene.attach();
  scene.publisher.detach();
  scene.publisher.publish([upstream(0, { incarnation: 2 })]);
  scene.publisher.prepare();
  assert.match(scene.file, /^\d+: 9000$/u);
});

test("an update that Envoy did not notice is rewritten with growing intervals and reported once", async () => {
  const scene = new Scene();
  scene.publisher.prepare();
  scene.attach();
  const path = join(scene.directory, "eds.json");
  const rewritten: number[] = [];
  rmSync(path);
  for (let ms = 1; ms <= 4000; ms++) {
    await scene.pass(1);
    if (!readdirSync(scene.directory).includes("eds.json")) continue;
    rewritten.push(ms);
    rmSync(path);
  }
  assert.deepEqual(rewritten, [500, 1500, 3500]);
  assert.deepEqual(scene.news, ["late 1 500"]);
  assert.ok(scene.asked < 60, `asked ${scene.asked} times in 4 s`);
});

test("a rejection is reported once, and a later update is applied", async () => {
  const scene = new Scene();
  scene.publisher.prepare();
  scene.attach();
  scene.read();
  await scene.pass(3);
  scene.publisher.publish([upstream(0)]);
  scene.state = { ...scene.state, refusals: 1 };
  await scene.pass(600);
  scene.state = { ...scene.state, refusals: 2 };
  await scene.pass(600);
  assert.deepEqual(scene.news, ["applied ", "refused 2"]);
  scene.publisher.publish([upstream(1)]);
  scene.read();
  await scene.pass(5);
  assert.deepEqual(scene.news, ["applied ", "refused 2", "applied 1/1"]);
});

test("a failed write is reported once and retried", async () => {
  const scene = new Scene();
  scene.publisher.prepare();
  scene.attach();
  rmSync(scene.directory, { recursive: true });
  scene.publisher.publish([upstream(0)]);
  await scene.pass(2000);
  assert.deepEqual(scene.news, ["write failed", "late 2 500"]);
  mkdirSync(scene.directory);
  await scene.pass(2000);
  assert.equal(scene.file, "2: 9000");
  assert.throws(() => {
    rmSync(scene.directory, { recursive: true });
    scene.publisher.prepare();
  }, /ENOENT/u);
});

test("an Envoy that does not respond is polled again, an exited one is not", async () => {
  const scene = new Scene();
  scene.publisher.prepare();
  scene.isSilent = true;
  scene.attach();
  await scene.pass(100);
  assert.ok(scene.asked > 3);
  scene.publisher.detach();
  const { asked } = scene;
  await scene.pass(2000);
  assert.equal(scene.asked, asked);
  assert.deepEqual(scene.news, []);
});
