// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the output contains variables
import assert from "node:assert/strict";
import { test } from "node:test";
import { type ReadImport, readImport, sourceOf } from "../../test/support/importing.ts";
import { translateProcfile } from "./procfile.ts";

function translate(text: string, formation: Record<string, number> = {}, envFile?: string): ReadImport {
  return readImport(translateProcfile(sourceOf(text, "Procfile"), { formation, envFile }));
}

test("web is proxied, release runs before the others, and the formation sets the number of workers", () => {
  const { workers, ignored } = translate(
    "# shop\nrelease: rake db:migrate\nweb: puma -p $PORT\nworker: sidekiq\n",
    { web: 4, worker: 2 },
    "/srv/.env",
  );
  assert.deepEqual(ignored, []);
  assert.deepEqual(workers, [
    { name: "release", type: "oneshot", exec: "rake", args: ["db:migrate"], env_file: "/srv/.env" },
    {
      name: "web",
      depends_on: { release: "completed" },
      replicas: 4,
      exec: "puma",
      args: ["-p", "{{.Port}}"],
      env_file: "/srv/.env",
      server: { listener_port: "${PORT:-5000}", start_port: 9200 },
    },
    {
      name: "worker",
      depends_on: { release: "completed" },
      replicas: 2,
      exec: "sidekiq",
      env_file: "/srv/.env",
    },
  ]);
});

test("other processes that read PORT get one as foreman sets it", () => {
  const { workers } = translate("web: a\napi: b --port $PORT\n");
  assert.deepEqual(workers[1], { name: "api", exec: "b", args: ["--port", "5100"], env: { PORT: "5100" } });
});

test("a formation of 0 prints the process as a comment", () => {
  const { workers, disabled } = translate("web: a\njobs: b\n", { all: 0, web: 1 });
  assert.deepEqual([workers.length, disabled], [1, ["jobs"]]);
  assert.equal(translate("release: a\nweb: b\n", { release: 0 }).workers[0]?.["depends_on"], undefined);
});

test("a line in another form, a duplicate and an unknown name of the formation are refused", () => {
  assert.throws(() => translate("web: a\nhello\n"), /Procfile:2: expected a line such as "web: command", got "hello"/u);
  assert.throws(() => translate("web: a\nweb: b\n"), /Procfile:2: duplicate process "web"/u);
  assert.throws(() => translate("web: a\n", { wed: 1 }), /no process "wed", which --formation names/u);
  assert.throws(() => translate("# nothing\n"), /no line such as/u);
});
