/** What monitoring tools can subscribe to without a reference to anything of ours. */

import { channel } from 'node:diagnostics_channel';
import type { MigrationEvent } from './types/migration';

const migrations = channel('mesh-daemon:migration');

/** Publishes a step of a move, if anybody listens. `nodeId` is the node that took it. */
export function publishMigration(nodeId: () => bigint, event: MigrationEvent): void {
  if (migrations.hasSubscribers) migrations.publish({ nodeId: nodeId(), ...event });
}
