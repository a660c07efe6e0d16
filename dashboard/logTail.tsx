/** New log lines, streamed only while the user follows them. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { LogLine } from "../src/admin/api.ts";
import { follow, ROUTES } from "./client.ts";

const MAX_LINES = 500;
/** Minimum time between two updates, however fast lines arrive. */
const DRAW_MS = 200;
/** Longer lines are truncated, on this page only. */
const MAX_CHARACTERS = 2000;

interface NumberedLine extends LogLine {
  readonly id: number;
}

export function LogTail(): JSX.Element {
  const [isFollowing, setFollowing] = useState(false);
  const [lines, setLines] = useState<readonly NumberedLine[]>([]);
  const [problem, setProblem] = useState("");
  const [filter, setFilter] = useState("");
  const box = useRef<HTMLOListElement>(null);
  const serial = useRef(0);

  useEffect(() => {
    if (!isFollowing) return;
    const stop = new AbortController();
    let fresh: NumberedLine[] = [];
    const timer = setInterval(() => {
      if (fresh.length === 0) return;
      const added = fresh;
      fresh = [];
      setLines((all) => [...all, ...added].slice(-MAX_LINES));
    }, DRAW_MS);
    setProblem("");
    const end = (message: string) => {
      if (stop.signal.aborted) return;
      setProblem(message);
      setFollowing(false);
    };
    follow(ROUTES.logs, stop.signal, (events) => {
      for (const { name, data } of events) {
        const line: LogLine =
          name === "lost"
            ? { stream: "stderr", line: `(lines dropped because this page was too slow: ${data})` }
            : (JSON.parse(data) as LogLine);
        fresh.push({ ...line, line: line.line.slice(0, MAX_CHARACTERS), id: serial.current++ });
      }
      fresh = fresh.slice(-MAX_LINES);
    }).then(
      () => end("The controller closed the stream."),
      (error: unknown) => end(error instanceof Error ? error.message : String(error)),
    );
    return () => {
      stop.abort();
      clearInterval(timer);
    };
  }, [isFollowing]);

  const shown = filter === "" ? lines : lines.filter(({ line }) => line.includes(filter));
  useEffect(() => {
    const { current } = box;
    if (current !== null) current.scrollTop = current.scrollHeight;
  }, [lines]);
  return (
    <section class="card" aria-labelledby="logs">
      <div class="title">
        <h2 id="logs">Logs</h2>
        <span class="buttons">
          <input
            type="search"
            placeholder="Filter lines"
            aria-label="Filter lines"
            value={filter}
            onInput={(event) => setFilter(event.currentTarget.value)}
          />
          <button type="button" aria-pressed={isFollowing} onClick={() => setFollowing(!isFollowing)}>
            {isFollowing ? "Pause" : "Follow"}
          </button>
        </span>
      </div>
      <p class="problem" role="status">
        {problem}
      </p>
      {lines.length === 0 && (
        <p class="hint">{isFollowing ? "No new lines yet." : "Select Follow to stream new log lines."}</p>
      )}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a scrollable element must be reachable by keyboard */}
      <ol ref={box} class="lines logs" tabIndex={0} aria-label="Log lines, oldest first">
        {shown.map(({ id, stream, line }) => (
          <li key={id} class={stream}>
            {line}
          </li>
        ))}
      </ol>
    </section>
  );
}
