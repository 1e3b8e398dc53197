/** Which class of error a wrong argument becomes, by the part of the interface it is given to. */

import { ChannelError, DaemonError, GroupError, IdentityError, MeshError, TokenError } from '../errors/classes';
import type { MeshDaemonError } from '../errors/classes';

/** Makes the error of a wrong argument. */
export type Refuse = (message: string, cause?: unknown) => MeshDaemonError;

function because(cause: unknown): { cause?: unknown } {
  return cause === undefined ? {} : { cause };
}

export const daemonArea: Refuse = (message, cause) =>
  new DaemonError(message, { code: 'ERR_DAEMON_INVALID_ARGUMENT', ...because(cause) });

export const meshArea: Refuse = (message, cause) =>
  new MeshError(message, { code: 'ERR_MESH_INVALID_ARGUMENT', ...because(cause) });

export const identityArea: Refuse = (message, cause) =>
  new IdentityError(message, { code: 'ERR_IDENTITY_INVALID_ARGUMENT', ...because(cause) });

export const tokenArea: Refuse = (message, cause) =>
  new TokenError(message, { kind: 'invalid_format', ...because(cause) });

export const channelArea: Refuse = (message, cause) =>
  new ChannelError(message, { code: 'ERR_CHANNEL_INVALID_ARGUMENT', ...because(cause) });

export const groupArea: Refuse = (message, cause) =>
  new GroupError(message, { kind: 'invalid-config', detail: message, ...because(cause) });
