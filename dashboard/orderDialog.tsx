/** Asks for confirmation: describes the effect, for a reload its plan, and shows the error of a refused request. */
import type { JSX } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import type { ReloadPlan } from "../src/admin/api.ts";
import { post, ROUTES } from "./client.ts";
import { consequenceOf, type Order } from "./orders.ts";

interface Props {
  readonly order: Order;
  /** @throws Refusal */
  readonly onConfirm: (replicas: number) => Promise<void>;
  readonly onClose: () => void;
}

export function OrderDialog({ order, onConfirm, onClose }: Props): JSX.Element {
  const dialog = useRef<HTMLDialogElement>(null);
  const [replicas, setReplicas] = useState(order.what === "scale" ? String(order.target.replicas) : "");
  const [plan, setPlan] = useState<ReloadPlan>();
  const [problem, setProblem] = useState("");
  const [isBusy, setBusy] = useState(false);

  const attempt = async (work: () => Promise<void>) => {
    setBusy(true);
    setProblem("");
    try {
      await work();
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    } finally {
      setBusy(false);
    }
  };
  useEffect(() => {
    dialog.current?.showModal();
    if (order.what === "reload")
      void attempt(async () => setPlan(await post<ReloadPlan>(ROUTES.reload, { dry_run: true })));
  }, []);
  // A dialog that closes itself returns the focus to the element that had it before.
  const close = () => dialog.current?.close();
  const confirm = (event: Event) => {
    event.preventDefault();
    void attempt(async () => {
      await onConfirm(Number(replicas));
      close();
    });
  };
  const hasNothing = order.what === "reload" && (plan === undefined || plan.changes.length === 0);
  return (
    <dialog ref={dialog} aria-labelledby="order-title" onClose={onClose}>
      <form onSubmit={confirm}>
        <h2 id="order-title">{order.title}</h2>
        <p>{consequenceOf(order)}</p>
        {order.what === "scale" && (
          <label>
            Replicas{" "}
            <input
              type="number"
              min="1"
              max="10000"
              required
              value={replicas}
              onInput={(event) => setReplicas(event.currentTarget.value)}
            />
          </label>
        )}
        {plan !== undefined && <Plan plan={plan} />}
        <p class="problem" role="alert">
          {problem}
        </p>
        <div class="buttons">
          <button type="button" onClick={close}>
            Cancel
          </button>
          <button type="submit" class={order.what === "stop" ? "danger" : "primary"} disabled={isBusy || hasNothing}>
            {isBusy ? "Sending…" : (order.title.split(" ")[0] ?? "")}
          </button>
        </div>
      </form>
    </dialog>
  );
}

function Plan({ plan: { changes, refused } }: { plan: ReloadPlan }): JSX.Element {
  return (
    <>
      {changes.length === 0 ? (
        <p>No changes.</p>
      ) : (
        <ul>
          {changes.map((change) => (
            <li key={change}>{change}</li>
          ))}
        </ul>
      )}
      {refused.length > 0 && (
        <>
          <p>Cannot be changed while the controller runs:</p>
          <ul>
            {refused.map(({ path, reason }) => (
              <li key={path}>
                <code>{path}</code>: {reason}
              </li>
            ))}
          </ul>
        </>
      )}
    </>
  );
}
