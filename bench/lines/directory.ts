// The directory of a mesh of eight members: how long it takes until daemons that were just spawned are found from the other
// members, and what their addresses cost there.

import { randomBytes } from 'node:crypto';
import type { DaemonRuntime, Identity } from 'mesh-daemon';
import { type Child } from '../child';
import { Echo, local } from '../local';
import { check, type Benchmark } from '../measure';
import { MEMBERS, identities, locateAll, startMembers } from '../members';
import { reference } from '../reference';

const DAEMONS = 10_000;
/** Spawned before bytes are counted, so that the others do not pay for what all share. */
const FIRST = 500;
/** Three members keep an address, as two ids of 8 bytes; its host, which may be one of the three, is not counted. */
const BARE_BYTES = (3 * MEMBERS * 16) / (MEMBERS + 1);

export const convergence: Benchmark = {
  name: '18 10 000 spawns, until each is found from another member',
  reference: 'the same on a lone node, found there',
  limit: null,
  start: async () => {
    const { runtime, members, end } = await joined();
    const lone = await local();
    let round = 0;
    return {
      unit: 'ms',
      round: async () => {
        round += 1;
        const keys = identities(`round-${round}`, DAEMONS);
        await told(members, `expect round-${round} ${DAEMONS}`);
        const origins = keys.map(({ originHash }) => originHash);
        return {
          ours: await converge(runtime, keys, () => told(members, `locate ${runtime.mesh.nodeId()}`)),
          reference: await converge(lone.runtime, keys, () => locateAll([lone.runtime], origins, lone.mesh.nodeId())),
        };
      },
      end: async () => {
        await end();
        await lone.end();
      },
    };
  },
};

export const directoryBytes: Benchmark = {
  name: '19 an address in the directory, 10 000 daemons',
  reference: 'the bare ids',
  limit: null,
  missing: () => (reference.allocatedBytes() === null ? 'allocated bytes are counted with glibc only' : null),
  start: () =>
    Promise.resolve({
      unit: 'B',
      // Each sample has new members: tables keep their room when they are emptied.
      round: async () => {
        const { runtime, members, end } = await joined();
        await spawnAll(runtime, identities('first', FIRST));
        const before = Number(await members.ask('bytes'));
        await spawnAll(runtime, identities('daemon', DAEMONS));
        const bytes = Number(await members.ask('bytes')) - before;
        await end();
        return { ours: bytes / DAEMONS, reference: BARE_BYTES };
      },
    }),
};

/** A node here, and the other members in another process. */
async function joined() {
  const psk = randomBytes(32).toString('hex');
  const { mesh, runtime, end } = await local(psk);
  const members = await startMembers(mesh, psk);
  check(mesh.peerCount() === MEMBERS, 'all are connected');
  return {
    runtime,
    members,
    end: async () => {
      await members.end();
      await end();
    },
  };
}

/** The time until all are found; then they are stopped. */
async function converge(runtime: DaemonRuntime, keys: readonly Identity[], find: () => Promise<void>) {
  const start = performance.now();
  await spawnAll(runtime, keys);
  await find();
  const ms = performance.now() - start;
  await Promise.all(keys.map(({ originHash }) => runtime.stop(originHash)));
  return ms;
}

async function spawnAll(runtime: DaemonRuntime, keys: readonly Identity[]): Promise<void> {
  await Promise.all(keys.map((key) => runtime.spawnWithDaemon(key, new Echo())));
}

async function told(members: Child, order: string): Promise<void> {
  check((await members.ask(order)) === 'done', 'the members did what they were told');
}
