/**
 * The error classes.
 *
 * Every one is made like `new MeshError(message, { code, cause, address })` and may be extended. What the native part
 * reports becomes an instance of these in `from-native.ts`.
 */

import type { MigrationOutcome } from '../types/migration';
import { kindOfCode } from './codes';
import type {
  BackpressureErrorCode,
  ChannelAuthErrorCode,
  ChannelErrorCode,
  DaemonErrorCode,
  GroupErrorCode,
  GroupErrorKind,
  IdentityErrorCode,
  MeshDaemonErrorCode,
  MeshErrorCode,
  MigrationErrorCode,
  MigrationErrorKind,
  NotConnectedErrorCode,
  TokenErrorCode,
  TokenErrorKind,
} from './codes.generated';

/**
 * What the constructors of all error classes accept.
 *
 * @public
 */
export interface MeshDaemonErrorOptions<Code extends string = string> {
  /** Default: the one that fits the class (and `kind`). */
  code?: Code;
  /** What led to this error. */
  cause?: unknown;
}

/** Puts the fields that were given on the error; those that were not stay absent. */
function assign(error: Error, fields: Readonly<Record<string, unknown>>): void {
  for (const [name, value] of Object.entries(fields)) {
    if (value !== undefined) {
      Object.defineProperty(error, name, { value, enumerable: true, configurable: true, writable: true });
    }
  }
}

/** Sets `name` the way built-in errors do: on the prototype, so that a subclass may have its own. */
function named(errorClass: { readonly prototype: Error; readonly name: string }, name: string): void {
  Object.defineProperty(errorClass.prototype, 'name', { value: name, configurable: true, writable: true });
}

/** Upper case with underscores, as codes are written. */
function capitals(kind: string): string {
  return kind.toUpperCase().replaceAll('-', '_');
}

/**
 * The base of all errors of this package.
 *
 * @public
 */
export class MeshDaemonError extends Error {
  /** Always an `ERR_…` string. */
  declare readonly code: string;

  constructor(message: string, options: MeshDaemonErrorOptions = {}) {
    super(message, 'cause' in options ? { cause: options.cause } : undefined);
    assign(this, { code: options.code ?? ('ERR_MESH_DAEMON' satisfies MeshDaemonErrorCode) });
  }
}
named(MeshDaemonError, 'MeshDaemonError');

/**
 * What a {@link MeshError} carries.
 *
 * @public
 */
export interface MeshErrorOptions extends MeshDaemonErrorOptions<MeshErrorCode> {
  address?: string;
}

/**
 * A mesh node could not do what it was asked.
 *
 * @public
 */
export class MeshError extends MeshDaemonError {
  declare readonly code: MeshErrorCode;
  /** The address in question. */
  declare readonly address?: string;

  constructor(message: string, options: MeshErrorOptions = {}) {
    super(message, { ...options, code: options.code ?? 'ERR_MESH_INVALID_ARGUMENT' });
    assign(this, { address: options.address });
  }
}
named(MeshError, 'MeshError');

/**
 * What a {@link DaemonError} carries.
 *
 * @public
 */
export interface DaemonErrorOptions<Code extends string = DaemonErrorCode> extends MeshDaemonErrorOptions<Code> {
  executed?: 'no' | 'unknown';
}

/**
 * A daemon or its runtime could not do what it was asked. When the daemon's own code threw, `cause` is that very error,
 * or, from another node, one with its name, message and stack.
 *
 * @public
 */
export class DaemonError extends MeshDaemonError {
  declare readonly code: DaemonErrorCode | MigrationErrorCode | GroupErrorCode;
  /** With `ERR_DAEMON_PEER_LOST`, `ERR_DAEMON_MOVED_TOO_OFTEN`, and with `ERR_DAEMON_SHUTTING_DOWN` of an event that was on its way: whether the event may have run. */
  declare readonly executed?: 'no' | 'unknown';

  constructor(
    message: string,
    options: DaemonErrorOptions<DaemonErrorCode | MigrationErrorCode | GroupErrorCode> = {},
  ) {
    super(message, { ...options, code: options.code ?? 'ERR_DAEMON_PROCESS_FAILED' });
    assign(this, { executed: options.executed });
  }
}
named(DaemonError, 'DaemonError');

/**
 * What a {@link MigrationError} carries.
 *
 * @public
 */
export interface MigrationErrorOptions extends MeshDaemonErrorOptions<MigrationErrorCode> {
  kind?: MigrationErrorKind;
  outcome?: MigrationOutcome;
  attempts?: number;
  originHash?: bigint;
  nodeId?: bigint;
  size?: bigint;
  max?: bigint;
  detail?: string;
}

/**
 * A move failed; `outcome` says where the daemon is.
 *
 * @public
 */
export class MigrationError extends DaemonError {
  declare readonly code: MigrationErrorCode;
  declare readonly kind: MigrationErrorKind;
  /** Where the daemon is now. */
  declare readonly outcome: MigrationOutcome;
  /** How often a target that was not ready was asked. */
  declare readonly attempts?: number;
  declare readonly originHash?: bigint;
  declare readonly nodeId?: bigint;
  /** Bytes of the state. */
  declare readonly size?: bigint;
  /** Bytes that would have been accepted. */
  declare readonly max?: bigint;
  /** What the failing side said. */
  declare readonly detail?: string;

