/** A daemon of this environment, and the batch that it works on. */

import { Event, type Context, type ContextDaemon, type ContextHost } from './daemon-event';
import type { Outcome } from './daemon-outputs';
import { EVENT, HEADER, type Block } from './runtime-scratch';
import type { MeshDaemon } from './types/daemon';

/** Takes what a promise came to. */
export interface Settled {
  readonly value: (value: unknown) => void;
  readonly reason: (thrown: unknown) => void;
}

/** A batch of events, of which some have run. */
export class Batch {
  /** Events that ran and were not reported. */
  outcomes: Outcome[] = [];
  /** How many were reported. */
  reported = 0;
  /** The one that runs, or runs next. */
  next = 0;
  /** A promise is waited for. */
  waiting = false;
  /** Whose event that is. */
  context: Context | undefined;
  /** What it settles with goes here; one pair for all events, of which one is waited for at a time. */
  settled: Settled | undefined;

  constructor(
    readonly id: number,
    /** Becomes less when events are given back. */
    public count: number,
    private readonly block: Block | null,
    /** The ticket of a direct event. */
    private readonly ticket: number,
    private readonly floats: Float64Array | null,
  ) {}

  event(index: number): Event {
    return new Event(this.block, index);
  }

  /** Who waits in this environment; negative for nobody. */
  ticketAt(index: number): number {
    return this.floats === null ? this.ticket : (this.floats[(HEADER + index * EVENT) / 8 + 5] ?? -1);
  }
}

/** A daemon. */
export class DaemonRecord implements ContextDaemon {
  batch: Batch | undefined;
  context: Context | undefined;
  /** An event runs on its caller's stack. */
  running = false;
  /** The native part takes it for running until it is told otherwise. */
  held = false;
  /** So many more events may run directly without asking. */
  lease = 0;
  /** What `snapshot` returned, while it is read. */
  state: Uint8Array | undefined;
  stateLength = 0;
  /** What its own code threw last, outside of events: the cause of the error that follows. */
  thrown: { readonly value: unknown } | undefined;
  /** Whether its state is being taken, or could not be: without it, it is no daemon yet. */
  restoring = false;
  /** Events of its contexts that are on their way: not accepted, or, of a call, not answered. */
  sent = 0;
  /** Called when there are none. */
  hush: (() => void) | undefined;
  /** It is not here any more. */
  gone = false;

  constructor(
    readonly host: ContextHost,
    readonly slot: number,
    readonly generation: number,
    readonly originHash: bigint,
    readonly entityId: Buffer,
    readonly kind: string,
    readonly instance: MeshDaemon,
  ) {}

  arrived(): void {
    this.sent -= 1;
    if (this.sent > 0) return;
    const { hush } = this;
    this.hush = undefined;
    hush?.();
  }
}
