import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { text } from "node:stream/consumers";
import { test } from "node:test";
import { fileURLToPath } from "node:url";

test("ends at once, after the listeners of exit, while a thread is held in a write that nobody takes", async () => {
  const program = `
    import { write, writeSync } from "node:fs";
    import { exitNow } from ${JSON.stringify(fileURLToPath(new URL("exitNow.ts", import.meta.url)))};
    process.on("exit", (code) => writeSync(2, "listener was told " + code));
    write(1, Buffer.alloc(1_000_000), () => writeSync(2, "the write is done"));
    exitNow(3);
  `;
  const child = spawn(process.execPath, ["--input-type=module", "--no-warnings", "--eval", program], {
    stdio: ["ignore", "pipe", "pipe"],
  });
  const said = text(child.stderr);
  await once(child, "exit");
  child.stdout.destroy();
  assert.deepEqual([child.exitCode, await said], [3, "listener was told 3"]);
});
