// Deadlines of moves that pass behind the hand-over: nothing is given up there, and the error says what is known.

import { Identity, type MigrationEvent } from 'mesh-daemon';
import { gate } from './helpers/gates';
import { closeAll, Counter, failure, pair, type Node } from './helpers/nodes';

afterEach(closeAll);

const payload = Buffer.from('x');

interface Moving {
  readonly a: Node;
  readonly b: Node;
  readonly origin: bigint;
  /** What failed, of either node's part. */
  readonly failed: MigrationEvent[];
}

async function setting(): Promise<Moving> {
  const [a, b] = await pair();
  const failed: MigrationEvent[] = [];
  for (const { rt } of [a, b]) {
    rt.registerFactory('counter', () => new Counter());
    rt.on('migration', (event) => {
      if (event.type === 'failed') failed.push(event);
    });
  }
  const { originHash: origin } = await a.rt.spawn('counter', Identity.generate());
  await a.rt.call(origin, payload);
  return { a, b, origin, failed };
}

/** The daemon has moved, whole, and no part of the move failed. */
async function expectMoved({ a, b, origin, failed }: Moving): Promise<void> {
  expect(await a.rt.call(origin, payload)).toEqual([Buffer.from('2:x')]);
  expect([a.rt.daemonCount(), b.rt.daemonCount()]).toEqual([0, 1]);
  expect([a.rt.migrations(), b.rt.migrations(), failed]).toEqual([[], [], []]);
}

test.each([
  ['ActivateTarget', 'b'],
  ['ActivateAck', 'a'],
] as const)('a deadline that passes with %s on its way: in doubt, and the move goes on', async (message, where) => {
  const setup = await setting();
  const held = gate(setup[where].rt, message);
  const move = await setup.a.rt.migrate(setup.origin, setup.b.id);
  await held.reached;
  expect(await failure(move.waitWithTimeout(10))).toMatchObject({ kind: 'timeout', outcome: 'unknown' });
  expect(move.phase()).toBe('cutover');
  // Whoever waits on, and asks again, hears the same.
  const patient = move.wait();
  expect(await failure(move.waitWithTimeout(0n))).toMatchObject({ kind: 'timeout', outcome: 'unknown' });
  held.open();
  await patient;
  await expectMoved(setup);
});

test('a deadline that passes while the last word is on its way: the daemon is known to be on the target', async () => {
  const setup = await setting();
  const { a, b, origin } = setup;
  const activate = gate(b.rt, 'ActivateTarget');
  const tooLate = gate(a.rt, 'TooLate');
  const move = await a.rt.migrate(origin, b.id);
  await activate.reached;
  const late = failure(move.waitWithTimeout(10));
  // The source was asked to give it up and has refused; before that is told, the move is over.
  await tooLate.reached;
  activate.open();
  expect(await late).toMatchObject({ kind: 'timeout', outcome: 'target', code: 'ERR_MIGRATION_TIMEOUT' });
  tooLate.open();
  await move.wait();
  await expectMoved(setup);
});

test('a deadline that is kept says nothing', async () => {
  const setup = await setting();
  const move = await setup.a.rt.migrate(setup.origin, setup.b.id);
  await move.waitWithTimeout(2n ** 40n);
  await move.waitWithTimeout(0);
  await expectMoved(setup);
});
