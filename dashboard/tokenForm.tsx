/** Asks for the token where the controller wants one, with its own words of why. */
import type { JSX } from "preact";
import { useRef } from "preact/hooks";
import type { Link } from "./session.ts";

interface Props {
  readonly link: Extract<Link, { kind: "refused" }>;
  readonly onToken: (token: string) => void;
}

export function TokenForm({ link, onToken }: Props): JSX.Element {
  const input = useRef<HTMLInputElement>(null);
  const submit = (event: Event) => {
    event.preventDefault();
    onToken(input.current?.value.trim() ?? "");
  };
  return (
    <main>
      <form class="token" onSubmit={submit}>
        <h2>Token</h2>
        <p class={link.hadToken ? "problem" : ""} role={link.hadToken ? "alert" : undefined}>
          The controller says: {link.message}.
        </p>
        <label>
          Token, the content of admin.token_file
          <input ref={input} type="password" autocomplete="off" pattern="\s*[!-~]*\s*" title="One word" />
        </label>
        <p class="hint">It is kept for this tab only, until the tab is closed. Empty tries without one.</p>
        <button type="submit" class="primary">
          Connect
        </button>
      </form>
    </main>
  );
}
