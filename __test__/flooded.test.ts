// A daemon with more events than it takes, and others on the same session.

import { Identity } from 'mesh-daemon';
import { closeAll, Counter, node } from './helpers/nodes';
import { killAll, other } from './helpers/processes';

afterEach(async () => {
  killAll();
  await closeAll();
});

// More than the window of a stream, by count and by bytes.
const FLOOD = 1_500;
const large = Buffer.alloc(8 * 1_024);
const payload = Buffer.from('x');

test('while a daemon is flooded, calls of another one in its process and replies to that process do not wait', async () => {
  const here = await node();
  const there = await other();
  await here.mesh.connect(there.addr);
  const { originHash } = await here.rt.spawnWithDaemon(Identity.generate(), new Counter());
  const follower = Identity.generate();
  await there.spawn(follower, 'follower');
  const { originHash: flooded } = follower;
  let over = false;
  const flood = Promise.all(
    Array.from({ length: FLOOD }, (_, at) =>
      at % 2 === 0 ? here.rt.send(flooded, large) : here.rt.call(flooded, large).then(String),
    ),
  ).finally(() => {
    over = true;
  });
  // It takes an event only when the other one has taken a call: would that wait behind events, both stood still for ever.
  let answers = 0;
  const counting = async (): Promise<void> => {
    while (!over) {
      const [[answer], reply] = await Promise.all([here.rt.call(there.origin, payload), there.call(originHash)]);
      answers += 1;
      expect(answer?.toString()).toBe(`${String(answers)}:x:${String(there.child.pid)}`);
      expect(reply).toBe(`${String(answers)}:x`);
    }
  };
  const [said] = await Promise.all([flood, counting()]);
  expect(said).toEqual(Array.from({ length: FLOOD }, (_, at) => (at % 2 === 0 ? undefined : String(at))));
  expect(answers).toBeGreaterThanOrEqual(FLOOD);
});
