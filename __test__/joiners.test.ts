// Nodes that ask something as soon as they have started, before they have joined the mesh of their seeds; and spawns of one
// identity at the same time.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Identity, type MeshDaemon } from 'mesh-daemon';
import { bare, closeAll, Counter, failure, node, PSK, type Node } from './helpers/nodes';
import { killAll, other } from './helpers/processes';

afterEach(async () => {
  killAll();
  await closeAll();
});

const ROOT = join(__dirname, '..');
const JOINERS = 20;
const payload = Buffer.from('x');

/** Two nodes that see each other as members, and know that nobody has a daemon that nobody has. */
async function settled(): Promise<[Node, Node]> {
  const a = await node();
  const b = await node({}, { mesh: { seeds: [a.mesh.localAddr()] } });
  await a.mesh.accept(b.id);
  await failure(a.rt.call(Identity.generate().originHash, payload));
  return [a, b];
}

test('whoever has just started spawns no second copy of what lives in the mesh of its seeds', async () => {
  const [a, b] = await settled();
  let fenced = 0;
  b.rt.on('daemon', ({ type }) => (fenced += Number(type === 'fenced')));
  for (let round = 0; round < JOINERS; round += 1) {
    const identity = Identity.generate();
    const { originHash } = await b.rt.spawnWithDaemon(identity, new Counter());
    for (let calls = 0; calls < 3; calls += 1) await a.rt.call(originHash, payload);
    const joiner = await node({}, { mesh: { seeds: [a.mesh.localAddr()] } });
    const refused = await failure(joiner.rt.spawnWithDaemon(identity, new Counter()));
    expect(refused.code).toBe('ERR_DAEMON_ALREADY_REGISTERED');
    const [answer] = await joiner.rt.call(originHash, payload);
    expect(answer?.toString()).toBe('4:x');
    await joiner.mesh.shutdown();
  }
  expect(fenced).toBe(0);
});

test('calls, sends, questions and subscriptions of a node that has just started wait for it to join', async () => {
  const [a, b] = await settled();
  const { originHash } = await b.rt.spawnWithDaemon(Identity.generate(), new Counter());
  b.mesh.registerChannel({ name: 'news' });
  const joiner = () => node({}, { mesh: { seeds: [a.mesh.localAddr()] } });
  const [calls, sends, asks, subscribes, reads] = (await Promise.all(Array.from({ length: 5 }, joiner))) as [
    Node,
    Node,
    Node,
    Node,
    Node,
  ];
  const subscription = reads.mesh.messages(b.id, 'news');
  const [answer, , host] = await Promise.all([
    calls.rt.call(originHash, payload),
    sends.rt.send(originHash, payload),
    asks.rt.locate(originHash),
    subscribes.mesh.subscribeChannel(b.id, 'news'),
    subscription.ready,
  ]);
  expect(answer[0]?.toString()).toMatch(/^[12]:x$/);
  expect(host).toBe(b.id);
  expect((await b.mesh.publish('news', payload)).delivered).toBe(2);
  await subscription.stop();
  const nowhere = await failure(calls.rt.call(Identity.generate().originHash, payload));
  expect(nowhere.code).toBe('ERR_DAEMON_NOT_FOUND');
  const nobody = await failure(subscribes.mesh.subscribeChannel(Identity.generate().nodeId, 'news'));
  expect(nobody.code).toBe('ERR_NOT_CONNECTED');
});

const script = `
  const { DaemonRuntime, Identity, MeshNode } = require('mesh-daemon');
  (async () => {
    const [psk, seed, identity, origin] = process.argv.slice(1);
    const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk, seeds: [seed] });
    const rt = DaemonRuntime.create(mesh);
    rt.registerFactory('counter', () => ({ process: () => Buffer.from('a second copy') }));
    await mesh.start();
    rt.start();
    const spawned = rt.spawn('counter', Identity.fromSeed(Buffer.from(identity, 'hex')));
    const code = await spawned.then(() => 'spawned', (error) => error.code);
    const [answer] = await rt.call(BigInt(origin), Buffer.from('x'));
    console.log(code, String(answer));
    await mesh.shutdown();
  })();`;

test('processes that have just started spawn no second copy either', async () => {
  const seed = await other([], { stays: true });
  const host = await node({}, { mesh: { seeds: [seed.addr] } });
  await host.mesh.accept(seed.id);
  const bytes = Buffer.alloc(32, 7);
  const { originHash } = await host.rt.spawnWithDaemon(Identity.fromSeed(bytes), new Counter());
  const args = ['-e', script, PSK, seed.addr, bytes.toString('hex'), String(originHash)];
  const said: string[] = [];
  for (let round = 0; round < JOINERS / 5; round += 1) {
    const runs = Array.from({ length: 5 }, () => promisify(execFile)(process.execPath, args, { cwd: ROOT }));
    for (const { stdout } of await Promise.all(runs)) said.push(stdout.trim());
  }
  expect(said.map((line) => line.split(' ')[0])).toEqual(Array(JOINERS).fill('ERR_DAEMON_ALREADY_REGISTERED'));
  // Each was answered by the one that lived, in whatever order.
  const counts = said.map((line) => Number(/ (\d+):x$/.exec(line)?.[1]));
  expect(counts.sort((one, two) => one - two)).toEqual(Array.from({ length: JOINERS }, (_, at) => at + 1));
});

