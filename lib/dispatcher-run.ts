/** Runs events that come from a mailbox, and reports what came of them. */

import { native } from './binding';
import { abort, Context, end, Event } from './daemon-event';
import { failedBy, Failed, isThenable, outcomeOf, type Outcome } from './daemon-outputs';
import type { Life } from './dispatcher-life';
import { Batch, type DaemonRecord, type Settled } from './dispatcher-record';
import { CAUSAL, type Tickets, type Waiter } from './dispatcher-tickets';
import { hasTime, nextTurn, Stride } from './dispatcher-turn';
import { DaemonError } from './errors/index';
import { errorFromNative } from './errors/from-native';
import type { LocalOutcome, ThrownRecord } from './native';
import type { Block, Scratch } from './runtime-scratch';

/** What is given back of a batch. */
const CONTINUES = 0;
const GIVEN_BACK = 1;
const GIVEN_BACK_BUT_RUNNING = 2;

const NOTHING_LARGE: readonly Buffer[] = [];
const NO_CHANNELS: readonly string[] = [];

interface Host {
  readonly id: number;
  readonly scratch: Scratch;
  readonly tickets: Tickets;
  readonly life: Life;
  readonly closed: boolean;
  schedule(): void;
}

export class Runner {
  readonly #host: Host;
  /** Batches with outcomes that are reported at the end of the turn at the latest. */
  readonly #unreported = new Set<DaemonRecord>();
  #reportArmed = false;

  constructor(host: Host) {
    this.#host = host;
  }

  /** A daemon is gone. */
  forget(record: DaemonRecord): void {
    this.#unreported.delete(record);
  }

  /** Runs the batch that is in the inbox. */
  take(): void {
    const [slot = 0, generation = 0, id = 0, count = 0, end = 0, rest = 0] = this.#host.scratch.inWords;
    let block: Block;
    if (rest === 0) {
      block = this.#host.scratch.block(end, NOTHING_LARGE, NO_CHANNELS);
    } else {
      const { payloads, channels } = native.runtimeBatchRest(this.#host.id);
      block = this.#host.scratch.block(end, payloads, channels);
    }
    const record = this.#host.life.find({ slot, generation });
    // A record goes only with `retire`, behind which the engine hands nothing out.
    if (record === undefined) return;
    record.batch = new Batch(id, count, block, -1, new Float64Array(block.buffer));
    this.#run(record, record.batch);
  }

  #run(record: DaemonRecord, batch: Batch): void {
    const stride = new Stride();
    while (batch.next < batch.count) {
      if (this.#isGivenUp(batch)) {
        // The engine was told when they gave it up: it hands out again what stands behind it, without this one.
        this.giveBack(record, false);
        return;
      }
      const context = new Context(record);
      record.context = context;
      let returned: unknown;
      let outcome: Outcome | undefined;
      try {
        returned = record.instance.process(batch.event(batch.next), context);
        if (isThenable(returned)) {
          this.await(record, batch, context, returned);
          return;
        }
        outcome = outcomeOf(returned);
      } catch (thrown) {
        outcome = failedBy(thrown);
      }
      end(context);
      batch.outcomes.push(outcome);
      batch.next += 1;
      if (record.gone || record.batch !== batch) return;
      if (batch.next < batch.count && !stride.goesOn()) {
        this.#report(record, batch, CONTINUES);
        this.#continueLater(record, batch);
        return;
      }
    }
    this.#report(record, batch, CONTINUES);
  }

