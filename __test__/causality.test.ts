// What links say of the past, as users see it.

import { Identity } from 'mesh-daemon';
import type { CausalEvent, DeliveredEvent } from 'mesh-daemon';
import { closeAll, pair } from './helpers/nodes';

afterEach(closeAll);

/** Answers, unless the payload is empty. */
const make = () => ({
  process: ({ payload }: CausalEvent) => (payload.length === 0 ? null : payload),
  snapshot: () => Buffer.alloc(0),
  restore: () => undefined,
});

const from = (originHash: bigint, text = 'x'): DeliveredEvent => ({
  originHash,
  sequence: 1n,
  payload: Buffer.from(text),
});

test('hazard 36, requirement 103: the horizon of a link has the event that it answers, and is the same after a move', async () => {
  const [a, b] = await pair();
  b.rt.registerFactory('k', make);
  for (const caller of [a, b]) {
    const { originHash } = await a.rt.spawnWithDaemon(Identity.generate(), make(), { kind: 'k' });
    const answer = async (event: DeliveredEvent): Promise<CausalEvent> => {
      const [output] = await caller.rt.deliverCausal(originHash, event);
      return output!;
    };
    const first = await answer(from(1n));
    expect(first.horizon).not.toBe(0n);
    const same = await answer(from(1n));
    expect(same.horizon).toBe(first.horizon);
    // What makes no output is observed and adds no link.
    expect(await caller.rt.deliverCausal(originHash, from(2n, ''))).toEqual([]);
    const wider = await answer(from(1n));
    expect(wider.sequence).toBe(same.sequence + 1n);
    expect(wider.horizon).not.toBe(same.horizon);
    expect(wider.horizon & same.horizon).toBe(same.horizon);
    await (await a.rt.migrate(originHash, b.id)).wait();
    const moved = await answer(from(2n));
    expect(moved.horizon).toBe(wider.horizon);
    expect(moved.sequence).toBe(wider.sequence + 1n);
    const last = await answer(from(3n));
    expect(last.horizon).not.toBe(moved.horizon);
    expect(last.horizon & moved.horizon).toBe(moved.horizon);
  }
});
