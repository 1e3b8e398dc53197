// The Buffer that `snapshot` returns belongs to the runtime while it is read (hazard 70).

import { Identity } from 'mesh-daemon';
import type { MeshDaemon } from 'mesh-daemon';
import { closeAll, failure, pair } from './helpers/nodes';

afterEach(closeAll);

/** Goes on writing into what it returned from `snapshot`, turn by turn. */
class Careless implements MeshDaemon {
  careless = false;
  taken = 0;

  constructor(public state: Buffer) {}

  process(): Buffer {
    return Buffer.from([this.state[0] ?? 0, this.state.at(-1) ?? 0]);
  }

  snapshot(): Buffer {
    this.taken += 1;
    this.scribble(this.taken);
    return this.state;
  }

  restore(state: Buffer): void {
    this.state = state;
  }

  scribble(during: number): void {
    if (!this.careless || during !== this.taken) return;
    this.state.fill((this.state[0] ?? 0) + 1);
    setImmediate(() => {
      this.scribble(during);
    });
  }
}

test('hazard 70: a state that is changed while it is read fails that move and that snapshot, and nothing else', async () => {
  const [a, b] = await pair();
  const made: Careless[] = [];
  const daemon = new Careless(Buffer.alloc(32 * 1024 * 1024, 1));
  b.rt.registerFactory('careless', () => {
    const one = new Careless(Buffer.alloc(0));
    made.push(one);
    return one;
  });
  const config = { kind: 'careless', autoSnapshotInterval: 3n };
  const handle = await a.rt.spawnWithDaemon(Identity.generate(), daemon, config);

  daemon.careless = true;
  const move = await a.rt.migrate(handle.originHash, b.id);
  expect(await failure(move.wait())).toMatchObject({
    kind: 'state-failed',
    outcome: 'source',
    detail: expect.stringContaining('changed while it was read') as string,
  });
  expect(await failure(handle.snapshot())).toMatchObject({
    code: 'ERR_DAEMON_SNAPSHOT_FAILED',
    message: expect.stringContaining('changed while it was read') as string,
  });
  for (let count = 0; count < 3; count += 1) await handle.call(Buffer.alloc(1));
  // Behind the automatic snapshot.
  await handle.call(Buffer.alloc(1));
  expect(daemon.taken).toBe(3);
  expect(handle.lastSnapshot()).toBeNull();
  expect([a.rt.daemonCount(), b.rt.daemonCount()]).toEqual([1, 0]);

  daemon.careless = false;
  daemon.state.fill(7);
  expect(await handle.snapshot()).toBeInstanceOf(Buffer);
  await (await a.rt.migrate(handle.originHash, b.id)).wait();
  expect(await a.rt.call(handle.originHash, Buffer.alloc(1))).toEqual([Buffer.from([7, 7])]);
  expect(made.at(-1)?.state.equals(daemon.state)).toBe(true);
});
