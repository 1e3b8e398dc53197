// Nodes that find each other, through one address that all know.

import { MeshError, MeshNode } from 'mesh-daemon';
import { any, bare, closeAll, failure, node } from './helpers/nodes';
import { ALERT, kill, killAll, other } from './helpers/processes';

afterEach(async () => {
  killAll();
  await closeAll();
});

const payload = Buffer.from('x');

test('a daemon of a process whose address nobody was told is called through a common seed', async () => {
  const seed = await other([], { stays: true });
  const host = await other([seed.addr], { joins: true });
  const here = await node({}, { mesh: { ...ALERT, seeds: [seed.addr] } });
  await here.mesh.accept(host.id);
  const [answer] = await here.rt.call(host.origin, payload);
  expect(answer?.toString()).toBe(`1:x:${String(host.child.pid)}`);
  expect(await here.rt.locate(host.origin)).toBe(host.id);
  expect(await here.rt.locate(seed.origin)).toBe(seed.id);
  // It works the other way round as well: the other process dialled nobody but the seed.
  expect(await host.call(seed.origin)).toMatch(/^1:x:/);
  expect(here.mesh.peers().map(({ state, via }) => [state, via])).toEqual([
    ['connected', null],
    ['connected', null],
  ]);
});

test('a killed member is noticed, and the others go on', async () => {
  const seed = await other([], { stays: true });
  const host = await other([seed.addr], { joins: true });
  const here = await node({}, { mesh: { ...ALERT, seeds: [seed.addr] } });
  await here.mesh.accept(host.id);
  await here.mesh.accept(seed.id);
  await here.rt.call(host.origin, payload);
  const types: string[] = [];
  const lost = new Promise<void>((resolve) => {
    here.mesh.on('peer', ({ type, nodeId }) => {
      if (nodeId !== host.id) return;
      types.push(type);
      if (type === 'lost') resolve();
    });
  });
  await kill(host);
  await lost;
  expect(types.at(-1)).toBe('lost');
  expect(types).toContain('suspected');
  const dead = await failure(here.rt.call(host.origin, payload, { timeoutMs: 30_000 }));
  expect(['ERR_DAEMON_NOT_FOUND', 'ERR_DAEMON_PEER_LOST']).toContain(dead.code);
  expect((await here.rt.call(seed.origin, payload)).length).toBe(1);
});

test('nodes join by a method as well, and one list of seeds serves all nodes', async () => {
  const [a, b] = [await node(), await node()];
  await b.mesh.join(a.mesh.localAddr());
  const seeds = [a.mesh.localAddr(), b.mesh.localAddr()];
  const c = await node({}, { mesh: { seeds } });
  await Promise.all([c.mesh.accept(a.id), c.mesh.accept(b.id), a.mesh.accept(b.id)]);
  expect(await failure(b.mesh.join(b.mesh.localAddr()))).toMatchObject({ code: 'ERR_MESH_HANDSHAKE_FAILED' });
});

test('joining at an address where nobody listens, or with another secret, fails with a typed error', async () => {
  const mesh = await bare();
  const gone = await bare();
  const address = gone.localAddr();
  await gone.shutdown();
  const nobody = await failure(mesh.join(address));
  expect(nobody).toBeInstanceOf(MeshError);
  expect(nobody).toMatchObject({ code: 'ERR_MESH_UNREACHABLE', address });
  const stranger = await bare({ psk: '22'.repeat(32) });
  expect(await failure(mesh.join(stranger.localAddr()))).toMatchObject({ code: 'ERR_MESH_HANDSHAKE_FAILED' });
  expect(await failure(mesh.join('nowhere'))).toMatchObject({ code: 'ERR_MESH_INVALID_ARGUMENT' });
  expect(await failure(mesh.join(any(undefined)))).toMatchObject({ code: 'ERR_MESH_INVALID_ARGUMENT' });
  const seeds = ['127.0.0.1:99999'];
  const wrong = await failure(MeshNode.create({ bindAddr: '127.0.0.1:0', psk: '11'.repeat(32), seeds }));
  expect(wrong.message).toContain('options.seeds[0] must have a port of at most 65535');
  await mesh.shutdown();
  expect(await failure(mesh.join(address))).toMatchObject({ code: 'ERR_MESH_SHUT_DOWN' });
});

test('the signal of a join stops the waiting', async () => {
  const mesh = await bare();
  const reason = new Error('enough');
  await expect(mesh.join('127.0.0.1:1', { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
});