  /**
   * Whether nobody waits any more for the event that is next. One that the engine keeps all the same, because it is handed over,
   * comes first in its next batch, and runs.
   */
  #isGivenUp(batch: Batch): boolean {
    if (batch.next === 0) return false;
    const ticket = batch.ticketAt(batch.next);
    return ticket >= 0 && this.#host.tickets.get(ticket) === undefined;
  }

  #continueLater(record: DaemonRecord, batch: Batch): void {
    nextTurn(() => {
      if (!record.gone && record.batch === batch && !batch.waiting) this.#run(record, batch);
    });
  }

  /** Waits for one event's promise; only its daemon waits with it. */
  await(record: DaemonRecord, batch: Batch, context: Context, promise: PromiseLike<unknown>): void {
    batch.waiting = true;
    batch.context = context;
    if (batch.outcomes.length > 0) this.#reportSoon(record);
    batch.settled ??= this.#settled(record, batch);
    const { value, reason } = batch.settled;
    try {
      Promise.resolve(promise).then(value, reason);
    } catch (thrown) {
      // A promise whose `constructor` or `then` is the user's own. Nobody was told yet that the event is under way.
      queueMicrotask(() => {
        reason(thrown);
      });
    }
  }

  #settled(record: DaemonRecord, batch: Batch): Settled {
    return {
      value: (value) => {
        let outcome: Outcome;
        try {
          outcome = outcomeOf(value);
        } catch (thrown) {
          outcome = failedBy(thrown);
        }
        this.#settle(record, batch, outcome);
      },
      reason: (thrown) => {
        this.#settle(record, batch, failedBy(thrown));
      },
    };
  }

  #settle(record: DaemonRecord, batch: Batch, outcome: Outcome): void {
    if (batch.context !== undefined) end(batch.context);
    batch.waiting = false;
    if (record.gone || record.batch !== batch || this.#host.closed) return;
    batch.outcomes.push(outcome);
    batch.next += 1;
    if (batch.next === batch.count) {
      this.#report(record, batch, CONTINUES);
    } else if (hasTime()) {
      this.#run(record, batch);
    } else {
      this.#report(record, batch, CONTINUES);
      this.#continueLater(record, batch);
    }
  }

  #reportSoon(record: DaemonRecord): void {
    this.#unreported.add(record);
    if (this.#reportArmed) return;
    this.#reportArmed = true;
    nextTurn(() => {
      this.#reportArmed = false;
      for (const late of this.#unreported) {
        if (late.batch !== undefined && !late.gone && late.batch.outcomes.length > 0) {
          this.#report(late, late.batch, CONTINUES);
        }
      }
      this.#unreported.clear();
    });
  }

  /** What has not begun goes back; with `timedOut` the running event's context ends too. */
  giveBack(record: DaemonRecord, timedOut: boolean): void {
    const batch = record.batch;
    if (timedOut && record.context !== undefined) {
      const message = 'the callback timeout passed';
      abort(record.context, new DaemonError(message, { code: 'ERR_DAEMON_CALLBACK_TIMEOUT' }));
    }
    if (batch === undefined) return;
    if (batch.waiting) {
      batch.count = batch.next + 1;
      this.#report(record, batch, GIVEN_BACK_BUT_RUNNING);
    } else {
      batch.count = batch.next;
      this.#report(record, batch, GIVEN_BACK);
    }
  }

  /** Tells the engine what events of a batch came to, and their callers here. */
  #report(record: DaemonRecord, batch: Batch, rest: number): void {
    const outcomes = batch.outcomes;
    batch.outcomes = [];
    if (batch.next >= batch.count && !batch.waiting && record.batch === batch) record.batch = undefined;
    if (this.#host.closed) return;
    const { scratch, tickets } = this.#host;
    let from = 0;
    do {
      scratch.begin();
      let failures: ThrownRecord[] | undefined;
      let locals = 0;
      let links = false;
      let to = from;
      for (; to < outcomes.length; to += 1) {
        const outcome = outcomes[to];
        if (outcome === undefined) break;
        if (outcome instanceof Failed) {
          if (!scratch.fits(NOTHING_LARGE)) break;
          scratch.failed();
          (failures ??= []).push(outcome.record);
        } else {
          if (to > from && !scratch.fits(outcome)) break;
          scratch.outputs(outcome);
        }
        const ticket = batch.ticketAt(batch.reported + to);
        if (ticket >= 0) {
          locals += 1;
          links ||= tickets.get(ticket)?.shape === CAUSAL;
        }
      }
      const last = to === outcomes.length;
      scratch.report(record.slot, record.generation, batch.id, to - from, last ? rest : CONTINUES, locals, links);
      const told = native.runtimeRan(this.#host.id, scratch.large, failures);
      this.#settleLocals(batch, outcomes, from, to, told);
      from = to;
    } while (from < outcomes.length);
    batch.reported += outcomes.length;
    this.#host.schedule();
  }

  #settleLocals(
    batch: Batch,
    outcomes: readonly Outcome[],
    from: number,
    to: number,
    told: readonly LocalOutcome[] | null,
  ): void {
    const byTicket = told === null ? undefined : new Map(told.map((one) => [one.ticket, one]));
    for (let index = from; index < to; index += 1) {
      const ticket = batch.ticketAt(batch.reported + index);
      if (ticket < 0) continue;
      const one = byTicket?.get(ticket);
      // Whom the engine does not name was told something else, or is.
      if (byTicket !== undefined && one === undefined) continue;
      const waiter = this.#host.tickets.take(ticket);
      if (waiter === undefined) continue;
      const outcome = outcomes[index] ?? [];
      if (outcome instanceof Failed) waiter.reject(outcome.error);
      else if (one?.failure !== undefined) waiter.reject(errorFromNative(one.failure));
      else resolveOutputs(waiter, outcome, one?.links);
    }
  }
}

/** Gives a caller the outputs, in the shape it wants. */
export function resolveOutputs(waiter: Waiter, outputs: Buffer[], links: BigUint64Array | null | undefined): void {
  const resolve = waiter.resolve as (value: unknown) => void;
  if (waiter.shape !== CAUSAL) resolve(outputs);
  else
    resolve(
      outputs.map((output, index) => Event.ofOutput(links ?? new BigUint64Array(4 * outputs.length), index, output)),
    );
}
