/** `balance` and `top` of the real executable with real workers, and `top` on a real terminal. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { type TestContext, test } from "node:test";
import { ControllerUnderTest, eventually, MONOCEROS, poolOf } from "../support/controller.ts";
import { startLoad } from "../support/load.ts";
import { command, commandOk, proxyPool } from "../support/traffic.ts";

interface BalanceDocument {
  readonly pool: string;
  readonly mode: string;
  readonly algorithm: string | null;
  readonly cpu_spread: number | null;
  readonly requests_spread: number | null;
  readonly verdict: string;
  readonly advice: string;
}

async function balanceOf(controller: ControllerUnderTest, pool: string): Promise<BalanceDocument> {
  const { stdout } = await commandOk(controller, "balance", pool, "--json");
  const [document] = JSON.parse(stdout) as BalanceDocument[];
  assert.ok(document !== undefined);
  return document;
}

test("in supervisor mode, balance detects a worker that does everything and recommends a proxy [B2]", async () => {
  const script = "[ $MONOCEROS_SLOT = 1 ] || exec sleep 100000; while :; do :; done";
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({ name: "web", replicas: 3, exec: "/bin/sh", args: ["-c", script], startup_wait_time: "0s" }),
  });
  await controller.ready();
  const document = await eventually(async () => {
    const now = await balanceOf(controller, "web");
    return now.cpu_spread === null || !/LEAST_REQUEST/u.test(now.advice) ? undefined : now;
  }, "the workers can be compared, and the busy one has a CPU");
  assert.ok((document.cpu_spread ?? 0) > 2.9, JSON.stringify(document));
  assert.deepEqual([document.mode, document.algorithm, document.requests_spread], ["supervisor", null, null]);
  const spread = await controller.metric('monoceros_pool_cpu_spread_ratio{pool="web"}');
  assert.ok(spread > 2.9 && spread <= 3);
  const { stdout } = await commandOk(controller, "balance");
  assert.match(stdout, /^web: balanced by the kernel \(supervisor mode\), last .*\n {2}WORKER +CPU/u);
});

test("behind a proxy, balance and top show the requests of each worker", async () => {
  const { workers, target } = await proxyPool({ replicas: 2 });
  await using controller = await ControllerUnderTest.start({ workers });
  await controller.ready();
  const load = startLoad({ target, connections: 4, requests: [{ path: "/sleep?ms=5" }] });
  try {
    const document = await eventually(async () => {
      const now = await balanceOf(controller, "web");
      return now.requests_spread === null ? undefined : now;
    }, "the workers can be compared");
    assert.deepEqual([document.mode, document.algorithm], ["proxy", "LEAST_REQUEST"]);
    assert.ok((document.requests_spread ?? 9) < 1.25, JSON.stringify(document));
    const rows = JSON.parse((await commandOk(controller, "top", "web", "--json")).stdout) as {
      id: string;
      requests_per_second: number | null;
      detail: { rss_bytes: number; open_fds: number };
    }[];
    assert.deepEqual(
      rows.map(({ id }) => id),
      ["web-0", "web-1", "web-proxy-0"],
    );
    for (const { requests_per_second: rate, detail } of rows) {
      assert.ok((rate ?? 0) > 10);
      assert.ok(detail.rss_bytes > 1 << 20 && detail.open_fds > 3);
    }
  } finally {
    await load.stop();
  }
  const table = await commandOk(controller, "top");
  assert.equal(table.stdout.match(/WORKER/gu)?.length, 1);
  assert.ok(!table.stdout.includes("\u001b"));
  assert.equal((await command(controller, "top", "wep")).code, 1);
});

/** Runs `monoceros top` on a terminal of its own (script(1)) and presses a key when it has drawn twice. */
async function topOnTerminal(controller: ControllerUnderTest, key: string): Promise<{ code: number; text: string }> {
  const line = `${MONOCEROS} top -n 100ms --socket ${controller.socket}`;
  const child = spawn("script", ["--quiet", "--return", "--command", line, "/dev/null"], {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, TERM: "xterm", NO_COLOR: "1" },
  });
  let text = "";
  let isPressed = false;
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => {
    text += chunk;
    if (isPressed || text.split("\u001b[H").length <= 3) return;
    isPressed = true;
    child.stdin.write(key);
  });
  child.stdin.on("error", () => {});
  const [code] = (await once(child, "close")) as [number];
  return { code, text };
}

test("top on a terminal refreshes without clearing, exits on q and Ctrl-C, and restores the terminal", async (t: TestContext) => {
  const script = spawn("script", ["--version"], { stdio: "ignore" });
  if (
    await once(script, "exit").then(
      ([code]) => code !== 0,
      () => true,
    )
  ) {
    t.skip("there is no script(1) here");
    return;
  }
  await using controller = await ControllerUnderTest.start({
    workers: poolOf({ name: "web", replicas: 2, exec: "sleep", args: [100000], startup_wait_time: "0s" }),
  });
  await controller.ready();
  for (const key of ["q", "\u0003"]) {
    const { code, text } = await topOnTerminal(controller, key);
    assert.equal(code, 0, text);
    assert.ok(text.includes("\u001b[?1049h") && !text.includes("\u001b[2J"));
    assert.match(text, /web-1 +ready/u);
    assert.ok(text.trimEnd().endsWith("\u001b[?7h\u001b[?25h\u001b[?1049l"), JSON.stringify(text.slice(-80)));
  }
});
