// What a move tells of its progress: the events that wait for the daemon, those that the target has staged, and the time.

import { Identity, type CausalEvent, type MigrationProgress } from 'mesh-daemon';
import { gate } from './helpers/gates';
import { any, closeAll, Counter, deferred, pair, type Node } from './helpers/nodes';

afterEach(closeAll);

/** Its events end once they may. */
class Slow extends Counter {
  readonly begun = deferred();
  readonly finish = deferred();

  override process(event: CausalEvent): Buffer {
    const output = super.process(event);
    this.begun.resolve();
    return any(this.finish.promise.then(() => output));
  }
}

function expectRising(values: readonly (number | bigint)[]): void {
  expect(values).toEqual([...values].sort((one, other) => (one < other ? -1 : one > other ? 1 : 0)));
}

test('progress counts every event that waits and every one that is staged, and its clock is that of the move', async () => {
  const [a, b] = await pair();
  const daemon = new Slow();
  b.rt.registerFactory('counter', () => new Counter());
  const { originHash } = await a.rt.spawnWithDaemon(Identity.generate(), daemon, { kind: 'counter' });
  const payload = Buffer.from('x');
  /** Resolves when so many more events are in the mailbox. */
  const wait = async ({ rt }: Node, count: number): Promise<void> => {
    await Promise.all(Array.from({ length: count }, () => rt.send(originHash, payload)));
  };
  const running = a.rt.call(originHash, payload);
  await daemon.begun.promise;
  await wait(a, 20);
  await wait(b, 10);

  const points = ['TakeSnapshot', 'RestoreComplete', 'ReplayComplete', 'CutoverNotify'];
  const [freeze, restored, replayed, cutover] = points.map((message) => gate(a.rt, message));
  const asked = performance.now();
  const move = await a.rt.migrate(originHash, b.id);
  const began = performance.now();
  const all: MigrationProgress[] = [];
  const told = (async () => {
    for await (const one of move.progress()) all.push(one);
  })();
  await freeze?.reached;
  freeze?.open();
  daemon.finish.resolve();
  await restored?.reached;
  // Some may have been handed out before it froze; what ran there does not wait.
  const frozen = 31 - daemon.seen;
  await wait(a, 2);
  await wait(b, 3);
  restored?.open();
  await replayed?.reached;
  // What the source says on its way is told; the target's word of it is held.
  while (all.at(-1)?.phase !== 'replay') await new Promise((resolve) => setImmediate(resolve));
  replayed?.open();
  await cutover?.reached;
  await wait(a, 3);
  const opened = performance.now();
  cutover?.open();
  await move.wait();
  const ended = performance.now();
  await told;
  expect(await running).toEqual([Buffer.from('1:x')]);
  expect(await a.rt.call(originHash, payload)).toEqual([Buffer.from('40:x')]);

  expect(frozen).toBeGreaterThan(0);
  const counts = all.map(({ eventsBuffered: waiting, eventsReplayed: staged }) => ({ waiting, staged }));
  const first = BigInt(frozen + 5);
  const last = BigInt(frozen + 8);
  expect(counts[0]).toEqual({ waiting: 0n, staged: 0n });
  expect(counts).toContainEqual({ waiting: first, staged: 0n });
  expect(counts).toContainEqual({ waiting: first, staged: first });
  expect(counts.at(-1)).toEqual({ waiting: last, staged: last });
  expectRising(counts.map(({ waiting }) => waiting));
  expectRising(counts.map(({ staged }) => staged));
  for (const { waiting, staged } of counts) expect(staged).toBeLessThanOrEqual(waiting);

  const times = all.map(({ elapsedMs }) => elapsedMs);
  expectRising(times);
  expect(times[0]).toBeGreaterThanOrEqual(0);
  // It was told of the last ones behind the gate, and of everything before the end.
  expect(times.at(-1)).toBeGreaterThan(opened - began);
  expect(times.at(-1)).toBeLessThan(ended - asked);
  expectRising(all.map(({ bytesSent }) => bytesSent));
  expect(all.at(-1)?.bytesSent).toBe(all.at(-1)?.bytesTotal);
});
