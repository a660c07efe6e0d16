import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeClock } from "../../../test/support/fakeClock.ts";
import { controllerView, poolView, workerView } from "../../../test/support/view.ts";
import type { MetricsScope } from "../../config/config.ts";
import { type MeasuredPool, WorkerMetrics } from "./workerMetrics.ts";
import type { ScrapeAnswer } from "./workerScraper.ts";

const DRAINING = { kind: "draining", pool: "web", slot: 1, incarnation: 1, pid: 101, boundMs: 0, reason: "" } as const;

/** Two ready workers of pool "web"; each answers a scrape with a counter of 1. */
class Scene {
  readonly clock = new FakeClock();
  readonly scraped: string[] = [];
  answer: (id: string) => Promise<ScrapeAnswer> = () => Promise.resolve({ kind: "success", text: "seen_total 1\n" });
  path = "/metrics";
  readonly #scope: MetricsScope;
  readonly metrics = new WorkerMetrics({
    clock: this.clock,
    poolOf: () => this.#measured(),
    view: () => controllerView([poolView([workerView(0, "ready"), workerView(1, "ready")])]),
    scraper: {
      scrape: ({ id }) => {
        this.scraped.push(id);
        return this.answer(id);
      },
      forget: () => {},
    },
  });

  constructor(scope: MetricsScope = "worker") {
    this.#scope = scope;
  }

  #measured(): MeasuredPool {
    const { path } = this;
    return { name: "web", path, scope: this.#scope, addressOf: () => ({ port: 80 }), identifierOf: String };
  }

  async text(): Promise<string> {
    return (await this.metrics.exposition("text/plain")).text;
  }

  take(): string[] {
    return this.scraped.splice(0);
  }
}

test("concurrent requests, and those within a second, share one scrape of each worker", async () => {
  const scene = new Scene();
  const texts = await Promise.all([scene.text(), scene.text()]);
  scene.clock.pass(999);
  texts.push(await scene.text());
  assert.deepEqual(scene.take(), ["web-0", "web-1"]);
  assert.deepEqual(new Set(texts), new Set(['# TYPE seen_total counter\nseen_total{pool="web"} 2\n']));
  scene.clock.pass(1);
  await scene.text();
  assert.deepEqual(scene.take(), ["web-0", "web-1"]);
});

test("with scope pool one worker is scraped, always the same while it answers", async () => {
  const scene = new Scene("pool");
  scene.answer = (id) =>
    Promise.resolve(id === "web-0" ? { kind: "timeout" } : { kind: "success", text: "seen_total 1\n" });
  const expected = '# TYPE seen_total counter\nseen_total{pool="web"} 1\n';
  assert.equal(await scene.text(), expected);
  assert.deepEqual(scene.take(), ["web-0", "web-1"]);
  scene.clock.pass(1000);
  assert.equal(await scene.text(), expected);
  assert.deepEqual(scene.take(), ["web-1"]);
});

test("a draining worker is scraped once more only if metrics were requested recently", async () => {
  const scene = new Scene();
  scene.metrics.handle(DRAINING);
  assert.deepEqual(scene.take(), []);
  await scene.text();
  scene.take();
  scene.metrics.handle({ ...DRAINING, incarnation: 2 });
  assert.deepEqual(scene.take(), [], "that incarnation is not running");
  scene.metrics.handle(DRAINING);
  assert.deepEqual(scene.take(), ["web-1"]);
  scene.clock.pass(300_000);
  scene.metrics.handle(DRAINING);
  assert.deepEqual(scene.take(), []);
});

test("an answer to a scrape of the path before a reload is discarded", async () => {
  const scene = new Scene();
  await scene.text();
  const { answer } = scene;
  const late = Promise.withResolvers<ScrapeAnswer>();
  scene.answer = () => late.promise;
  scene.metrics.handle(DRAINING);
  scene.answer = answer;
  scene.path = "/other";
  scene.clock.pass(1000);
  await scene.text();
  late.resolve({ kind: "success", text: "seen_total 100\n" });
  scene.clock.pass(1000);
  assert.equal(await scene.text(), '# TYPE seen_total counter\nseen_total{pool="web"} 2\n');
});
