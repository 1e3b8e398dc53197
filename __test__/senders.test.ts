// Daemons that send while they move (hazards 57 and 61).

import { setImmediate } from 'node:timers/promises';
import { Identity } from 'mesh-daemon';
import type { CausalEvent, DaemonContext, MeshDaemon } from 'mesh-daemon';
import { closeAll, deferred, failure, node, type Node } from './helpers/nodes';

afterEach(closeAll);

/** Sends the next so many numbers to a daemon, and waits for none of them. */
class Speaker implements MeshDaemon {
  next = 0;
  readonly failures: unknown[] = [];

  constructor(readonly to: bigint) {}

  process({ payload }: CausalEvent, context: DaemonContext): void {
    for (let count = payload.readUInt32LE(); count > 0; count -= 1) {
      context.send(this.to, numbered(this.next)).catch((error: unknown) => this.failures.push(error));
      this.next += 1;
    }
  }

  snapshot(): Buffer {
    return numbered(this.next);
  }

  restore(state: Buffer): void {
    this.next = state.readUInt32LE();
  }
}

function numbered(number: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(number);
  return bytes;
}

/** Nodes that are connected with each other and take in any daemon. */
async function meshOf(count: number, freezeTimeoutMs = 10_000): Promise<Node[]> {
  const nodes = await Promise.all(
    Array.from({ length: count }, () => node({ acceptMigrations: true, freezeTimeoutMs })),
  );
  for (const [at, one] of nodes.entries()) {
    for (const other of nodes.slice(at + 1)) {
      await one.mesh.connect(other.mesh.localAddr());
      await other.mesh.accept(one.id);
    }
  }
  return nodes;
}

test('hazard 61: 4 000 sends that nobody awaits, a move, a drain, the end of the old host: each runs once, in order', async () => {
  const [a, b, c] = (await meshOf(3)) as [Node, Node, Node];
  const heard: number[] = [];
  const heardAll = deferred();
  // Slow and with little room, so that most of it still is with its sender when the move begins.
  const slow: MeshDaemon = {
    process: async ({ payload }) => {
      await setImmediate();
      heard.push(payload.readUInt32LE());
      if (heard.length === 4_050) heardAll.resolve();
    },
  };
  const sink = await c.rt.spawnWithDaemon(Identity.generate(), slow, { mailboxCapacity: 256 });
  const speakers: Speaker[] = [];
  for (const { rt } of [a, b]) {
    rt.registerFactory('speaker', () => {
      const speaker = new Speaker(sink.originHash);
      speakers.push(speaker);
      return speaker;
    });
  }
  const { originHash } = await a.rt.spawn('speaker', Identity.generate());
  await a.rt.call(originHash, numbered(4_000));
  await (await a.rt.migrate(originHash, b.id)).wait();
  await a.rt.drain();
  await a.rt.shutdown();
  await a.mesh.shutdown();
  await b.rt.call(originHash, numbered(50));
  await heardAll.promise;
  await c.rt.call(sink.originHash, numbered(4_050));
  expect(heard).toEqual(Array.from({ length: 4_051 }, (_, number) => number));
  expect(speakers.map(({ failures }) => failures)).toEqual([[], []]);
});

test('hazard 57: a call that the daemon does not await and nobody answers undoes the freeze in time', async () => {
  const [a, b, c] = (await meshOf(3, 300)) as [Node, Node, Node];
  const answer = deferred();
  const mute = await c.rt.spawnWithDaemon(Identity.generate(), { process: () => answer.promise });
  let answers = 0;
  for (const { rt } of [a, b]) {
    rt.registerFactory('caller', () => ({
      process: (event, context) => {
        if (event.payload.toString() === 'call') {
          void context.call(mute.originHash, event.payload).then(() => (answers += 1));
        }
        return event.payload;
      },
      snapshot: () => Buffer.from(String(answers)),
      restore: (state) => {
        answers = Number(state.toString());
      },
    }));
  }
  const { originHash } = await a.rt.spawn('caller', Identity.generate());
  await a.rt.call(originHash, Buffer.from('call'));
  const move = await a.rt.migrate(originHash, b.id);
  expect(await failure(move.wait())).toMatchObject({ kind: 'timeout', outcome: 'source' });
  expect(await a.rt.call(originHash, Buffer.from('x'))).toEqual([Buffer.from('x')]);
  answer.resolve();
  await (await a.rt.migrate(originHash, b.id)).wait();
  expect([a.rt.daemonCount(), b.rt.daemonCount(), answers]).toEqual([0, 1, 1]);
});

