// Daemons that are announced before they arrive: the entries of the registry, seen through the front door (hazards 6, 7
// and 40; requirements 1 to 5, 41, 42 and 96).

import { Identity } from 'mesh-daemon';
import { closeAll, Counter, deferred, failure, node, pair, thrown, type Node } from './helpers/nodes';

afterEach(closeAll);

const payload = Buffer.from('x');
const withoutKey = { transportIdentity: false };

interface Setting {
  readonly a: Node;
  /** Takes only what was announced. */
  readonly b: Node;
  readonly identity: Identity;
  readonly origin: bigint;
  readonly faults: { restore: boolean };
}

async function setting(): Promise<Setting> {
  const [b, a] = await pair();
  const faults = { restore: false };
  for (const { rt } of [a, b]) {
    rt.registerFactory('counter', () => {
      const counter = new Counter();
      if (faults.restore) {
        counter.restore = () => {
          throw new Error('told to fail');
        };
      }
      return counter;
    });
  }
  const identity = Identity.generate();
  await a.rt.spawn('counter', identity);
  await a.rt.call(identity.originHash, payload);
  return { a, b, identity, origin: identity.originHash, faults };
}

async function moved(from: Node, to: Node, origin: bigint, options = {}): Promise<void> {
  await (await from.rt.migrate(origin, to.id, options)).wait();
}

test("hazard 7: an entry is keyed by the key pair's own origin and serves that daemon only (requirements 1 and 30)", async () => {
  const { a, b, identity, origin } = await setting();
  b.rt.registerMigrationTargetIdentity('counter', identity);
  expect(b.rt.bindExpectedOrchestrator(origin, a.id)).toBe(true);
  const stranger = Identity.generate();
  await a.rt.spawn('counter', stranger);
  expect(await failure(moved(a, b, stranger.originHash, withoutKey))).toMatchObject({ kind: 'factory-not-found' });
  await moved(a, b, origin, withoutKey);
  expect(await a.rt.call(origin, payload)).toEqual([Buffer.from('2:x')]);
});

test('hazard 7: a failed restore leaves the entry, with its key, for a retry (requirements 2 and 96)', async () => {
  const { a, b, identity, origin, faults } = await setting();
  b.rt.registerMigrationTargetIdentity('counter', identity);
  faults.restore = true;
  for (let attempt = 0; attempt < 3; attempt += 1) {
    expect(await failure(moved(a, b, origin, withoutKey))).toMatchObject({ kind: 'state-failed', outcome: 'source' });
  }
  expect(b.rt.daemonCount()).toBe(0);
  faults.restore = false;
  await moved(a, b, origin, withoutKey);
  expect(await b.rt.call(origin, payload)).toEqual([Buffer.from('2:x')]);
});

test('hazard 7: an entry is consumed by the arrival, and may be made again (requirement 5)', async () => {
  const { a, b, identity, origin } = await setting();
  b.rt.registerMigrationTargetIdentity('counter', identity);
  await moved(a, b, origin, withoutKey);
  expect(b.rt.bindExpectedOrchestrator(origin, a.id)).toBe(false);
  a.rt.registerMigrationTargetIdentity('counter', identity);
  await moved(b, a, origin, withoutKey);
  expect(await failure(moved(a, b, origin, withoutKey))).toMatchObject({ kind: 'factory-not-found' });
  b.rt.registerMigrationTargetIdentity('counter', identity);
  await moved(a, b, origin, withoutKey);
  expect(await a.rt.call(origin, payload)).toEqual([Buffer.from('2:x')]);
});

test('requirements 3 and 4: a colliding announcement fails and takes nothing from the first one', async () => {
  const { a, b, identity, origin } = await setting();
  b.rt.registerMigrationTargetIdentity('counter', identity);
  const taken = { code: 'ERR_DAEMON_ALREADY_REGISTERED' };
  for (const again of [
    () => {
      b.rt.expectMigration('counter', origin);
    },
    () => {
      b.rt.registerMigrationTargetIdentity('counter', identity);
    },
  ]) {
    expect(thrown(again)).toMatchObject(taken);
  }
  // The key is still there.
  await moved(a, b, origin, withoutKey);
  expect(b.rt.daemonCount()).toBe(1);
});

