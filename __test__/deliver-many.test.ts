// Batches that are larger than a mailbox: fed as it drains, in order, each once.

import { Identity, type CausalEvent, type DaemonError, type MeshDaemon } from 'mesh-daemon';
import { closeAll, deferred, failure, node, pair } from './helpers/nodes';

afterEach(closeAll);

const numbered = (count: number): Buffer[] => Array.from({ length: count }, (_, index) => Buffer.from(String(index)));

/** Remembers what it was given, in order. */
class Keeper implements MeshDaemon {
  readonly seen: string[] = [];

  async process({ payload }: CausalEvent): Promise<Buffer> {
    await Promise.resolve();
    this.seen.push(payload.toString());
    return payload;
  }
}

test('a batch larger than the mailbox runs whole and in order, asynchronous and not', async () => {
  const { rt } = await node();
  const payloads = numbered(10_000);
  const keeper = new Keeper();
  const slow = await rt.spawnWithDaemon(Identity.generate(), keeper, { mailboxCapacity: 100 });
  expect(await rt.deliverMany(slow.originHash, payloads)).toEqual(payloads.map((payload) => [payload]));
  expect(keeper.seen).toEqual(payloads.map(String));
  const seen: string[] = [];
  const quick = await rt.spawnWithDaemon(
    Identity.generate(),
    {
      process: ({ payload }) => {
        seen.push(payload.toString());
      },
    },
    { mailboxCapacity: 1 },
  );
  expect(await rt.deliverMany(quick.originHash, payloads)).toHaveLength(payloads.length);
  expect(seen).toEqual(payloads.map(String));
});

test('a batch with more bytes than the mailbox takes, and single payloads that do', async () => {
  const { rt } = await node();
  const keeper = new Keeper();
  const { originHash } = await rt.spawnWithDaemon(Identity.generate(), keeper, { mailboxBytes: 1_000 });
  const payloads = Array.from({ length: 50 }, (_, index) =>
    Buffer.alloc(index % 5 === 0 ? 3_000 : 300, 97 + (index % 26)),
  );
  expect(await rt.deliverMany(originHash, payloads)).toEqual(payloads.map((payload) => [payload]));
  expect(keeper.seen).toEqual(payloads.map(String));
});

test('hazard 19: the caller may use its payloads again at once, also those that were not entered yet', async () => {
  const { rt } = await node();
  const keeper = new Keeper();
  const { originHash } = await rt.spawnWithDaemon(Identity.generate(), keeper, { mailboxCapacity: 4 });
  const payloads = numbered(100);
  const batch = rt.deliverMany(originHash, payloads);
  for (const payload of payloads) payload.fill('!');
  payloads.length = 0;
  await batch;
  expect(keeper.seen).toEqual(numbered(100).map(String));
});

test('a batch that fits goes before whatever is delivered behind it', async () => {
  const { rt } = await node();
  const keeper = new Keeper();
  const { originHash } = await rt.spawnWithDaemon(Identity.generate(), keeper);
  const batch = rt.deliverMany(originHash, numbered(3_000));
  const last = rt.call(originHash, Buffer.from('last'));
  await Promise.all([batch, last]);
  expect(keeper.seen).toEqual([...numbered(3_000).map(String), 'last']);
});

test('a batch beyond what waits for another node at once, in order', async () => {
  const [a, b] = await pair();
  const keeper = new Keeper();
  const { originHash } = await b.rt.spawnWithDaemon(Identity.generate(), keeper, { mailboxCapacity: 1_000 });
  const payloads = numbered(40_000);
  expect(await a.rt.deliverMany(originHash, payloads)).toHaveLength(payloads.length);
  expect(keeper.seen).toEqual(payloads.map(String));
});

test('a failure within a batch is told, and those behind it ran', async () => {
  const { rt } = await node();
  const seen: string[] = [];
  const daemon: MeshDaemon = {
    process: async ({ payload }) => {
      await Promise.resolve();
      seen.push(payload.toString());
      if (payload.toString() === '7') throw new Error('seven');
    },
  };
  const { originHash } = await rt.spawnWithDaemon(Identity.generate(), daemon, { mailboxCapacity: 5 });
  const error = await failure(rt.deliverMany(originHash, numbered(50)));
  expect(error).toMatchObject({ code: 'ERR_DAEMON_PROCESS_FAILED', cause: { message: 'seven' } });
  expect(seen).toEqual(numbered(50).map(String));
});

test('a mailbox that others keep full refuses, and a shutdown ends the feeding', async () => {
  const { rt } = await node();
  const gate = deferred();
  const { originHash } = await rt.spawnWithDaemon(
    Identity.generate(),
    { process: () => gate.promise },
    { mailboxCapacity: 2 },
  );
  const others = Promise.allSettled(Array.from({ length: 5 }, () => rt.call(originHash, Buffer.from('x'))));
  expect(await failure(rt.deliverMany(originHash, numbered(3)))).toMatchObject({ code: 'ERR_DAEMON_MAILBOX_FULL' });
  gate.resolve();
  await others;
  const stuck = await rt.spawnWithDaemon(
    Identity.generate(),
    { process: () => new Promise<void>(() => undefined) },
    { mailboxCapacity: 2 },
  );
  const batch = failure(rt.deliverMany(stuck.originHash, numbered(10)));
  await rt.shutdown();
  expect(await batch).toMatchObject({ code: 'ERR_DAEMON_SHUTTING_DOWN' });
});

test('of a batch beside others that fill the mailbox all runs, in order, or nothing', async () => {
  const { rt } = await node();
  for (let round = 0; round < 20; round += 1) {
    const keeper = new Keeper();
    const { originHash } = await rt.spawnWithDaemon(Identity.generate(), keeper, { mailboxCapacity: 100 });
    const others = Array.from({ length: 28 }, () => rt.send(originHash, Buffer.from('other')));
    const batches = ['a', 'b', 'c'].map((name) =>
      numbered(171).map((number) => Buffer.from(`${name}${String(number)}`)),
    );
    const results = await Promise.allSettled(batches.map((batch) => rt.deliverMany(originHash, batch)));
    await Promise.allSettled(others);
    results.forEach((result, index) => {
      const batch = batches[index]!.map(String);
      const seen = keeper.seen.filter((text) => text.startsWith(batch[0]!.charAt(0)));
      const code = result.status === 'rejected' ? (result.reason as DaemonError).code : undefined;
      expect([code, seen]).toEqual(code === undefined ? [code, batch] : ['ERR_DAEMON_MAILBOX_FULL', []]);
    });
    expect(results[0]!.status).toBe('fulfilled');
  }
});

test('no payloads are no events: nobody is looked for, and nothing can fail', async () => {
  const { rt } = await node();
  const { originHash } = await rt.spawnWithDaemon(Identity.generate(), new Keeper());
  for (const origin of [originHash, Identity.generate().originHash]) {
    expect(await rt.deliverMany(origin, [])).toEqual([]);
  }
  const unknown = Identity.generate().originHash;
  expect(await failure(rt.deliverMany(unknown, numbered(1)))).toMatchObject({ code: 'ERR_DAEMON_NOT_FOUND' });
});
