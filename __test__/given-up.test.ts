// Calls that are given up while their events stand in a batch behind one that runs.

import { Identity, type CausalEvent, type MeshDaemon } from 'mesh-daemon';
import { closeAll, failure, node } from './helpers/nodes';

afterEach(closeAll);

/** Each event ends when it is told to. */
class Held implements MeshDaemon {
  readonly seen: string[] = [];
  readonly #ends: (() => void)[] = [];
  #watch: (() => void) | undefined;

  process(event: CausalEvent): Promise<void> {
    this.seen.push(event.payload.toString());
    this.#watch?.();
    return new Promise((resolve) => this.#ends.push(resolve));
  }

  endOne(): void {
    this.#ends.shift()?.();
  }

  async hasSeen(count: number): Promise<void> {
    while (this.seen.length < count) await new Promise<void>((resolve) => (this.#watch = resolve));
  }
}

test('a call that is aborted in the tick in which the one in front of it ends does not run', async () => {
  const { rt } = await node();
  const daemon = new Held();
  rt.registerFactory('held', () => daemon);
  const { originHash: origin } = await rt.spawn('held', Identity.generate());
  const call = (name: string, options = {}): Promise<Buffer[]> => rt.call(origin, Buffer.from(name), options);
  const controller = new AbortController();
  // The first runs on its caller's stack; the others make a batch behind it.
  const before = [call('a'), call('b')];
  const aborted = failure(call('c', { signal: controller.signal }));
  const others = Promise.all([...before, call('d')]);
  await daemon.hasSeen(1);
  daemon.endOne();
  await daemon.hasSeen(2);
  const reason = new Error('enough');
  daemon.endOne();
  controller.abort(reason);
  expect(await aborted).toBe(reason);
  await daemon.hasSeen(3);
  expect(daemon.seen).toEqual(['a', 'b', 'd']);
  daemon.endOne();
  await others;
});
