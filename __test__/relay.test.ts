// Nodes without a session of their own, through a common peer.

import { Identity } from 'mesh-daemon';
import { closeAll, Counter, failure, node, type Node } from './helpers/nodes';

afterEach(closeAll);

const payload = Buffer.from('x');

async function row(relays = true): Promise<[Node, Node, Node]> {
  const [a, relay, b] = [await node(), await node({}, { mesh: { relay: relays } }), await node()];
  for (const { rt } of [a, relay, b]) rt.registerFactory('counter', () => new Counter());
  for (const end of [a, b]) {
    await end.mesh.connect(relay.mesh.localAddr());
    await relay.mesh.accept(end.id);
  }
  return [a, relay, b];
}

test('a daemon moves to a node that only a common peer can reach, is called there, and comes back', async () => {
  const [a, relay, b] = await row();
  const { originHash } = await a.rt.spawnWithDaemon(Identity.generate(), new Counter(), { kind: 'counter' });
  b.rt.expectMigration('counter', originHash);
  await a.rt.call(originHash, payload);
  await (await a.rt.migrate(originHash, b.id)).wait();
  expect(a.mesh.peers().find(({ nodeId }) => nodeId === b.id)).toMatchObject({
    addr: expect.stringMatching(/^relay:/) as string,
    via: relay.id,
    state: 'connected',
  });
  expect(await a.rt.call(originHash, payload)).toEqual([Buffer.from('2:x')]);
  expect(await relay.rt.call(originHash, payload)).toEqual([Buffer.from('3:x')]);
  a.rt.expectMigration('counter', originHash);
  await (await b.rt.migrate(originHash, a.id)).wait();
  expect(await b.rt.call(originHash, payload)).toEqual([Buffer.from('4:x')]);
  await a.mesh.connect(b.mesh.localAddr());
  expect(a.mesh.peers().map(({ via }) => via)).toEqual([null, null]);
});

test('a node with `relay: false` forwards nothing: who is behind it is out of reach', async () => {
  const [a, , b] = await row(false);
  const { originHash } = await a.rt.spawnWithDaemon(Identity.generate(), new Counter(), { kind: 'counter' });
  const error = await failure(a.rt.migrate(originHash, b.id).then((move) => move.wait()));
  expect(error).toMatchObject({ kind: 'target-unavailable', nodeId: b.id, outcome: 'source' });
  expect(a.mesh.peers()).toHaveLength(1);
});