  constructor(message: string, options: MigrationErrorOptions = {}) {
    const kind = options.kind ?? (kindOfCode(options.code) as MigrationErrorKind | undefined) ?? 'state-failed';
    super(message, { ...options, code: options.code ?? (`ERR_MIGRATION_${capitals(kind)}` as MigrationErrorCode) });
    const { outcome = 'source', attempts, originHash, nodeId, size, max, detail } = options;
    assign(this, { kind, outcome, attempts, originHash, nodeId, size, max, detail });
  }
}
named(MigrationError, 'MigrationError');

/**
 * What a {@link GroupError} carries.
 *
 * Reserved: not used yet.
 *
 * @public
 */
export interface GroupErrorOptions extends MeshDaemonErrorOptions<GroupErrorCode> {
  kind?: GroupErrorKind;
  detail?: string;
  requestedKind?: string;
}

/**
 * A group could not do what it was asked.
 *
 * Reserved: nothing throws it yet, as there are no groups.
 *
 * @public
 */
export class GroupError extends DaemonError {
  declare readonly code: GroupErrorCode;
  declare readonly kind: GroupErrorKind;
  declare readonly detail?: string;
  /** The kind of daemon that has no factory. */
  declare readonly requestedKind?: string;

  constructor(message: string, options: GroupErrorOptions = {}) {
    const kind = options.kind ?? (kindOfCode(options.code) as GroupErrorKind | undefined) ?? 'daemon';
    super(message, { ...options, code: options.code ?? (`ERR_GROUP_${capitals(kind)}` as GroupErrorCode) });
    assign(this, { kind, detail: options.detail, requestedKind: options.requestedKind });
  }
}
named(GroupError, 'GroupError');

/**
 * Something is wrong with an identity, or it cannot sign.
 *
 * @public
 */
export class IdentityError extends MeshDaemonError {
  declare readonly code: IdentityErrorCode;

  constructor(message: string, options: MeshDaemonErrorOptions<IdentityErrorCode> = {}) {
    super(message, { ...options, code: options.code ?? 'ERR_IDENTITY_INVALID_ARGUMENT' });
  }
}
named(IdentityError, 'IdentityError');

/**
 * What a {@link TokenError} carries.
 *
 * @public
 */
export interface TokenErrorOptions extends MeshDaemonErrorOptions<TokenErrorCode> {
  kind?: TokenErrorKind;
}

/**
 * A token is not valid, or does not permit what was asked.
 *
 * @public
 */
export class TokenError extends MeshDaemonError {
  declare readonly code: TokenErrorCode;
  declare readonly kind: TokenErrorKind;

  constructor(message: string, options: TokenErrorOptions = {}) {
    const kind = options.kind ?? (kindOfCode(options.code) as TokenErrorKind | undefined) ?? 'invalid_format';
    super(message, { ...options, code: options.code ?? (`ERR_TOKEN_${capitals(kind)}` as TokenErrorCode) });
    assign(this, { kind });
  }
}
named(TokenError, 'TokenError');

/**
 * A channel could not do what it was asked.
 *
 * @public
 */
export class ChannelError extends MeshDaemonError {
  declare readonly code: ChannelErrorCode | ChannelAuthErrorCode;

  constructor(message: string, options: MeshDaemonErrorOptions<ChannelErrorCode | ChannelAuthErrorCode> = {}) {
    super(message, { ...options, code: options.code ?? 'ERR_CHANNEL_INVALID_ARGUMENT' });
  }
}
named(ChannelError, 'ChannelError');

/**
 * Why the publisher of a channel refused, as far as it says: no token, or one that does not permit this
 * (`not_authorized`), one whose time has not come, or is over, or one that was revoked.
 *
 * @public
 */
export type ChannelAuthErrorKind = Extract<TokenErrorKind, 'not_authorized' | 'not_yet_valid' | 'expired' | 'revoked'>;

/**
 * What a {@link ChannelAuthError} carries.
 *
 * @public
 */
export interface ChannelAuthErrorOptions extends MeshDaemonErrorOptions<ChannelAuthErrorCode> {
  kind?: ChannelAuthErrorKind;
}

/**
 * The publisher of a channel refused.
 *
 * @public
 */
export class ChannelAuthError extends ChannelError {
  declare readonly code: ChannelAuthErrorCode;
  declare readonly kind: ChannelAuthErrorKind;

  constructor(message: string, options: ChannelAuthErrorOptions = {}) {
    super(message, { ...options, code: options.code ?? 'ERR_CHANNEL_UNAUTHORIZED' });
    assign(this, { kind: options.kind ?? 'not_authorized' });
  }
}
named(ChannelAuthError, 'ChannelAuthError');

/**
 * A queue towards a peer is full; try again later.
 *
 * @public
 */
export class BackpressureError extends MeshDaemonError {
  declare readonly code: BackpressureErrorCode;

  constructor(message: string, options: MeshDaemonErrorOptions<BackpressureErrorCode> = {}) {
    super(message, { ...options, code: options.code ?? 'ERR_BACKPRESSURE' });
  }
}
named(BackpressureError, 'BackpressureError');

/**
 * There is no session with the peer.
 *
 * @public
 */
export class NotConnectedError extends MeshDaemonError {
  declare readonly code: NotConnectedErrorCode;

  constructor(message: string, options: MeshDaemonErrorOptions<NotConnectedErrorCode> = {}) {
    super(message, { ...options, code: options.code ?? 'ERR_NOT_CONNECTED' });
  }
}
named(NotConnectedError, 'NotConnectedError');
