/** Moving every daemon of a runtime away. */

import type { Dispatcher } from './dispatcher';
import { native } from './binding';
import { migrationError } from './moves';
import type { DrainOptions, DrainReport } from './types/migration';
import { abortable, daemonArea, millis, options, signal as readSignal } from './validate/index';

/** What a drain was asked to keep to. */
export interface DrainLimits {
  readonly timeoutMs: number | undefined;
  readonly signal: AbortSignal | undefined;
}

export function readDrainOptions(given: DrainOptions | undefined): DrainLimits {
  const read = options(daemonArea, 'options', given, { timeoutMs: true, signal: true });
  return {
    timeoutMs: read.timeoutMs === undefined ? undefined : millis(daemonArea, 'options.timeoutMs', read.timeoutMs),
    signal: readSignal(daemonArea, 'options.signal', read.signal),
  };
}

/** Drains; what is under way when the signal stops the wait is given up where it still can be. */
export function drain(dispatcher: Dispatcher, { timeoutMs, signal }: DrainLimits): Promise<DrainReport[]> {
  let ticket = -1;
  return abortable(
    signal,
    () =>
      dispatcher.start(
        0n,
        (number) => {
          ticket = number;
          native.runtimeDrain(dispatcher.id, number, timeoutMs);
        },
        (work) =>
          (work.drained ?? []).map(({ failure, ...report }) =>
            failure === undefined ? report : { ...report, error: migrationError(dispatcher.explain(failure)) },
          ),
      ),
    () => {
      if (dispatcher.tickets.take(ticket) === undefined || dispatcher.closed) return;
      native.runtimeLeaveDrain(dispatcher.id, ticket);
      dispatcher.schedule();
    },
  );
}
