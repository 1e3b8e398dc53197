// What goes on across a move as if there had been none: the order of events, whoever emitted them, and the daemon's chain.

import { Identity, type CausalEvent } from 'mesh-daemon';
import { gate } from './helpers/gates';
import { closeAll, Counter, node, pair, type Node } from './helpers/nodes';

afterEach(closeAll);

test('hazard 37: two emitters with equal sequences, interleaved during the move, both run, in the order of their arrival', async () => {
  const [a, b] = await pair();
  const seen: [bigint, bigint][] = [];
  const make = () => ({
    process({ originHash, sequence, payload: text }: CausalEvent) {
      seen.push([originHash, sequence]);
      return text;
    },
    snapshot: () => Buffer.of(),
    restore: () => undefined,
  });
  for (const { rt } of [a, b]) rt.registerFactory('log', make);
  const { originHash } = await a.rt.spawn('log', Identity.generate());
  const sent: [bigint, bigint][] = [];
  const answers: Promise<Buffer[]>[] = [];
  const emit = (): void => {
    const sequence = BigInt(sent.length >> 1);
    for (const emitter of [11n, 12n]) {
      sent.push([emitter, sequence]);
      answers.push(a.rt.deliver(originHash, { originHash: emitter, sequence, payload: Buffer.from(String(emitter)) }));
    }
  };
  const held = ['RestoreComplete', 'CutoverNotify'].map((message) => gate(a.rt, message));
  const activate = gate(b.rt, 'ActivateTarget');
  emit();
  await Promise.all(answers);
  const move = await a.rt.migrate(originHash, b.id);
  // Before it is staged, behind that, and behind the hand-over.
  for (const { reached, open } of [...held, activate]) {
    await reached;
    for (let n = 0; n < 40; n += 1) emit();
    await new Promise((resolve) => setImmediate(resolve));
    open();
  }
  await move.wait();
  emit();
  expect((await Promise.all(answers)).map(([answer]) => BigInt(String(answer)))).toEqual(
    sent.map(([emitter]) => emitter),
  );
  expect(seen).toEqual(sent);
  expect(b.rt.daemonCount()).toBe(1);
});

test('hazard 36: chain and stats go on across the move, as if there had been none', async () => {
  const [a, b] = await pair();
  // The same daemon of another mesh, which lives through the same and stays where it is.
  const still = await node({}, { mesh: { psk: '22'.repeat(32) } });
  for (const { rt } of [a, b, still]) rt.registerFactory('counter', () => new Counter());
  const identity = Identity.generate();
  const origin = identity.originHash;
  const handle = await a.rt.spawn('counter', identity);
  await still.rt.spawn('counter', identity);
  const inputs = [1, 2, 3, 4, 5].map((n) => ({ originHash: 4n, sequence: BigInt(n), payload: Buffer.from(String(n)) }));
  const run = async ({ rt }: Node, events: typeof inputs): Promise<unknown[]> => {
    const links = [];
    for (const event of events) links.push(...(await rt.deliverCausal(origin, event)));
    // Of what they say themselves, not of objects that all look alike.
    return links.map(({ originHash, horizon, sequence, parentHash, payload: output }) => {
      return { originHash, horizon, sequence, parentHash, output: output.toString() };
    });
  };
  const links = await run(a, inputs.slice(0, 2));
  expect(handle.stats()).toMatchObject({ eventsProcessed: 2n, eventsEmitted: 2n, snapshotsTaken: 0n });
  await (await a.rt.migrate(origin, b.id)).wait();
  links.push(...(await run(a, inputs.slice(2))));
  // Each names its origin, number, horizon, and the hash of the one before it.
  expect(links).toHaveLength(5);
  expect(links).toEqual(await run(still, inputs));
  // A handle is of the node that spawned it, so what the target counted is read through a snapshot of it.
  const snapshot = await b.rt.snapshot(origin);
  await b.rt.stop(origin);
  const again = await b.rt.spawnFromSnapshot('counter', identity, snapshot!);
  expect(again.stats()).toMatchObject({ eventsProcessed: 5n, eventsEmitted: 5n, errors: 0n, snapshotsTaken: 2n });
});