test('hazard 57: a freeze that waited in vain says for whom and for how many events, and the daemon goes on', async () => {
  const [a, b, c] = (await meshOf(3, 300)) as [Node, Node, Node];
  const go = deferred();
  const heard: number[] = [];
  const heardAll = deferred();
  const full: MeshDaemon = {
    process: async ({ payload }) => {
      await go.promise;
      heard.push(payload.readUInt32LE());
      if (heard.length === 6) heardAll.resolve();
    },
  };
  const sink = await c.rt.spawnWithDaemon(Identity.generate(), full, { mailboxCapacity: 1 });
  for (const { rt } of [a, b]) rt.registerFactory('speaker', () => new Speaker(sink.originHash));
  const { originHash } = await a.rt.spawn('speaker', Identity.generate());
  await a.rt.call(originHash, numbered(5));
  const error = await failure((await a.rt.migrate(originHash, b.id)).wait());
  expect(error).toMatchObject({ code: 'ERR_MIGRATION_TIMEOUT', kind: 'timeout', outcome: 'source' });
  // One runs, and one may have got into the mailbox.
  const who = `[34] not accepted by daemon ${String(sink.originHash)} on node ${String(c.id)}`;
  expect(error.detail).toMatch(new RegExp(`^waited for what the daemon sent to be accepted, .*: ${who}$`));
  expect(error.message).toContain(error.detail);
  await a.rt.call(originHash, numbered(1));
  go.resolve();
  await heardAll.promise;
  await (await a.rt.migrate(originHash, b.id)).wait();
  expect(heard).toEqual([0, 1, 2, 3, 4, 5]);
});

test('hazard 57: a daemon moves with a call to itself that it does not await, which runs once', async () => {
  const [a, b] = (await meshOf(2)) as [Node, Node];
  const began = deferred();
  const go = deferred();
  const ran: string[] = [];
  for (const { rt } of [a, b]) {
    rt.registerFactory('selfish', () => ({
      process: async ({ payload }, context) => {
        ran.push(payload.toString());
        if (payload.toString() !== 'first') return;
        context.call(context.originHash, Buffer.from('second')).catch(() => undefined);
        began.resolve();
        await go.promise;
      },
      snapshot: () => Buffer.alloc(1),
      restore: () => undefined,
    }));
  }
  const { originHash } = await a.rt.spawn('selfish', Identity.generate());
  const first = a.rt.call(originHash, Buffer.from('first'));
  await began.promise;
  const move = await a.rt.migrate(originHash, b.id);
  for await (const phase of move.phases()) if (phase === 'snapshot') go.resolve();
  await move.wait();
  await first;
  await b.rt.call(originHash, Buffer.from('third'));
  expect(ran).toEqual(['first', 'second', 'third']);
});

test('whoever waits when its own runtime shuts down hears whether its event may have run', async () => {
  const [a, b] = (await meshOf(2)) as [Node, Node];
  const began = deferred();
  const never = {
    process: () => {
      began.resolve();
      return new Promise<void>(() => undefined);
    },
  };
  const here = await a.rt.spawnWithDaemon(Identity.generate(), never);
  const there = await b.rt.spawnWithDaemon(Identity.generate(), never);
  const remote = failure(a.rt.call(there.originHash, numbered(1)));
  await began.promise;
  const running = failure(a.rt.call(here.originHash, numbered(1)));
  const waiting = failure(a.rt.call(here.originHash, numbered(2)));
  await a.rt.shutdown();
  const code = 'ERR_DAEMON_SHUTTING_DOWN';
  expect(await remote).toMatchObject({ code, executed: 'unknown' });
  expect(await running).toMatchObject({ code, executed: 'unknown' });
  expect(await waiting).toMatchObject({ code, executed: 'no' });
});
