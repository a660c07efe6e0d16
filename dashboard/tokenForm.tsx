/** Asks for the token if the controller requires one, and shows the reason. */
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
          Access denied: {link.message}.
        </p>
        <label>
          Token (content of admin.token_file)
          <input ref={input} type="password" autocomplete="off" pattern="\s*[!-~]*\s*" title="A token without spaces" />
        </label>
        <p class="hint">
          This tab keeps the token until you close it. Leave the field empty to connect without a token.
        </p>
        <button type="submit" class="primary">
          Connect
        </button>
      </form>
    </main>
  );
}
