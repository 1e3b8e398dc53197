// The hand-over of a move between real nodes (hazards 22, 58 and 65).

import { Identity } from 'mesh-daemon';
import type { CausalEvent, DaemonContext, MeshDaemon } from 'mesh-daemon';
import { gate } from './helpers/gates';
import { closeAll, Counter, deferred, failure, node, type Node } from './helpers/nodes';

afterEach(closeAll);

/** Nodes that are connected with each other, take in any daemon and let each other drive. */
async function meshOf(count: number): Promise<Node[]> {
  const options = { acceptMigrations: true, orchestrators: 'any' } as const;
  const nodes = await Promise.all(Array.from({ length: count }, () => node(options)));
  for (const [at, one] of nodes.entries()) {
    for (const other of nodes.slice(at + 1)) {
      await one.mesh.connect(other.mesh.localAddr());
      await other.mesh.accept(one.id);
    }
    one.rt.registerFactory('counter', () => new Counter());
  }
  return nodes;
}

/** Signs, so that whoever hosts it shows whether it has the key. */
class Signer implements MeshDaemon {
  process({ payload }: CausalEvent, context: DaemonContext): Buffer {
    return context.sign(payload);
  }

  snapshot(): Buffer {
    return Buffer.from('s');
  }

  restore(): void {
    // Its state says nothing.
  }
}

test('hazard 22: a local and a remote source take the same path, with the key sealed on both', async () => {
  const [a, b, c] = (await meshOf(3)) as [Node, Node, Node];
  for (const { rt } of [a, b, c]) rt.registerFactory('signer', () => new Signer());
  const identity = Identity.generate();
  const { originHash } = await a.rt.spawn('signer', identity);
  const message = Buffer.from('m');
  // By itself, by a third node, by the target, and each time with the same phases.
  const moves = [
    { by: a, from: a, to: b },
    { by: c, from: b, to: a },
    { by: b, from: a, to: b },
  ];
  for (const { by, from, to } of moves) {
    const move = await by.rt.startMigration(originHash, from.id, to.id);
    const phases: string[] = [];
    const told = (async () => {
      for await (const phase of move.phases()) phases.push(phase);
    })();
    await move.wait();
    await told;
    expect(phases).toEqual(['snapshot', 'transfer', 'restore', 'replay', 'cutover', 'complete']);
    const [signature] = await c.rt.call(originHash, message);
    expect(Identity.verify(identity.entityId, message, signature!)).toBe(true);
  }
});

/** Works on nothing before it is let go. */
class Held implements MeshDaemon {
  readonly seen: number[] = [];

  constructor(private readonly gate: Promise<void>) {}

  async process(event: CausalEvent): Promise<Buffer> {
    await this.gate;
    this.seen.push(event.payload.readUInt32LE());
    return event.payload;
  }

  snapshot(): Buffer {
    return Buffer.from(JSON.stringify(this.seen));
  }

  restore(state: Buffer): void {
    this.seen.push(...(JSON.parse(state.toString()) as number[]));
  }
}

test('hazard 58: a full frozen mailbox holds back no reply, no acknowledgement and no word to go live', async () => {
  const [a, b, c] = (await meshOf(3)) as [Node, Node, Node];
  const free = Promise.resolve();
  b.rt.registerFactory('held', () => new Held(free));
  const first = deferred();
  const { originHash } = await a.rt.spawnWithDaemon(Identity.generate(), new Held(first.promise), {
    kind: 'held',
    mailboxCapacity: 4,
  });
  const other = await a.rt.spawn('counter', Identity.generate());
  const back = await b.rt.spawn('counter', Identity.generate());
  const number = (n: number): Buffer => {
    const payload = Buffer.alloc(4);
    payload.writeUInt32LE(n);
    return payload;
  };
  // Far more than the mailbox takes: one runs, some wait in it, the rest waits with its senders.
  const calls = Array.from({ length: 60 }, (_, n) => (n % 2 === 0 ? b : c).rt.call(originHash, number(n)));
  await c.rt.call(other.originHash, number(0));

  const cutover = gate(b.rt, 'ActivateTarget');
  const move = await a.rt.migrate(originHash, b.id);
  first.resolve();
  await cutover.reached;
  // It stands still with its mailbox full: all else on the same sessions goes on.
  for (let n = 1; n <= 20; n += 1) {
    await Promise.all([
      b.rt.call(other.originHash, number(n)),
      c.rt.call(other.originHash, number(n)),
      a.rt.call(back.originHash, number(n)),
      c.rt.send(back.originHash, number(n)),
    ]);
  }
  cutover.open();
  await move.wait();
  const answers = (await Promise.all(calls)).map(([answer]) => answer?.readUInt32LE());
  expect(answers).toEqual(Array.from({ length: 60 }, (_, n) => n));
  expect(b.rt.daemonCount()).toBe(2);
});

test('hazard 65: a daemon is moved on at once, again and again, and by whoever has it', async () => {
  const nodes = (await meshOf(3)) as [Node, Node, Node];
  const { originHash } = await nodes[0].rt.spawn('counter', Identity.generate());
  let count = 0;
  for (let hop = 0; hop < 30; hop += 1) {
    const [from, to] = [nodes[hop % 3], nodes[(hop + 1) % 3]] as [Node, Node];
    // The former host may still clean up: that is waited for, not failed on.
    const move = await from.rt.migrate(originHash, to.id);
    await move.wait();
    const [answer] = await from.rt.call(originHash, Buffer.from('x'));
    count += 1;
    expect(answer?.toString()).toBe(`${String(count)}:x`);
  }
});

test('hazard 65: moving it on before its former host has cleaned up waits for that', async () => {
  const [a, b, c] = (await meshOf(3)) as [Node, Node, Node];
  const { originHash } = await a.rt.spawn('counter', Identity.generate());
  const cleaned = gate(b.rt, 'CleanupComplete');
  const first = await a.rt.migrate(originHash, b.id);
  await first.wait();
  await cleaned.reached;
  const second = b.rt.migrate(originHash, c.id);
  // It lives, and answers, but does not leave.
  await b.rt.call(originHash, Buffer.from('x'));
  expect([b.rt.daemonCount(), c.rt.daemonCount()]).toEqual([1, 0]);
  cleaned.open();
  await (await second).wait();
  expect((await a.rt.call(originHash, Buffer.from('y')))[0]?.toString()).toBe('2:y');
  expect([b.rt.daemonCount(), c.rt.daemonCount()]).toEqual([0, 1]);
});

test('a daemon is moved 16 times without its key; then nobody would believe the next host, and it stays', async () => {
  const [a, b] = (await meshOf(2)) as [Node, Node];
  const { originHash } = await a.rt.spawn('counter', Identity.generate());
  const move = async (moves: number, transportIdentity: boolean): Promise<void> => {
    const [from, to] = moves % 2 === 0 ? [a, b] : [b, a];
    await (await from.rt.migrate(originHash, to.id, { transportIdentity })).wait();
  };
  for (let moves = 0; moves < 16; moves += 1) await move(moves, false);
  const error = await failure(move(16, false));
  expect(error).toMatchObject({ kind: 'identity-transport-failed', outcome: 'source' });
  expect(error.detail).toContain("hand-overs without the daemon's key, of which there may be 1 to 16");
  expect(await a.rt.call(originHash, Buffer.from('x'))).toEqual([Buffer.from('1:x')]);
  expect([a.rt.daemonCount(), b.rt.daemonCount()]).toEqual([1, 0]);
});
