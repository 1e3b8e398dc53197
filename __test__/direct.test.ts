// Events that run on their caller's stack are told to the native part later: nobody may be able to see that.

import { Identity, type CausalEvent, type MeshDaemon } from 'mesh-daemon';
import { closeAll, Counter, failure, node } from './helpers/nodes';

afterEach(closeAll);

const event = { originHash: 1n, sequence: 1n, payload: Buffer.from('x') };
const turn = (): Promise<void> => new Promise(setImmediate);

test('counters count an event as soon as its promise is there', async () => {
  const { rt } = await node();
  const failing: MeshDaemon = {
    process: ({ payload }) => {
      if (payload.length === 0) throw new Error('empty');
      return [payload, payload];
    },
  };
  const handle = await rt.spawnWithDaemon(Identity.generate(), failing);
  await rt.deliver(handle.originHash, event);
  expect(handle.stats()).toMatchObject({ eventsProcessed: 1n, eventsEmitted: 2n, errors: 0n });
  const empty = rt.deliver(handle.originHash, { ...event, payload: Buffer.of() });
  expect(await failure(empty)).toMatchObject({ code: 'ERR_DAEMON_PROCESS_FAILED' });
  expect(handle.stats()).toMatchObject({ eventsProcessed: 1n, eventsEmitted: 2n, errors: 1n });
});

test('hazard 36: outputs that their caller changed at once are on the chain as they were', async () => {
  const identity = Identity.generate();
  const links: bigint[] = [];
  for (const changes of [true, false]) {
    const { rt } = await node();
    const { originHash } = await rt.spawnWithDaemon(identity, { process: ({ payload }) => payload });
    const [output] = await rt.deliver(originHash, event);
    if (changes) output?.fill(0);
    await rt.deliver(originHash, { ...event, payload: Buffer.alloc(100_000, 1) });
    const [next] = await rt.deliverCausal(originHash, event);
    expect(next?.sequence).toBe(3n);
    links.push(next?.parentHash ?? 0n);
  }
  expect(links[0]).toBe(links[1]);
});

test('what is entered while an event runs goes before what is delivered after it', async () => {
  const { rt } = await node();
  const seen: string[] = [];
  const late: Promise<unknown>[] = [];
  const { originHash } = await rt.spawnWithDaemon(Identity.generate(), {
    process: ({ payload }) => {
      const text = payload.toString();
      seen.push(text);
      if (text === '1') late.push(rt.call(originHash, Buffer.from('2')), rt.send(originHash, Buffer.from('3')));
    },
  });
  const one = rt.call(originHash, Buffer.from('1'));
  // When the turn had no time left it only waits in the mailbox, and so do those behind it.
  const ran = late.length > 0;
  await Promise.all([one, rt.call(originHash, Buffer.from('4')), rt.call(originHash, Buffer.from('5'))]);
  await Promise.all(late);
  await rt.call(originHash, Buffer.from('6'));
  expect(seen).toEqual(ran ? ['1', '2', '3', '4', '5', '6'] : ['1', '4', '5', '2', '3', '6']);
});

test('an automatic snapshot is of the state after exactly so many events, awaited one by one', async () => {
  const { rt } = await node();
  const taken: number[] = [];
  let seen = 0;
  const handle = await rt.spawnWithDaemon(
    Identity.generate(),
    {
      process: () => {
        seen += 1;
      },
      snapshot: () => {
        taken.push(seen);
        return Buffer.of(seen);
      },
    },
    { autoSnapshotInterval: 3n },
  );
  for (let i = 0; i < 10; i += 1) await rt.deliver(handle.originHash, event);
  expect(taken).toEqual([3, 6, 9]);
});

test('numbers of events that this node emits follow each other without gaps', async () => {
  const { rt } = await node();
  const numbers: bigint[] = [];
  const keep = {
    process: ({ sequence }: CausalEvent) => {
      numbers.push(sequence);
    },
  };
  const [one, two] = [
    await rt.spawnWithDaemon(Identity.generate(), keep),
    await rt.spawnWithDaemon(Identity.generate(), keep),
  ];
  await one.call(event.payload);
  await two.call(event.payload);
  await rt.deliverMany(one.originHash, [event.payload, event.payload]);
  await turn();
  await two.call(event.payload);
  await Promise.all([one.call(event.payload), two.call(event.payload)]);
  expect(numbers.map((number) => number - (numbers[0] ?? 0n))).toEqual([0n, 1n, 2n, 3n, 4n, 5n, 6n]);
});

test('more daemons than are held at a time, in turns', async () => {
  const { rt } = await node();
  const daemons = await Promise.all(
    Array.from({ length: 100 }, () => rt.spawnWithDaemon(Identity.generate(), new Counter())),
  );
  for (let round = 1; round <= 3; round += 1) {
    for (const { originHash } of daemons) {
      expect(String(await rt.deliver(originHash, event))).toBe(`${String(round)}:x`);
    }
  }
  expect(daemons.map((daemon) => daemon.stats().eventsProcessed)).toEqual(daemons.map(() => 3n));
});

test('hazard 13: nothing more runs on a daemon whose runtime one of many events shut down', async () => {
  const { rt } = await node();
  let ran = 0;
  let stopped = false;
  let ranStopped = 0;
  let over: Promise<void> | undefined;
  const { originHash } = await rt.spawnWithDaemon(Identity.generate(), {
    process: () => {
      ran += 1;
      if (stopped) ranStopped += 1;
      if (ran === 3) over = rt.shutdown();
    },
    onStop: () => {
      stopped = true;
    },
  });
  const payloads = Array.from({ length: 10 }, () => event.payload);
  expect(await failure(rt.deliverMany(originHash, payloads))).toMatchObject({ code: 'ERR_DAEMON_SHUTTING_DOWN' });
  await over;
  expect([stopped, ranStopped]).toEqual([true, 0]);
});

test('deliveries that are refused reject, each with its own reason, and the others go on', async () => {
  const { rt } = await node();
  const gate = new Promise<void>((resolve) => setImmediate(resolve));
  const { originHash } = await rt.spawnWithDaemon(Identity.generate(), { process: () => gate }, { mailboxCapacity: 2 });
  const calls = Array.from({ length: 5 }, () => rt.call(originHash, event.payload));
  const results = await Promise.allSettled([...calls, rt.call(12_345n, event.payload, { timeoutMs: 10 })]);
  const codes = results.map((result) =>
    result.status === 'fulfilled' ? 'ok' : (result.reason as { code: string }).code,
  );
  // The third has room when the first one ran on this stack and does not wait.
  const full = 'ERR_DAEMON_MAILBOX_FULL';
  expect(codes.slice(0, 2)).toEqual(['ok', 'ok']);
  expect(['ok', full]).toContain(codes[2]);
  expect(codes.slice(3, 5)).toEqual([full, full]);
  expect(codes[5]).toMatch(/^ERR_DAEMON_/);
});
