/** The files in examples/ do what their first lines say. Each run uses its own ports. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, type TestContext, test } from "node:test";
import { eventually, MONOCEROS } from "../support/controller.ts";
import { freePort } from "../support/ports.ts";

function answerOf(port: number): Promise<string | undefined> {
  return new Promise((done) => {
    get({ host: "127.0.0.1", port, path: "/", agent: false }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (chunk: string) => {
        body += chunk;
      });
      response.on("end", () => done(response.statusCode === 200 ? body : undefined));
      response.on("error", () => done(undefined));
    }).on("error", () => done(undefined));
  });
}

describe("examples", () => {
  let directory: string;
  before(() => {
    directory = mkdtempSync(join(tmpdir(), "monoceros-examples-"));
  });
  after(() => rmSync(directory, { recursive: true }));

  /** A copy with fixed texts replaced, each of which must be there. */
  function copyOf(name: string, replacements: readonly (readonly [from: string, to: string])[]): string {
    let text = readFileSync(join("examples", name), "utf8");
    for (const [from, to] of replacements) {
      assert.ok(text.includes(from), `${name} has ${from}`);
      text = text.replaceAll(from, to);
    }
    const copy = join(directory, name);
    writeFileSync(copy, text);
    return copy;
  }

  /** From the project's directory, as the README has it; the control socket is ours. */
  function run(...args: string[]): ChildProcess {
    return spawn(MONOCEROS, args, {
      stdio: ["ignore", "pipe", "pipe"],
      env: { ...process.env, ADMIN_ADDRESS: "127.0.0.1", MONOCEROS_SOCKET: join(directory, "control.sock") },
    });
  }

  function linesOf(stream: NodeJS.ReadableStream | null): string[] {
    assert.ok(stream !== null);
    const lines: string[] = [];
    createInterface({ input: stream }).on("line", (line) => lines.push(line));
    return lines;
  }

  test("basic.yaml -d runs ping three times and gives up with exit code 1", async (t: TestContext) => {
    // `make` installs ping if it has permission.
    if (spawnSync("ping", ["-V"]).error !== undefined) {
      t.skip("there is no ping and it cannot be installed here");
      return;
    }
    const child = run("-c", copyOf("basic.yaml", [["port: 9000", "port: 0"]]), "-d");
    const stdout = linesOf(child.stdout);
    const stderr = linesOf(child.stderr);
    const [code] = await once(child, "close");
    assert.equal(code, 1, stderr.join("\n"));
    const texts = stdout.map((line) => JSON.parse(line) as Record<string, string>);
    for (const record of texts) assert.equal(record["worker_id"], "ping-0");
    assert.equal(texts.filter((record) => record["worker_info_msg"]?.startsWith("PING 127.0.0.1")).length, 3);
    assert.equal(texts.filter((record) => record["worker_info_msg"]?.includes("packets transmitted")).length, 3);
    for (const incarnation of [1, 2, 3]) {
      assert.ok(
        stderr.some((line) => line.includes(`started with pid`) && line.includes(`incarnation ${incarnation}`)),
      );
    }
    assert.match(stderr.join("\n"), /3 crashes or failed starts within 10m; the limit is 2/u);
    assert.match(stderr.at(-1) ?? "", /controller stopped with exit code 1/u);
  });

  test("config.yaml serves HTTP from four workers on one port", async () => {
    const port = await freePort();
    const config = copyOf("config.yaml", [
      ["port: 9000", "port: 0"],
      ["- 8000", `- ${port}`],
    ]);
    const child = run("-c", config, "-d");
    const stdout = linesOf(child.stdout);
    const stderr = linesOf(child.stderr);
    const closed = once(child, "close");
    try {
      await eventually(
        () => (stderr.some((line) => line.includes("controller is ready")) ? true : undefined),
        "the controller is ready",
      );
      // A worker without a readiness probe counts as ready once it runs; its server needs a moment more.
      assert.equal(await eventually(() => answerOf(port), "an answer"), "hello from processbin\n");
      await eventually(() => {
        const ids = new Set(stdout.map((line) => (JSON.parse(line) as Record<string, string>)["worker_id"]));
        return ids.size === 4 ? true : undefined;
      }, "all four workers have said something");
      for (const line of stdout) assert.ok((JSON.parse(line) as Record<string, string>)["msg"] !== undefined, line);
    } finally {
      child.kill("SIGTERM");
      const [code] = await closed;
      assert.equal(code, 0, stderr.join("\n"));
    }
  });

  test("sockets.yaml serves HTTP from workers that inherit the port", async () => {
    const port = await freePort();
    const config = copyOf("sockets.yaml", [
      ["port: 9000", "port: 0"],
      ["0.0.0.0:8000", `127.0.0.1:${port}`],
    ]);
    const child = run("-c", config, "-d");
    const stderr = linesOf(child.stderr);
    linesOf(child.stdout);
    const closed = once(child, "close");
    try {
      await eventually(
        () => (stderr.some((line) => line.includes("controller is ready")) ? true : undefined),
        "the controller is ready",
      );
      // The first connection may come before any worker listens: it waits in the queue.
      assert.equal(await answerOf(port), "hello from processbin\n");
    } finally {
      child.kill("SIGTERM");
      const [code] = await closed;
      assert.equal(code, 0, stderr.join("\n"));
    }
  });

  test("every example is a valid configuration", () => {
    const names = readdirSync("examples", { recursive: true, encoding: "utf8" }).filter((each) =>
      each.endsWith(".yaml"),
    );
    for (const name of names) {
      const { status, stderr } = spawnSync(MONOCEROS, ["config", "show", "-c", join("examples", name)], {
        encoding: "utf8",
      });
      assert.equal(status, 0, stderr);
    }
  });
});
