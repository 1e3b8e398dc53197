/** Log records of the native part, handed to a function of the user's. */

import { native } from './binding';
import { listen, unlisten } from './handles-in-use';
import { onNotice } from './notices';
import type { Logger, LogLevel } from './types/values';
import { callable, choice, daemonArea, options } from './validate/index';

/**
 * Options of {@link setLogger}.
 *
 * @public
 */
export interface LoggerOptions {
  /** The least urgent level that is passed on. Default `info`. */
  level?: LogLevel;
}

let logger: Logger | null = null;

onNotice('line', (line) => {
  logger?.(line);
});

/**
 * Passes log records of the native part to `fn`, or to nobody with `null`, which is how it starts. There is one logger per
 * JavaScript environment; it hears about all of the process. Records are dropped, and counted, when `fn` cannot keep up.
 *
 * @public
 */
export function setLogger(fn: Logger | null, loggerOptions?: LoggerOptions): void {
  if (fn !== null) callable(daemonArea, 'fn', fn);
  const read = options(daemonArea, 'options', loggerOptions, { level: true });
  const { level: wanted = 'info' } = read;
  const level = choice(daemonArea, 'options.level', wanted, ['error', 'warn', 'info', 'debug', 'trace']);
  if (logger === null && fn !== null) listen();
  if (logger !== null && fn === null) unlisten();
  logger = fn;
  native.listenToLog(fn === null ? undefined : level);
}
