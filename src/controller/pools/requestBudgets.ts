/** Request budgets: how many requests each incarnation of a pool may serve, and whether it has served them. */
import type { Incarnation, Slot } from "../../core/identity.ts";
import { decideRequestBudget } from "../../core/policy/limits.ts";
import type { LimitsPolicy } from "../../core/spec.ts";

/** Share of its budget after which a worker is reported again, because its replacement may have failed. */
const REPORT_AGAIN_RATIO = 0.1;

interface Budget {
  readonly incarnation: Incarnation;
  /** The limits that determined the budget; a reload may have changed them since. */
  readonly limits: LimitsPolicy;
  /** undefined if unlimited. */
  readonly requests: number | undefined;
  /** Total number of requests at which the worker is reported next. */
  readonly reportAt: number;
}

export class RequestBudgets {
  readonly #limits: () => LimitsPolicy;
  readonly #random: () => number;
  readonly #budgets = new Map<Slot, Budget>();

  /** `limits` returns the pool's current limits; `random` returns 0 … 1. */
  constructor(limits: () => LimitsPolicy, random: () => number) {
    this.#limits = limits;
    this.#random = random;
  }

  /** Whether a worker that has served `total` requests has used up its budget and must be reported. */
  isUsedUp(slot: Slot, incarnation: Incarnation, total: number): boolean {
    const budget = this.#budgetOf(slot, incarnation);
    if (budget.requests === undefined || total < budget.reportAt) return false;
    const reportAt = total + Math.max(1, Math.ceil(budget.requests * REPORT_AGAIN_RATIO));
    this.#budgets.set(slot, { ...budget, reportAt });
    return true;
  }

  #budgetOf(slot: Slot, incarnation: Incarnation): Budget {
    const known = this.#budgets.get(slot);
    const limits = this.#limits();
    const isSame = known?.limits.requests === limits.requests && known?.limits.jitterRatio === limits.jitterRatio;
    if (known?.incarnation === incarnation && isSame) return known;
    const requests = decideRequestBudget(limits, this.#random());
    const budget = { incarnation, limits, requests, reportAt: requests ?? Number.POSITIVE_INFINITY };
    this.#budgets.set(slot, budget);
    return budget;
  }
}
