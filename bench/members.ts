// Another process with members of a mesh that keep the addresses of daemons that live elsewhere.

import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { DaemonRuntime, Identity, MeshNode } from 'mesh-daemon';
import { obey, run, startChild, type Child } from './child';
import { check } from './measure';
import { reference } from './reference';

/** Members in the other process. */
export const MEMBERS = 7;
/** Questions that are open at a time. */
const OPEN = 1000;

/** Starts the process; all its members, and the node that they join, are connected to each other. */
export async function startMembers(mesh: MeshNode, psk: string): Promise<Child> {
  const child = startChild(join(__dirname, 'members.js'), psk, mesh.localAddr());
  check((await child.next()) === 'joined', 'the members know each other');
  return child;
}

/** The same identities in both processes. */
export function identities(seed: string, count: number): Identity[] {
  return Array.from({ length: count }, (_, i) =>
    Identity.fromSeed(createHash('sha256').update(`${seed} ${i}`).digest()),
  );
}

/** Asks for every address, each of the runtimes for some, until its host is known. */
export async function locateAll(runtimes: readonly DaemonRuntime[], origins: readonly bigint[], host: bigint) {
  for (let first = 0; first < origins.length; first += OPEN) {
    let open = origins.slice(first, first + OPEN);
    while (open.length > 0) {
      const found = await Promise.all(
        open.map(async (origin, i) => (await runtimes[i % runtimes.length]?.locate(origin)) ?? null),
      );
      open = open.filter((_, i) => found[i] !== host);
    }
  }
}

/** Orders: `expect SEED COUNT`, then `locate HOST` finds them all; `bytes` tells what is allocated. */
async function main(psk: string, seed: string): Promise<void> {
  const nodes: MeshNode[] = [];
  const runtimes: DaemonRuntime[] = [];
  for (let i = 0; i < MEMBERS; i += 1) {
    const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk, seeds: [seed] });
    const runtime = DaemonRuntime.create(mesh);
    await mesh.start();
    runtime.start();
    nodes.push(mesh);
    runtimes.push(runtime);
  }
  // Members dial each other by themselves.
  while (nodes.some((mesh) => mesh.peerCount() < MEMBERS)) await new Promise((resolve) => setTimeout(resolve, 20));
  console.log('joined');

  let origins: bigint[] = [];
  await obey(async (line) => {
    const [order, first = '', second = ''] = line.split(' ');
    if (order === 'expect') origins = identities(first, Number(second)).map(({ originHash }) => originHash);
    else if (order === 'locate') await locateAll(runtimes, origins, BigInt(first));
    else {
      if (globalThis.gc === undefined) throw new Error('this process cannot collect its garbage');
      globalThis.gc();
      return String(reference.allocatedBytes());
    }
    return 'done';
  });
}

if (require.main === module) run(() => main(process.argv[2] ?? '', process.argv[3] ?? ''));
