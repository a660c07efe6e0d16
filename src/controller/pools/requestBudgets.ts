/** How many requests each incarnation of a pool may serve, and which has served them. */
import type { Incarnation, Slot } from "../../core/identity.ts";
import { decideRequestBudget } from "../../core/policy/limits.ts";
import type { LimitsPolicy } from "../../core/spec.ts";

/** Part of its budget that a worker serves on before it is told of again: its replacement may have been given up. */
const TELL_AGAIN_RATIO = 0.1;

interface Budget {
  readonly incarnation: Incarnation;
  /** What it was decided by: a reload may have changed it since. */
  readonly limits: LimitsPolicy;
  /** Undefined is without end. */
  readonly requests: number | undefined;
  /** The total at which it is told of next. */
  readonly tellAt: number;
}

export class RequestBudgets {
  readonly #limits: () => LimitsPolicy;
  readonly #random: () => number;
  readonly #budgets = new Map<Slot, Budget>();

  /** `limits` are those of the pool at present; `random` gives 0 … 1. */
  constructor(limits: () => LimitsPolicy, random: () => number) {
    this.#limits = limits;
    this.#random = random;
  }

  /** Whether a worker that has served `total` requests is to be told of: its budget is used up. */
  isUsedUp(slot: Slot, incarnation: Incarnation, total: number): boolean {
    const budget = this.#budgetOf(slot, incarnation);
    if (budget.requests === undefined || total < budget.tellAt) return false;
    const tellAt = total + Math.max(1, Math.ceil(budget.requests * TELL_AGAIN_RATIO));
    this.#budgets.set(slot, { ...budget, tellAt });
    return true;
  }

  #budgetOf(slot: Slot, incarnation: Incarnation): Budget {
    const known = this.#budgets.get(slot);
    const limits = this.#limits();
    const isSame = known?.limits.requests === limits.requests && known?.limits.jitterRatio === limits.jitterRatio;
    if (known?.incarnation === incarnation && isSame) return known;
    const requests = decideRequestBudget(limits, this.#random());
    const budget = { incarnation, limits, requests, tellAt: requests ?? Number.POSITIVE_INFINITY };
    this.#budgets.set(slot, budget);
    return budget;
  }
}
