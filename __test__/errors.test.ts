// Error classes: extensible, `instanceof` in Jest's realm too, codes and kinds from one table.

import * as api from 'mesh-daemon';
import {
  BackpressureError,
  ChannelAuthError,
  ChannelError,
  DaemonError,
  GroupError,
  Identity,
  IdentityError,
  MeshDaemonError,
  MeshError,
  MigrationError,
  NotConnectedError,
  TokenError,
} from 'mesh-daemon';

/** Runs something that throws, and gives back what it threw. */
function thrown(run: () => unknown): unknown {
  try {
    run();
  } catch (error) {
    return error;
  }
  throw new Error('nothing was thrown');
}

describe('error classes', () => {
  test.each([
    [MeshDaemonError, Error, 'ERR_MESH_DAEMON'],
    [MeshError, MeshDaemonError, 'ERR_MESH_INVALID_ARGUMENT'],
    [DaemonError, MeshDaemonError, 'ERR_DAEMON_PROCESS_FAILED'],
    [MigrationError, DaemonError, 'ERR_MIGRATION_STATE_FAILED'],
    [GroupError, DaemonError, 'ERR_GROUP_DAEMON'],
    [IdentityError, MeshDaemonError, 'ERR_IDENTITY_INVALID_ARGUMENT'],
    [TokenError, MeshDaemonError, 'ERR_TOKEN_INVALID_FORMAT'],
    [ChannelError, MeshDaemonError, 'ERR_CHANNEL_INVALID_ARGUMENT'],
    [ChannelAuthError, ChannelError, 'ERR_CHANNEL_UNAUTHORIZED'],
    [BackpressureError, MeshDaemonError, 'ERR_BACKPRESSURE'],
    [NotConnectedError, MeshDaemonError, 'ERR_NOT_CONNECTED'],
  ])('%p is a runtime class with a parent, a name and a default code (requirement 132)', (ErrorClass, Parent, code) => {
    const error = new ErrorClass('words');
    expect(error).toBeInstanceOf(ErrorClass);
    expect(error).toBeInstanceOf(Parent);
    expect(error).toBeInstanceOf(Error);
    expect(error).toMatchObject({ name: ErrorClass.name, message: 'words', code });
    expect(error.stack).toContain('errors.test.ts');
    expect(Object.keys(error)).not.toContain('name');
    expect('cause' in error).toBe(false);
  });

  test('constructors take code, cause and the fields of the class', () => {
    const cause = new TypeError('inner');
    expect(new MeshError('m', { code: 'ERR_MESH_UNREACHABLE', cause, address: 'a:1' })).toMatchObject({
      code: 'ERR_MESH_UNREACHABLE',
      cause,
      address: 'a:1',
    });
    expect(new DaemonError('m', { code: 'ERR_DAEMON_PEER_LOST', executed: 'unknown' })).toMatchObject({
      code: 'ERR_DAEMON_PEER_LOST',
      executed: 'unknown',
    });
    expect(new GroupError('m', { kind: 'factory-not-found', requestedKind: 'k', detail: 'd' })).toMatchObject({
      code: 'ERR_GROUP_FACTORY_NOT_FOUND',
      kind: 'factory-not-found',
      requestedKind: 'k',
      detail: 'd',
    });
    expect(new ChannelAuthError('m').kind).toBe('not_authorized');
    expect(new ChannelAuthError('m', { kind: 'revoked' })).toMatchObject({
      code: 'ERR_CHANNEL_UNAUTHORIZED',
      kind: 'revoked',
    });
    expect(Object.keys(new MeshError('m'))).toEqual(['code']);
  });

  test('kind and code of a migration error imply each other', () => {
    expect(new MigrationError('m', { kind: 'not-ready-timeout', attempts: 3, outcome: 'source' })).toMatchObject({
      code: 'ERR_MIGRATION_NOT_READY_TIMEOUT',
      kind: 'not-ready-timeout',
      attempts: 3,
      outcome: 'source',
    });
    const lost = new MigrationError('m', { code: 'ERR_MIGRATION_PEER_LOST', outcome: 'unknown', nodeId: 7n });
    expect(lost).toMatchObject({ kind: 'peer-lost', outcome: 'unknown', nodeId: 7n });
    expect(new TokenError('m', { kind: 'ttl_too_long' }).code).toBe('ERR_TOKEN_TTL_TOO_LONG');
  });

  test('a user may extend them', () => {
    class Mine extends DaemonError {
      override readonly name = 'Mine';
    }
    const error = new Mine('mine', { cause: 1 });
    expect(error).toBeInstanceOf(DaemonError);
    expect(error).toMatchObject({ name: 'Mine', code: 'ERR_DAEMON_PROCESS_FAILED', cause: 1 });
    expect(String(error)).toBe('Mine: mine');
  });
});

test('a native failure is an instance of its class, with the stack of the caller', () => {
  const publicOnly = Identity.publicOnly(Identity.generate().entityId);
  const error = thrown(() => publicOnly.sign(Buffer.from('x')));
  expect(error).toBeInstanceOf(IdentityError);
  expect(error).toMatchObject({ code: 'ERR_IDENTITY_READ_ONLY', name: 'IdentityError' });
  expect((error as Error).stack).toContain('errors.test.ts');
});

test('internals are not exported (requirement 136)', () => {
  for (const name of ['native', 'errorFromNative', 'ERROR_TABLE', 'operation', 'hold', 'Emitter', 'identityHandle']) {
    expect(api).not.toHaveProperty(name);
  }
});
