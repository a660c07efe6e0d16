// biome-ignore-all lint/suspicious/noTemplateCurlyInString: the output contains variables
import assert from "node:assert/strict";
import { test } from "node:test";
import { type ReadImport, readImport, sourceOf } from "../../../test/support/importing.ts";
import { translateSystemd } from "./translate.ts";
import { parseSpan, parseUnit, splitUnitWords } from "./unit.ts";

function translate(service: string, name = "web.service"): ReadImport {
  return readImport(translateSystemd([sourceOf(`[Service]\n${service}\n`, name)], name));
}

/** systemd's defaults, which are always written. */
const DEFAULTS = { restart: { policy: "never" }, signal_timeout: "1m30s" };

test("units are read with comments and continued lines", () => {
  assert.deepEqual(parseUnit("[Unit]\n# no\nA=1 \\\n; no\n  2\n\n[Service]\nB =\n", "f"), [
    { section: "Unit", key: "A", value: "1 2", where: "f:3" },
    { section: "Service", key: "B", value: "", where: "f:8" },
  ]);
  assert.throws(() => parseUnit("A=1", "f"), /f:1: expected a section/u);
  assert.throws(() => parseUnit("[A]\nhello", "f"), /f:2: expected Key=value/u);
});

test("words have systemd's quoting", () => {
  assert.deepEqual(splitUnitWords(`a "b c" 'd "e' f\\x20g h\\ti ""`), ["a", "b c", 'd "e', "f g", "h\ti", ""]);
  assert.equal(splitUnitWords('a "b'), undefined);
});

test("time spans have all spellings of systemd", () => {
  assert.deepEqual(["90", "1min 30s", "500ms", "2h30min", "1d", "infinity", "", "5 bananas"].map(parseSpan), [
    90,
    90,
    0.5,
    9000,
    86_400,
    undefined,
    undefined,
    undefined,
  ]);
});

test("a service with every translated key becomes a pool", () => {
  const { workers, ignored } = translate(`User=shop
Group=shop
WorkingDirectory=/srv
Environment="A=x y" B=2
Environment=C=%t
ExecStart=@/usr/bin/server server --port 80 $A \${B} %% --name %p
KillMode=mixed
KillSignal=SIGQUIT
TimeoutStopSec=45
Restart=on-failure
RestartSec=2
SuccessExitStatus=3 4
StartLimitBurst=5
StartLimitIntervalSec=1min
RuntimeMaxSec=1d
LimitNOFILE=1024:4096
LimitCORE=infinity
LimitMEMLOCK=64K
Nice=5
OOMScoreAdjust=-100
UMask=0077
MemoryHigh=1G
MemoryMax=2G
StandardOutput=append:/var/log/a.log
`);
  assert.deepEqual(ignored, []);
  assert.deepEqual(workers, [
    {
      name: "web",
      exec: "/usr/bin/server",
      args: ["--port", "80", "x", "y", "2", "%", "--name", "web"],
      env: { A: "x y", B: "2", C: "/run" },
      cwd: "/srv",
      user: "shop",
      group: "shop",
      umask: "0077",
      nice: 5,
      stop_signal_target: "leader",
      stop_signal: "SIGQUIT",
      signal_timeout: "45s",
      restart: {
        policy: "on-failure",
        expected_exit_codes: [3, 4],
        backoff: { initial: "2s", max: "2s", factor: 1 },
      },
      max_restarts: 5,
      restart_window: "1m",
      limits: { lifespan: "24h", memory: "1GiB", memory_hard: "2GiB" },
      rlimits: {
        nofile: { soft: 1024, hard: 4096 },
        core: { soft: "unlimited", hard: "unlimited" },
        memlock: { soft: 65_536, hard: 65_536 },
      },
      oom_score_adj: -100,
      logs: { file: { path: "/var/log/a.log", max_size: "unlimited", only: true } },
    },
  ]);
});

test("the instance of a template is the slot", () => {
  const { workers } = translate("ExecStart=/a --id %i\nEnvironment=ID=%I", "job@.service");
  assert.deepEqual(workers[0], {
    name: "job",
    replicas: 1,
    exec: "/a",
    args: ["--id", "{{.Slot}}"],
    env: { ID: "{{.Slot}}" },
    ...DEFAULTS,
  });
});

test("preparations run one after the other before the service", () => {
  const { workers } = translate("User=u\nExecStartPre=/a\nExecStartPre=+-/b 'x y'\nExecStart=/c\nEnvironment=E=1");
  assert.deepEqual(workers, [
    { name: "web-pre", type: "oneshot", exec: "/a", env: { E: "1" }, user: "u" },
    {
      name: "web-pre2",
      type: "oneshot",
      depends_on: { "web-pre": "completed" },
      exec: "sh",
      args: ["-c", "/b 'x y' || true"],
      env: { E: "1" },
    },
    { name: "web", depends_on: { "web-pre2": "completed" }, exec: "/c", env: { E: "1" }, user: "u", ...DEFAULTS },
  ]);
});

test("variables of a file are expanded by a shell", () => {
  const { workers } = translate("EnvironmentFile=/etc/e\nExecStart=/a $OPTIONS --p=${PORT} 'it is'");
  assert.deepEqual(workers[0]?.["args"], ["-c", `exec /a $OPTIONS "--p=$\${PORT}" 'it is'`]);
});

test("the prefix : leaves variables as they are", () => {
  assert.deepEqual(translate("ExecStart=:/a $B ${B}").workers[0]?.["args"], ["$B", "$${B}"]);
  assert.deepEqual(translate("ExecStart=/a x$$y").workers[0]?.["args"], ["x$$y"]);
});

test("notifications of systemd become probes, or are listed if our file has none", () => {
  const { workers, reasons } = translate("ExecStart=/a\nType=notify\nWatchdogSec=20");
  if (reasons["Service.Type"] === undefined)
    assert.deepEqual(workers[0]?.["probes"], {
      readiness: { sd_notify: true },
      liveness: { period: "20s", sd_notify: true },
    });
  else assert.match(reasons["Service.WatchdogSec"] ?? "", /^probes\.liveness/u);
});

test("the last of several lines counts, and the others are listed", () => {
  const { workers, reasons } = translate("ExecStart=/a\nUser=a\nUser=b\nTimeoutSec=5\nTimeoutStopSec=6");
  assert.deepEqual([workers[0]?.["user"], workers[0]?.["signal_timeout"]], ["b", "6s"]);
  assert.deepEqual(reasons, {
    "Service.User": "a later line sets user again",
    "Service.TimeoutSec": "a later line sets signal_timeout again",
  });
});

test("what cannot be translated is listed with the reason", () => {
  const { reasons } = translate(
    "ExecStart=/a\nExecStart=/b\nType=dbus\nExecReload=/c\nPrivateTmp=yes\nNonsense=1\nStandardOutput=null",
  );
  assert.deepEqual(Object.keys(reasons), [
    "Service.Type",
    "Service.ExecReload",
    "Service.PrivateTmp",
    "Service.Nonsense",
    "Service.StandardOutput",
    "Service.ExecStart",
  ]);
});

test("a unit without a command is refused", () => {
  assert.throws(() => translate("User=x"), /no ExecStart= in a section \[Service\]/u);
});
