// Sessions, starts and the directory in every order: who waits for whom, and who does not.

import { DaemonRuntime, Identity, MeshNode, type DaemonRuntimeOptions } from 'mesh-daemon';
import { closeAll, Counter, failure, node, pair, PSK, type Node } from './helpers/nodes';

const unstarted = new Set<MeshNode>();

afterEach(async () => {
  await Promise.all([...unstarted].map((mesh) => mesh.shutdown()));
  unstarted.clear();
  await closeAll();
});

const payload = Buffer.from('x');

/** A node with a ready runtime whose mesh was not started. */
async function quiet(options: DaemonRuntimeOptions = {}): Promise<Node> {
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: PSK });
  unstarted.add(mesh);
  const rt = DaemonRuntime.create(mesh, { acceptMigrations: true, ...options });
  rt.start();
  return { mesh, rt, id: mesh.nodeId() };
}

test('spawn and locate do not wait for a peer that was never started, nor on a node that was not', async () => {
  for (const [a, b] of [
    [await node(), await quiet()],
    [await quiet(), await node()],
    [await quiet(), await quiet()],
  ] as const) {
    await a.mesh.connect(b.mesh.localAddr());
    // The patience of a lookup is longer than this call's: it would end first.
    const order: string[] = [];
    const call = failure(a.rt.call(5n, payload, { timeoutMs: 1_500 })).then(({ code }) => order.push(String(code)));
    const spawned = a.rt.spawnWithDaemon(Identity.generate(), new Counter()).then(() => order.push('spawned'));
    const located = a.rt.locate(7n).then((where) => order.push(String(where)));
    await Promise.all([call, spawned, located]);
    expect(order.slice(0, 2).sort()).toEqual(['null', 'spawned']);
    // The daemon may live there: a caller has its own deadline.
    expect(order[2]).toBe('ERR_DAEMON_CALL_TIMEOUT');
  }
});

test('a move, a drain and a call that fail because a node was not started say which one', async () => {
  const impatient = { silenceMs: 100 };
  const a = await node(impatient);
  const b = await quiet();
  await a.mesh.connect(b.mesh.localAddr());
  const { originHash } = await a.rt.spawnWithDaemon(Identity.generate(), new Counter(), { kind: 'counter' });
  const there = `mesh.start() was not called on node ${String(b.id)}`;
  const told = new Promise<string>((resolve) => {
    a.rt.on('migration', (event) => {
      if (event.type === 'failed') resolve(event.error.message);
    });
  });
  const move = await a.rt.migrate(originHash, b.id);
  const message = `timed out: the target did not answer; ${there}`;
  expect(await failure(move.wait())).toMatchObject({ kind: 'timeout', outcome: 'source', message });
  expect(await told).toBe(message);
  const given = await (await a.rt.migrate(originHash, b.id)).waitWithTimeout(20).catch((error: unknown) => error);
  expect(given).toMatchObject({ message: `timed out: not complete within 20 ms; ${there}` });
  expect(await failure(a.rt.call(7n, payload, { timeoutMs: 20 }))).toMatchObject({
    message: `the call did not complete within 20 ms; ${there}`,
  });
  expect(await a.rt.drain({ timeoutMs: 1_000 })).toMatchObject([
    { error: { message: `no connected node can host a daemon of this kind; ${there}` } },
  ]);

  const c = await quiet(impatient);
  const d = await node();
  await c.mesh.connect(d.mesh.localAddr());
  const here = await c.rt.spawnWithDaemon(Identity.generate(), new Counter(), { kind: 'counter' });
  const unstarted = await c.rt.migrate(here.originHash, d.id);
  expect(await failure(unstarted.wait())).toMatchObject({
    message: 'timed out: the target did not answer; mesh.start() was not called on this node',
  });
});

test('an address that a node without sessions does not know is not found, and that may be why', async () => {
  const alone = await node();
  const lonely = {
    code: 'ERR_DAEMON_NOT_FOUND',
    message: 'daemon 7 was not found; this node has no session with any other',
  };
  expect(await failure(alone.rt.call(7n, payload))).toMatchObject(lonely);
  expect(await failure(alone.rt.send(7n, payload))).toMatchObject(lonely);
  expect(await failure(alone.rt.deliver(7n, { originHash: 1n, sequence: 1n, payload }))).toMatchObject(lonely);
  // Of what is asked of this node alone, others would know nothing.
  expect(await failure(alone.rt.stop(7n))).toMatchObject({ message: 'daemon 7 was not found' });
  const [a] = await pair();
  expect(await failure(a.rt.call(7n, payload))).toMatchObject({ message: 'daemon 7 was not found' });
});