test('an announced address is taken for spawns until the daemon came (requirement 19)', async () => {
  const { a, b, identity, origin } = await setting();
  b.rt.expectMigration('counter', origin);
  expect(await failure(b.rt.spawn('counter', identity))).toMatchObject({ code: 'ERR_DAEMON_ALREADY_REGISTERED' });
  await moved(a, b, origin);
  expect(b.rt.daemonCount()).toBe(1);
});

test('requirements 41 and 42: a placeholder gets the key with the state; without the key it fails and nothing is lost', async () => {
  const { a, b, origin } = await setting();
  b.rt.expectMigration('counter', origin);
  expect(await failure(moved(a, b, origin, withoutKey))).toMatchObject({
    kind: 'identity-transport-failed',
    outcome: 'source',
  });
  expect(await a.rt.call(origin, payload)).toEqual([Buffer.from('2:x')]);
  await moved(a, b, origin);
  expect(await b.rt.call(origin, payload)).toEqual([Buffer.from('3:x')]);
});

test('hazard 8: a bound orchestrator is the only one that may bring the daemon', async () => {
  const { a, b, origin } = await setting();
  b.rt.expectMigration('counter', origin);
  expect(b.rt.bindExpectedOrchestrator(origin, 99n)).toBe(true);
  expect(await failure(moved(a, b, origin))).toMatchObject({ kind: 'wrong-peer', outcome: 'source' });
  expect([a.rt.daemonCount(), b.rt.daemonCount()]).toEqual([1, 0]);
  expect(await a.rt.call(origin, payload)).toEqual([Buffer.from('2:x')]);
});

test('hazard 13: a runtime that ends while its policy decides declines at once, whatever the policy says then', async () => {
  for (const answer of ['never', 'yes'] as const) {
    const asked = deferred();
    const a = await node();
    const b = await node({
      acceptMigrations: () => {
        asked.resolve();
        if (answer === 'never') return new Promise(() => undefined);
        void b.rt.shutdown();
        return true;
      },
    });
    b.rt.registerFactory('counter', () => new Counter());
    await a.mesh.connect(b.mesh.localAddr());
    const { originHash } = await a.rt.spawnWithDaemon(Identity.generate(), new Counter(), { kind: 'counter' });
    const move = await a.rt.migrate(originHash, b.id);
    await asked.promise;
    await b.rt.shutdown();
    expect(await failure(move.wait())).toMatchObject({ kind: 'compute-not-supported', outcome: 'source' });
    expect(await a.rt.call(originHash, payload)).toEqual([Buffer.from('1:x')]);
  }
});

test('hazard 40: a live daemon is not overwritten by a snapshot; a stopped one takes what it is given, older or newer', async () => {
  const { a, identity, origin } = await setting();
  const older = (await a.rt.snapshot(origin))!;
  await a.rt.call(origin, payload);
  await a.rt.call(origin, payload);
  const newer = (await a.rt.snapshot(origin))!;
  expect(await failure(a.rt.spawnFromSnapshot('counter', identity, older))).toMatchObject({
    code: 'ERR_DAEMON_ALREADY_REGISTERED',
  });
  expect(await a.rt.call(origin, payload)).toEqual([Buffer.from('4:x')]);
  for (const [snapshot, next] of [
    [older, '2:x'],
    [newer, '4:x'],
    [older, '2:x'],
  ] as const) {
    await a.rt.stop(origin);
    await a.rt.spawnFromSnapshot('counter', identity, snapshot);
    expect(await a.rt.call(origin, payload)).toEqual([Buffer.from(next)]);
  }
});
