/** What the workers write, from the moment on when somebody wants to see it. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { LogLine } from "../src/admin/api.ts";
import { follow, ROUTES } from "./client.ts";

const MAX_LINES = 500;
/** Lines are drawn so often at most, however fast they come. */
const DRAW_MS = 200;
/** What is longer is cut on this page only. */
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
            ? { stream: "stderr", line: `(lines are lost, this page was too slow: ${data})` }
            : (JSON.parse(data) as LogLine);
        fresh.push({ ...line, line: line.line.slice(0, MAX_CHARACTERS), id: serial.current++ });
      }
      fresh = fresh.slice(-MAX_LINES);
    }).then(
      () => end("The controller has ended the stream."),
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
            placeholder="Only lines with"
            aria-label="Only lines with"
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
        <p class="hint">{isFollowing ? "Nothing was written yet." : "Follow shows what workers write from then on."}</p>
      )}
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: what scrolls must be reached by keyboard */}
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
