/**
 * Stateful daemons on an encrypted mesh of Node processes, that move live from one process to another.
 *
 * @packageDocumentation
 */

import { native } from './binding';

export { DaemonHandle } from './daemon';
export * from './errors/index';
export { delegateToken } from './delegate';
export { Identity, channelHash } from './identity';
export { setLogger } from './logger';
export type { LoggerOptions } from './logger';
export { MeshNode } from './mesh';
export { MigrationHandle } from './migration';
export { Revocation } from './revocation';
export { DaemonRuntime } from './runtime';
export { Token, TokenChain } from './token';
export type * from './types/index';

/** The version of the package and of its native code. */
export function version(): string {
  return native.version();
}
