import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { findLevel, NO_LEVEL, RECORD_LEVELS, type RecordLevel } from "./level.ts";

function levelOf(line: string | Uint8Array): RecordLevel | undefined {
  const bytes = Buffer.concat([Buffer.from(line), Buffer.from("ERROR")]);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const level = findLevel(view, 0, bytes.length - 5);
  return level === NO_LEVEL ? undefined : RECORD_LEVELS[level];
}

/** What libraries and servers write, with its level; undefined where the line does not tell. */
const LINES: readonly (readonly [RecordLevel | undefined, string])[] = [
  // Python
  ["warn", "WARNING:root:disk is nearly full"],
  ["error", "ERROR:app.db:cannot connect"],
  ["debug", "DEBUG:asyncio:Using selector: EpollSelector"],
  ["fatal", "CRITICAL:root:out of memory"],
  ["info", "INFO:     Started server process [123]"],
  ["error", "ERROR:    [Errno 98] error while attempting to bind on address"],
  ["info", "2026-01-02 15:04:05,123 - app - INFO - started"],
  ["error", "2026-01-02 15:04:05,123 - my.module_x - ERROR - failed"],
  ["warn", "2026-01-02 15:04:05,123 WARNING app: slow"],
  ["info", "[2026-01-02 15:04:05 +0000] [123] [INFO] Booting worker with pid: 123"],
  ["fatal", "[2026-01-02 15:04:05 +0000] [123] [CRITICAL] WORKER TIMEOUT (pid:124)"],
  ["error", "[2026-01-02 15:04:05,123: ERROR/ForkPoolWorker-1] Task failed"],
  ["warn", "[2026-01-02 15:04:05,123: WARNING/MainProcess] hello"],
  ["info", "2026-01-02 15:04:05.123 | INFO     | app:main:10 - started"],
  ["info", "2026-01-02 15:04:05.123 | SUCCESS  | app:main:10 - done"],
  ["info", "2026-01-02 15:04:05 [info     ] started                        port=80"],
  ["error", "Traceback (most recent call last):"],
  ["error", "ValueError: invalid literal for int()"],
  ["error", "django.db.utils.OperationalError: connection refused"],
  [undefined, '  File "app.py", line 3, in <module>'],
  [undefined, "    raise ValueError(x)"],
  // Ruby
  ["info", "I, [2026-01-02T15:04:05.123456 #123]  INFO -- : started"],
  ["fatal", "F, [2026-01-02T15:04:05.123456 #123] FATAL -- : gone"],
  ["debug", "D, [2026-01-02T15:04:05.123456 #123] DEBUG -- : query"],
  [undefined, "[123] - Worker 0 (PID: 124) booted in 0.01s, phase: 0"],
  // Go
  ["info", "I0102 15:04:05.123456   123 main.go:10] started"],
  ["warn", "W0102 15:04:05.123456   123 main.go:10] slow"],
  ["error", "E0102 15:04:05.123456   123 main.go:10] failed"],
  ["fatal", "F0102 15:04:05.123456   123 main.go:10] gone"],
  [undefined, "I0102 without a time"],
  ["info", "2026/01/02 15:04:05 INFO started port=80"],
  [undefined, "2026/01/02 15:04:05 listening on :8080"],
  [undefined, "2026/01/02 15:04:05 http: TLS handshake error from 10.0.0.1: EOF"],
  ["warn", "2026/01/02 15:04:05 [WARN] yamux: frame for missing stream"],
  ["info", "time=2026-01-02T15:04:05.123Z level=INFO msg=started"],
  ["error", 'time="2026-01-02T15:04:05Z" level=error msg="level=info"'],
  ["warn", "ts=2026-01-02T15:04:05Z caller=main.go:10 level=warn msg=slow"],
  ["debug", "lvl=debug msg=x"],
  ["info", "INFO[0000] started"],
  ["info", "2026-01-02T15:04:05.123Z\tINFO\tapp/main.go:10\tstarted"],
  ["warn", "3:04PM WRN slow"],
  ["fatal", "panic: runtime error: index out of range"],
  // Java, Rust, PHP, Node.js, .NET, Elixir
  ["info", "2026-01-02 15:04:05,123 [main] INFO  com.example.App - started"],
  ["error", "15:04:05.123 [http-nio-8080-exec-1] ERROR com.example.App - failed"],
  ["warn", "2026-01-02T15:04:05.123Z  WARN 1 --- [main] o.s.b.App : slow"],
  ["info", "02-Jan-2026 15:04:05.123 INFO [main] org.apache.catalina.startup"],
  ["error", "SEVERE: cannot start"],
  ["error", "java.lang.IllegalStateException: not started"],
  ["info", "[2026-01-02T15:04:05Z INFO  app::server] started"],
  ["info", "2026-01-02T15:04:05.123456Z  INFO app::server: started"],
  ["warn", "\u001b[2m2026-01-02T15:04:05.123456Z\u001b[0m \u001b[33m WARN\u001b[0m \u001b[2mapp\u001b[0m: slow"],
  ["info", "\u001b[32mINFO\u001b[0m:     Started server process [\u001b[36m1\u001b[0m]"],
  ["info", "[02-Jan-2026 15:04:05] NOTICE: fpm is running, pid 1"],
  ["warn", "[02-Jan-2026 15:04:05] WARNING: [pool www] server reached max_children"],
  ["warn", "PHP Warning:  Undefined variable $x in /app/a.php on line 3"],
  ["error", "PHP Fatal error:  Uncaught Exception in /app/a.php:3"],
  ["error", "PHP Parse error:  syntax error in /app/a.php"],
  ["error", "Error: Cannot find module 'express'"],
  ["error", "TypeError: Cannot read properties of undefined (reading 'x')"],
  ["info", "info: listening on 3000"],
  ["error", "\u001b[31merror\u001b[39m: connection refused"],
  ["warn", "2026-01-02T15:04:05.123Z [app] \u001b[33mwarn\u001b[39m: slow"],
  ["error", "2026-01-02T15:04:05.123Z\terror\tserver/main.go:10\tcannot listen"],
  ["info", "[15:04:05.123] INFO (123): started"],
  ["info", "[Nest] 123  - 01/02/2026, 3:04:05 PM     LOG [NestFactory] Starting"],
  ["error", "[Nest] 123  - 01/02/2026, 3:04:05 PM   ERROR [Handler] failed"],
  ["info", "info: Microsoft.Hosting.Lifetime[14]"],
  ["error", "fail: Microsoft.AspNetCore.Server.Kestrel[13]"],
  ["error", "15:04:05.123 [error] GenServer terminating"],
  // Frameworks with forms of their own
  ["error", '[2026-01-01 12:00:00] production.ERROR: Undefined variable $x {"exception":"…"} []'],
  ["warn", "[2026-01-01T12:00:00.123456+00:00] app.WARNING: slow [] []"],
  ["fatal", "[2026-01-01 12:00:00] local.EMERGENCY: Unable to create configured logger."],
  ["info", "[2026-01-01 12:00:00] production.INFO: fixed production.ERROR: x"],
  ["info", "[2026-01-01T12:00:00+00:00] security.NOTICE: Error: none"],
  ["error", "[E 260101 12:00:00 web:1] Uncaught exception GET /"],
  ["warn", "[W 260101 12:00:00 web:2345] 404 GET /error (127.0.0.1) 0.50ms"],
  ["info", "[I 260101 12:00:00 web:2345] 200 GET /error (127.0.0.1) 0.50ms"],
  ["fatal", "\u001b[31m[C 260101 12:00:00 web:1]\u001b[m gone"],
  ["info", "[I 2026-01-01 12:00:00.123 ServerApp] Serving notebooks"],
  ["error", "[E 2026-01-01 12:00:00.123 ServerApp] ERROR: the notebook server could not be started"],
  ["error", "ERRO[0001] cannot connect                                error=EOF"],
  ["fatal", "FATA[0000] gone"],
  ["debug", "DEBU[0002] query"],
  ["error", "\u001b[31mERRO\u001b[0m[0001] cannot connect"],
  ["info", "\u001b[36mINFO\u001b[0m[0001] ERRO[0001] was fixed"],
  ["error", "[2026-01-01T12:00:00.123+0000] {taskinstance.py:1851} ERROR - Task failed with exception"],
  ["info", "[2026-01-01T12:00:00.123+0000] {scheduler_job.py:12} INFO - no ERROR was found"],
  ["error", 'Exception in thread "main" java.lang.NullPointerException'],
  ["error", "Exception in thread Thread-1 (run):"],
  ["error", "thread 'main' panicked at src/main.rs:2:5:"],
  ["error", "thread 'tokio-runtime-worker' (4242) panicked at 'boom', src/main.rs:2:5"],
  ["fatal", "panic: runtime error: index out of range [5] with length 3"],
  ["fatal", "fatal error: all goroutines are asleep - deadlock!"],
  ["error", "app.rb:3:in 'Integer#/': divided by 0 (ZeroDivisionError)"],
  ["error", "/srv/app/app.rb:3:in `run': undefined method `x' for nil:NilClass (NoMethodError)"],
  ["error", 'TypeError [ERR_INVALID_ARG_TYPE]: The "path" argument must be of type string'],
  ["error", "Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'x'"],
  // What the forms above must not catch
  [undefined, "thread 'main' started"],
  [undefined, "thread pool panicked at times"],
  [undefined, "Exception in threading is off"],
  [undefined, "Exceptions in thread pools are logged"],
  [undefined, "fatal errors are mailed to root"],
  [undefined, "\tfrom app.rb:9:in '<main>'"],
  [undefined, "see app.rb (NoMethodError)"],
  [undefined, "loaded app.rb:3 (StandardError)"],
  [undefined, "ERRORS[0001]"],
  [undefined, "[E is not a date] x"],
  [undefined, "Error [none] was found"],
  [undefined, "[2026-01-01 12:00:00] example.com: connected"],
  [undefined, "[2026-01-01 12:00:00] {braces without an end ERROR"],
  // INFO of servers that say little else
  [undefined, "=> Booting Puma"],
  [undefined, "* Listening on http://0.0.0.0:3000"],
  [undefined, "Listening on http://127.0.0.1:8000 (CTRL + C to quit)"],
  [undefined, " * Serving Flask app 'app'"],
  [undefined, 'Started GET "/error" for 127.0.0.1 at 2026-01-01 12:00:00 +0000'],
  [undefined, "Completed 500 Internal Server Error in 5ms"],
  ["info", "2026-01-01T12:00:00.000Z  INFO 1 --- [main] o.s.b.w.e.tomcat.TomcatWebServer : Tomcat started (NoError)"],
  ["info", 'INFO:     127.0.0.1:5000 - "GET /error HTTP/1.1" 500 Internal Server Error'],
  // Servers and tools
  ["error", "2026/01/02 15:04:05 [error] 123#0: *1 connect() failed (111: Connection refused)"],
  ["info", "2026/01/02 15:04:05 [notice] 1#1: using the epoll event method"],
  ["fatal", "nginx: [emerg] bind() to 0.0.0.0:80 failed"],
  ["warn", "[2026-01-02 15:04:05.123][123][warning][main] [source/server/server.cc:10] slow"],
  ["info", "[2026-01-02 15:04:05.123][123][info][main] [source/server/server.cc:10] starting main dispatch loop"],
  ["error", "[Fri Jan 02 15:04:05.123456 2026] [proxy:error] [pid 1:tid 2] AH00957: failed"],
  ["info", "[Fri Jan 02 15:04:05.123456 2026] [mpm_event:notice] [pid 1] AH00489: configured"],
  ["warn", "2026-01-02T15:04:05.123456Z 0 [Warning] [MY-010068] [Server] CA certificate is self signed"],
  ["error", "2026-01-02 15:04:05.123 UTC [123] ERROR:  relation does not exist"],
  ["info", "2026-01-02 15:04:05.123 UTC [123] LOG:  database system is ready"],
  ["fatal", "fatal: not a git repository"],
  ["warn", "warning: unused variable"],
  ["error", "ld: error: undefined symbol"],
  ["error", "Jan  2 15:04:05 host app[1]: ERROR failed"],
  ["error", "<3>failed"],
  ["info", "<14>Jan  2 15:04:05 host app: started"],
  ["debug", "<7>details"],
  ["fatal", "<0>gone"],
  // No level, or a word of a sentence
  [undefined, ""],
  [undefined, " "],
  [undefined, "hello"],
  [undefined, "hello world, an ERROR: is in here"],
  [undefined, "error while loading shared libraries"],
  [undefined, "Information about errors"],
  [undefined, "errors: 3"],
  [undefined, "no errors"],
  [undefined, "[main] starting"],
  [undefined, "[my-error-handler] starting"],
  [undefined, "gunicorn.error is the name of a logger"],
  [undefined, "<html>"],
  [undefined, "<>"],
  [undefined, "<12345>x"],
  [undefined, '127.0.0.1 - - [02/Jan/2026:15:04:05 +0000] "GET /error HTTP/1.1" 500 0'],
  [undefined, "127.0.0.1:5000 - GET / 200"],
  [undefined, "3 ERROR lines follow"],
  ["error", "1767366245.123 ERROR failed"],
  [undefined, "192.168.10.11 ERROR"],
  [undefined, "--------"],
  [undefined, "{ garbage: ERROR }"],
  [undefined, "żółć ERROR"],
  [undefined, `[${"x".repeat(200)}] ERROR too far away`],
  [undefined, "ERRO"],
];

test("the level that a logging library wrote is found", () => {
  const wrong = LINES.filter(([level, line]) => levelOf(line) !== level);
  assert.deepEqual(
    wrong.map(([level, line]) => ({ line, level, found: levelOf(line) })),
    [],
  );
});

test("any bytes are accepted, and bytes after the line do not change the level", () => {
  const bytes = fc.oneof(
    fc.uint8Array({ maxLength: 200 }),
    fc
      .array(
        fc.constantFrom("ERROR", "[", "]", ":", " ", "2026-01-02", "=", "level", '"', "\u001b[3", "<", "3", ">", "W,"),
        {
          maxLength: 12,
        },
      )
      .map((words) => Buffer.from(words.join(""))),
  );
  fc.assert(
    fc.property(bytes, (line) => {
      const view = (tail: string) => {
        const all = Buffer.concat([line, Buffer.from(tail)]);
        return findLevel(new DataView(all.buffer, all.byteOffset, all.length), 0, line.length);
      };
      assert.equal(view("\n\0\0\0"), view("ERRO"));
    }),
    { numRuns: 5000 },
  );
});
