// Batches that take long, and batches for a daemon that moves: each event runs once, in order, and none is given up.

import { Identity, type CausalEvent, type DaemonRuntime, type MeshDaemon } from 'mesh-daemon';
import { passTime } from './helpers/clock';
import { gate } from './helpers/gates';
import { closeAll, deferred, failure, pair, node, type Node } from './helpers/nodes';

jest.setTimeout(120_000);
afterEach(closeAll);

const MINUTE = 60_000;

const numbered = (count: number, from = 0): Buffer[] =>
  Array.from({ length: count }, (_, index) => Buffer.from(String(from + index)));

/** Answers with how many events ran before each; its whole state is which they were. */
class Counting implements MeshDaemon {
  seen: string[] = [];

  process({ payload }: CausalEvent): Buffer | Promise<Buffer> {
    this.seen.push(payload.toString());
    return Buffer.from(`${String(this.seen.length - 1)}:${payload.toString()}`);
  }

  snapshot(): Buffer {
    return Buffer.from(this.seen.join(' '));
  }

  restore(state: Buffer): void {
    this.seen = state.length === 0 ? [] : state.toString().split(' ');
  }
}

class CountingLate extends Counting {
  override async process(event: CausalEvent): Promise<Buffer> {
    await Promise.resolve();
    return super.process(event);
  }
}

/** What a batch is answered that ran once, in order and without anything in between. */
const answered = (count: number): string[] => numbered(count).map((n) => `${String(n)}:${String(n)}`);

/** What it was answered: one output for each event. Texts, which are compared in no time. */
async function said(batch: Promise<Buffer[][]>): Promise<string[]> {
  return (await batch).map((outputs) => outputs.join());
}

/** A daemon that works on what it is sent when it is let go. */
async function stuck(
  rt: DaemonRuntime,
): Promise<{ originHash: bigint; seen: string[]; begun: Promise<void>; go: () => void }> {
  const [begun, gone] = [deferred(), deferred()];
  const seen: string[] = [];
  const daemon: MeshDaemon = {
    process: async ({ payload }) => {
      begun.resolve();
      await gone.promise;
      seen.push(payload.toString());
    },
  };
  const config = { callbackTimeoutMs: 10 * MINUTE, mailboxCapacity: 4 };
  const { originHash } = await rt.spawnWithDaemon(Identity.generate(), daemon, config);
  return { originHash, seen, begun: begun.promise, go: gone.resolve };
}

test('a batch has no deadline of its own: not the event that runs, nor those in the mailbox or behind it', async () => {
  const { rt } = await node();
  const { originHash, seen, begun, go } = await stuck(rt);
  const other = await stuck(rt);
  const batch = rt.deliverMany(originHash, numbered(20));
  const call = failure(rt.call(other.originHash, Buffer.from('call')));
  await Promise.all([begun, other.begun]);
  passTime(rt, 5 * MINUTE);
  // Time did pass: whoever has a deadline is told.
  expect(await call).toMatchObject({ code: 'ERR_DAEMON_CALL_TIMEOUT' });
  go();
  expect(await batch).toHaveLength(20);
  expect(seen).toEqual(numbered(20).map(String));
});

test('a batch for another node has no deadline either, nor one behind a call that takes long', async () => {
  const [a, b] = await pair();
  for (const first of [[], ['call']]) {
    const { originHash, seen, begun, go } = await stuck(b.rt);
    const before = first.map((text) => failure(a.rt.call(originHash, Buffer.from(text))));
    const batch = a.rt.deliverMany(originHash, numbered(20));
    await begun;
    passTime(a.rt, 5 * MINUTE);
    for (const call of before) expect(await call).toMatchObject({ code: 'ERR_DAEMON_CALL_TIMEOUT' });
    go();
    expect(await batch).toHaveLength(20);
    expect(seen).toEqual([...first, ...numbered(20).map(String)]);
  }
});

test('a batch whose events each take longer than a turn', async () => {
  const { rt } = await node();
  const counting = new Counting();
  const busy: MeshDaemon = {
    process: (event) => {
      const end = performance.now() + 15;
      while (performance.now() < end);
      return counting.process(event);
    },
  };
  const { originHash } = await rt.spawnWithDaemon(Identity.generate(), busy, { mailboxCapacity: 3 });
  expect(await said(rt.deliverMany(originHash, numbered(50)))).toEqual(answered(50));
});

describe.each([
  ['a synchronous', Counting],
  ['an asynchronous', CountingLate],
])('%s daemon', (_, Kind) => {
  const COUNT = 10_000;

  async function hosts(): Promise<[Node, Node]> {
    const [a, b] = await pair({ orchestrators: 'any' });
    for (const { rt } of [a, b]) rt.registerFactory('counting', () => new Kind());
    return [a, b];
  }

  test.each(['its host', 'the host it moves to'])('10 000 events from %s while it moves', async (from) => {
    const [a, b] = await hosts();
    const { originHash } = await a.rt.spawn('counting', Identity.generate());
    const batch = (from === 'its host' ? a : b).rt.deliverMany(originHash, numbered(COUNT));
    await (await a.rt.migrate(originHash, b.id)).wait();
    expect(await said(batch)).toEqual(answered(COUNT));
    expect(await a.rt.locate(originHash)).toBe(b.id);
  });

  test.each(['its host', 'the host it moves to'])('10 000 events from %s while it is frozen', async (from) => {
    const [a, b] = await hosts();
    const { originHash } = await a.rt.spawn('counting', Identity.generate());
    const transferred = gate(b.rt, 'SnapshotReady');
    const move = await a.rt.migrate(originHash, b.id);
    await transferred.reached;
    const batch = (from === 'its host' ? a : b).rt.deliverMany(originHash, numbered(COUNT));
    transferred.open();
    await move.wait();
    expect(await said(batch)).toEqual(answered(COUNT));
    expect(await a.rt.locate(originHash)).toBe(b.id);
  });

  test.each([true, false])('10 000 events that come while it is handed over, which succeeds: %s', async (succeeds) => {
    const [a, b] = await hosts();
    const { originHash } = await a.rt.spawn('counting', Identity.generate(), { mailboxCapacity: 100 });
    const told = gate(a.rt, 'CutoverNotify');
    const move = await a.rt.migrate(originHash, b.id);
    await told.reached;
    // From now on it has closed its mailbox, and the target has yet to say that it has all that was in it.
    const staged = gate(a.rt, 'ReplayComplete');
    told.open();
    await staged.reached;
    const batch = a.rt.deliverMany(originHash, numbered(COUNT));
    if (succeeds) {
      staged.open();
      await move.wait();
    } else {
      await move.cancel();
      staged.open();
    }
    expect(await said(batch)).toEqual(answered(COUNT));
    expect(await a.rt.locate(originHash)).toBe(succeeds ? b.id : a.id);
  });
});
