/** The latest events, newest first. */
import type { JSX } from "preact";
import { useState } from "preact/hooks";
import type { EventRecord } from "../src/admin/api.ts";
import { clockTime } from "./format.ts";

const SHOWN = 100;
const LEVELS = ["debug", "info", "warn", "error"] as const;

export function EventList(props: { events: readonly EventRecord[]; problem: string }): JSX.Element {
  const { events, problem } = props;
  const [least, setLeast] = useState<(typeof LEVELS)[number]>("debug");
  const shown = events
    .filter(({ level }) => LEVELS.indexOf(level) >= LEVELS.indexOf(least))
    .slice(-SHOWN)
    .reverse();
  return (
    <section class="card" aria-labelledby="events">
      <div class="title">
        <h2 id="events">Events</h2>
        <label class="buttons">
          Minimum level{" "}
          <select
            value={least}
            onChange={(event) => setLeast(LEVELS.find((level) => level === event.currentTarget.value) ?? "debug")}
          >
            {LEVELS.map((level) => (
              <option key={level} value={level}>
                {level}
              </option>
            ))}
          </select>
        </label>
      </div>
      <p class="problem" role="status">
        {problem}
      </p>
      {/* biome-ignore lint/a11y/noNoninteractiveTabindex: a scrollable element must be reachable by keyboard */}
      <ol class="lines" tabIndex={0} aria-label="Events, newest first">
        {shown.map(({ seq, time, level, message }) => (
          <li key={seq} class={level}>
            <time dateTime={time}>{clockTime(time)}</time> <span class="level">{level}</span> <span>{message}</span>
          </li>
        ))}
      </ol>
    </section>
  );
}
