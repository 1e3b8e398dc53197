// Where the key of a daemon is: it goes along sealed, or stays away, and whoever gave it away has forgotten it.

import { Identity, type CausalEvent, type DaemonContext, type MeshDaemon, type MeshDaemonError } from 'mesh-daemon';
import { closeAll, failure, pair, type Node } from './helpers/nodes';

afterEach(closeAll);

const message = Buffer.from('message');
const withoutKey = { transportIdentity: false };

/** Signs what it is sent; says why when it cannot. */
class Signer implements MeshDaemon {
  process({ payload }: CausalEvent, context: DaemonContext): Buffer {
    try {
      return context.sign(payload);
    } catch (error) {
      return Buffer.from((error as MeshDaemonError).code);
    }
  }

  snapshot(): Buffer {
    return Buffer.of();
  }

  restore(): void {
    // Nothing of it but the key matters here.
  }
}

async function setting(): Promise<{ a: Node; b: Node; identity: Identity; answer: () => Promise<string> }> {
  const [a, b] = await pair({ acceptMigrations: true });
  for (const { rt } of [a, b]) rt.registerFactory('signer', () => new Signer());
  const identity = Identity.generate();
  await a.rt.spawn('signer', identity);
  const answer = async (): Promise<string> => {
    const [output = Buffer.of()] = await a.rt.call(identity.originHash, message);
    const signed = output.length === 64 && Identity.verify(identity.entityId, message, output);
    return signed ? 'signed' : output.toString();
  };
  expect(await answer()).toBe('signed');
  return { a, b, identity, answer };
}

async function move(from: Node, to: Node, { originHash }: Identity, options = {}): Promise<void> {
  await (await from.rt.migrate(originHash, to.id, options)).wait();
  expect([from.rt.daemonCount(), to.rt.daemonCount()]).toEqual([0, 1]);
}

test('a daemon that came without its key, to a node that has none, runs but cannot sign', async () => {
  const { a, b, identity, answer } = await setting();
  await move(a, b, identity, withoutKey);
  expect(await answer()).toBe('ERR_IDENTITY_READ_ONLY');
  // It has none to give, either.
  expect(await failure(b.rt.migrate(identity.originHash, a.id))).toMatchObject({
    kind: 'identity-transport-failed',
    outcome: 'source',
  });
  await move(b, a, identity, withoutKey);
  expect(await answer()).toBe('ERR_IDENTITY_READ_ONLY');
});

test('a source forgets the key that it gave away: what comes back without it cannot sign there', async () => {
  const { a, b, identity, answer } = await setting();
  await move(a, b, identity);
  expect(await answer()).toBe('signed');
  await move(b, a, identity, withoutKey);
  expect(await answer()).toBe('ERR_IDENTITY_READ_ONLY');
  // Nobody on the mesh has it any more, but its owner has.
  b.rt.registerMigrationTargetIdentity('signer', identity);
  await move(a, b, identity, withoutKey);
  expect(await answer()).toBe('signed');
  await move(b, a, identity);
  expect(await answer()).toBe('signed');
});
