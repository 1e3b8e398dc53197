/** Errors: the classes, their codes, and how native failures become instances. */

export * from './classes';
export type {
  BackpressureErrorCode,
  ChannelAuthErrorCode,
  ChannelErrorCode,
  DaemonErrorCode,
  ErrorCode,
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
