/** Bringing daemons to life. */

import { native } from './binding';
import { DaemonHandle, internal } from './daemon';
import type { Dispatcher } from './dispatcher';
import { faultOfDaemon } from './dispatcher-life';
import type { IdentityHandle } from './handles';
import type { Identity } from './identity';
import { readHostConfig } from './runtime-options';
import type { DaemonRuntime } from './runtime';
import type { DaemonFactory, MeshDaemon } from './types/daemon';
import type { DaemonInstanceConfig } from './types/runtime';
import { callable, daemonArea, name } from './validate/index';

/** Where a daemon is to live. */
export interface Nursery {
  readonly runtime: DaemonRuntime;
  /** Gives the dispatcher, or throws when the runtime is shut down. */
  readonly live: () => Dispatcher;
}

/** Who is to live, and with which state, checked. */
export interface Owner {
  readonly identity: Identity;
  /** What that identity signs with. */
  readonly key: IdentityHandle;
  readonly snapshot?: Uint8Array;
}

/** What is to live, checked. */
export interface Birth extends Owner {
  readonly kind: string | undefined;
  readonly config: ReturnType<typeof readHostConfig>;
  /** Without one, the factory of the kind makes it. */
  readonly daemon?: MeshDaemon;
}

/** Spawns a daemon. */
export async function spawn({ runtime, live }: Nursery, birth: Birth): Promise<DaemonHandle> {
  const { kind, identity, key, snapshot, config, daemon } = birth;
  const dispatcher = live();
  const { originHash, entityId } = identity;
  return await dispatcher.start(
    originHash,
    (ticket) => {
      native.runtimeSpawn(dispatcher.id, ticket, kind, key, config, snapshot, daemon !== undefined);
    },
    ({ slot = 0, generation = 0 }) => {
      const place = { live, host: dispatcher, slot, generation, originHash, entityId };
      return new DaemonHandle(internal, runtime, place);
    },
    { daemon },
  );
}

/** Spawns a daemon with a ready instance. */
export async function spawnInstance(
  nursery: Nursery,
  owner: Owner,
  daemon: MeshDaemon,
  config: DaemonInstanceConfig | undefined,
  factory: DaemonFactory | undefined,
): Promise<DaemonHandle> {
  const fault = faultOfDaemon(daemon);
  if (fault !== null) throw daemonArea(`daemon must be ${fault}`);
  const host = readHostConfig(config, true);
  if (factory !== undefined) callable(daemonArea, 'factory', factory);
  const kind = host.kind ?? (daemon.name === undefined ? undefined : name(daemonArea, 'daemon.name', daemon.name));
  const handle = await spawn(nursery, { ...owner, kind, config: host, daemon });
  // The first factory of a kind serves for all that follow.
  if (factory !== undefined && kind !== undefined && !nursery.live().life.factories.has(kind)) {
    nursery.runtime.registerFactory(kind, factory);
  }
  return handle;
}