test('a node whose seeds are not there, or are itself, begins without them', async () => {
  const places = await Promise.all([bare(), bare()]);
  const [gone, own] = places.map((mesh) => mesh.localAddr()) as [string, string];
  await Promise.all(places.map((mesh) => mesh.shutdown()));
  const alone = await node({}, { mesh: { seeds: [gone] } });
  const itself = await node({}, { mesh: { bindAddr: own, seeds: [own] } });
  for (const { rt } of [alone, itself]) {
    const { originHash } = await rt.spawnWithDaemon(Identity.generate(), new Counter());
    expect((await rt.call(originHash, payload)).toString()).toBe('1:x');
  }
  expect((await failure(itself.rt.call(1n, payload))).code).toBe('ERR_DAEMON_NOT_FOUND');
  // What is sought may host it.
  expect((await failure(alone.rt.call(1n, payload, { timeoutMs: 300 }))).code).toBe('ERR_DAEMON_CALL_TIMEOUT');
});

test('a join that fails leaves a node as sure as it was, and one that is under way is waited for', async () => {
  const [a, b] = await settled();
  const identity = Identity.generate();
  await b.rt.spawnWithDaemon(identity, new Counter());
  const gone = await bare();
  await gone.shutdown();
  const joiner = await node();
  await failure(joiner.mesh.join(gone.localAddr()));
  expect((await failure(joiner.rt.call(identity.originHash, payload))).code).toBe('ERR_DAEMON_NOT_FOUND');
  const joining = joiner.mesh.join(a.mesh.localAddr());
  const refused = await failure(joiner.rt.spawnWithDaemon(identity, new Counter()));
  expect(refused.code).toBe('ERR_DAEMON_ALREADY_REGISTERED');
  await joining;
});

test.each(['members', 'peers'])(
  'of two %s that spawn one identity at once one has it and the other is refused',
  async (how) => {
    const nodes = how === 'members' ? await settled() : ([await node(), await node()] as const);
    if (how === 'peers') {
      await nodes[0].mesh.connect(nodes[1].mesh.localAddr());
      await nodes[1].mesh.accept(nodes[0].id);
    }
    let fenced = 0;
    for (const { rt } of nodes) rt.on('daemon', ({ type }) => (fenced += Number(type === 'fenced')));
    for (let round = 0; round < 20; round += 1) {
      const identity = Identity.generate();
      const spawns = nodes.map(({ rt }) => rt.spawnWithDaemon(identity, new Counter()));
      const codes = await Promise.all(
        spawns.map((spawn) =>
          spawn.then(
            () => 'spawned',
            (error: unknown) => (error as { code: string }).code,
          ),
        ),
      );
      expect(codes.sort()).toEqual(['ERR_DAEMON_ALREADY_REGISTERED', 'spawned']);
      for (const { rt } of nodes) expect((await rt.call(identity.originHash, payload)).toString()).toMatch(/^[12]:x$/);
    }
    expect(fenced).toBe(0);
  },
);

test.each(['first', 'second'])(
  'whoever has asked everybody goes first, however long its daemon takes: the %s',
  async (which) => {
    const nodes = await settled();
    const [slow, late] = which === 'first' ? nodes : [nodes[1], nodes[0]];
    const identity = Identity.generate();
    const source = await node();
    const original = await source.rt.spawnWithDaemon(identity, new Counter());
    const snapshot = await original.snapshot();
    await original.stop();
    let restoring: () => void = () => undefined;
    const reached = new Promise<void>((resolve) => (restoring = resolve));
    let release: () => void = () => undefined;
    const released = new Promise<void>((resolve) => (release = resolve));
    const counter = new Counter();
    const daemon: MeshDaemon = {
      process: (event) => counter.process(event),
      restore: async (state) => {
        restoring();
        await released;
        counter.restore(state);
      },
    };
    if (snapshot === null) throw new Error('it has a state');
    const first = slow.rt.spawnFromSnapshotWithDaemon(identity, snapshot, daemon);
    await reached;
    const second = failure(late.rt.spawnWithDaemon(identity, new Counter()));
    // The answer to this comes behind the question of the second spawn.
    await late.rt.locate(identity.originHash);
    release();
    await first;
    expect((await second).code).toBe('ERR_DAEMON_ALREADY_REGISTERED');
    expect((await late.rt.call(identity.originHash, payload)).toString()).toBe('1:x');
  },
);