test('a call waits for a peer that starts later, whoever dialled', async () => {
  for (const dialler of [0, 1]) {
    const [a, b] = [await node(), await quiet()];
    const { originHash } = await b.rt.spawnWithDaemon(Identity.generate(), new Counter());
    if (dialler === 0) await a.mesh.connect(b.mesh.localAddr());
    else await b.mesh.connect(a.mesh.localAddr());
    await a.mesh.accept(b.id);
    const call = a.rt.call(originHash, payload);
    expect(await a.rt.locate(originHash)).toBeNull();
    await b.mesh.start();
    expect(await call).toEqual([Buffer.from('1:x')]);
    expect(await a.rt.locate(originHash)).toBe(b.id);
  }
});

test('the first call and the first spawn on either side of a new session know what lives on the other', async () => {
  for (let round = 0; round < 30; round += 1) {
    const [a, b] = await Promise.all([node(), node()]);
    const identity = Identity.generate();
    const there = round % 2 === 0;
    const [home, caller] = there ? [b, a] : [a, b];
    await home.rt.spawnWithDaemon(identity, new Counter());
    // What follows comes in the very moment in which the session is known here.
    const session = there
      ? a.mesh.connect(b.mesh.localAddr())
      : (void a.mesh.connect(b.mesh.localAddr()), b.mesh.accept(a.id));
    const [calls, again] = await session.then(() =>
      Promise.all([
        Promise.all([caller.rt.call(identity.originHash, payload), caller.rt.call(identity.originHash, payload)]),
        failure(caller.rt.spawnWithDaemon(identity, new Counter())),
      ]),
    );
    expect(calls).toEqual([[Buffer.from('1:x')], [Buffer.from('2:x')]]);
    expect(again).toMatchObject({ code: 'ERR_DAEMON_ALREADY_REGISTERED' });
    await closeAll();
  }
});

test('the first call in a peer event finds the daemon, and so does a question that was open when the peer came', async () => {
  for (let round = 0; round < 20; round += 1) {
    const [a, b] = await pair();
    const third = await node();
    const { originHash } = await third.rt.spawnWithDaemon(Identity.generate(), new Counter());
    const answered = new Promise<Buffer[]>((resolve, reject) => {
      a.mesh.on('peer', ({ type, nodeId }) => {
        if (type === 'connected' && nodeId === third.id) a.rt.call(originHash, payload).then(resolve, reject);
      });
    });
    // Asked over and over while the session comes up, so that one question is open at that moment.
    const seen = new Set<string>();
    const asked = { enough: false };
    const asking = (async () => {
      while (!asked.enough) {
        const error = await a.rt.call(originHash, payload).then(
          () => undefined,
          (thrown: unknown) => thrown as { code: string },
        );
        if (error !== undefined) seen.add(error.code);
      }
    })();
    await third.mesh.connect(a.mesh.localAddr());
    await answered;
    asked.enough = true;
    await asking;
    expect([...seen].filter((code) => code !== 'ERR_DAEMON_NOT_FOUND')).toEqual([]);
    expect(b.rt.isReady()).toBe(true);
    await closeAll();
  }
});

test('simultaneous dialling does not lose the first call', async () => {
  for (let round = 0; round < 20; round += 1) {
    const [a, b] = await Promise.all([node(), node()]);
    const { originHash } = await b.rt.spawnWithDaemon(Identity.generate(), new Counter());
    const dialled = [a.mesh.connect(b.mesh.localAddr()), b.mesh.connect(a.mesh.localAddr())];
    await dialled[0];
    expect(await a.rt.call(originHash, payload)).toEqual([Buffer.from('1:x')]);
    await Promise.all(dialled);
    await closeAll();
  }
});

test('a daemon that was stopped and lives again is found by who called its former life', async () => {
  const [a, b] = await pair();
  const identity = Identity.generate();
  for (let life = 0; life < 3; life += 1) {
    const handle = await b.rt.spawnWithDaemon(identity, new Counter());
    expect(await a.rt.call(identity.originHash, payload)).toEqual([Buffer.from('1:x')]);
    await handle.stop();
  }
  expect(await failure(a.rt.call(identity.originHash, payload))).toMatchObject({ code: 'ERR_DAEMON_NOT_FOUND' });
});

test('a daemon that moved away, was stopped there and lives again there is found by its former host', async () => {
  const [a, b] = await pair();
  for (const { rt } of [a, b]) rt.registerFactory('counter', () => new Counter());
  const identity = Identity.generate();
  await a.rt.spawn('counter', identity);
  await (await a.rt.migrate(identity.originHash, b.id)).wait();
  expect(await a.rt.call(identity.originHash, payload)).toEqual([Buffer.from('1:x')]);
  await b.rt.stop(identity.originHash);
  await b.rt.spawn('counter', identity);
  expect(await a.rt.call(identity.originHash, payload)).toEqual([Buffer.from('1:x')]);
  await b.rt.stop(identity.originHash);
  expect(await failure(a.rt.call(identity.originHash, payload))).toMatchObject({ code: 'ERR_DAEMON_NOT_FOUND' });
  expect(await a.rt.locate(identity.originHash)).toBeNull();
});
