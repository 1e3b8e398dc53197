// Channels that are subscribed to and left while their daemon is handed over: whoever is told finds it so.

import { Identity, type CausalEvent, type DaemonError, type MeshDaemon } from 'mesh-daemon';
import { RELIABLE } from './helpers/channels';
import { gate } from './helpers/gates';
import { bare, closeAll, pair } from './helpers/nodes';

afterEach(closeAll);

class Receiver implements MeshDaemon {
  process({ channel }: CausalEvent): Buffer {
    return Buffer.from(String(channel));
  }

  snapshot(): Buffer {
    return Buffer.from('s');
  }

  restore(): void {
    // Its state says nothing.
  }
}

test.each([true, false])('what is asked behind the closed mailbox, of a daemon that stays: %s', async (stays) => {
  const [source, target] = await pair();
  const publisher = await bare();
  const from = publisher.nodeId();
  for (const { mesh } of [source, target]) {
    await mesh.connect(publisher.localAddr());
    await publisher.accept(mesh.nodeId());
  }
  for (const name of ['old', 'new']) publisher.registerChannel({ name });
  for (const { rt } of [source, target]) rt.registerFactory('receiver', () => new Receiver());
  const { originHash } = await source.rt.spawn('receiver', Identity.generate());
  await source.rt.subscribeChannel(originHash, from, 'old');

  const told = gate(source.rt, 'CutoverNotify');
  const move = await source.rt.migrate(originHash, target.id);
  await told.reached;
  const staged = gate(source.rt, 'ReplayComplete');
  told.open();
  await staged.reached;
  const answer = (asked: Promise<void>): Promise<unknown> =>
    asked.then(
      () => 'done',
      (error: unknown) => (error as DaemonError).code,
    );
  const answers = [
    answer(source.rt.subscribeChannel(originHash, from, 'new')),
    answer(source.rt.unsubscribeChannel(originHash, from, 'old')),
  ];
  if (stays) await move.cancel();
  staged.open();
  await move.wait().catch(() => undefined);
  const expected = stays ? 'done' : 'ERR_DAEMON_NOT_FOUND';
  expect(await Promise.all(answers)).toEqual([expected, expected]);
  const { rt } = stays ? source : target;
  const channel = stays ? 'new' : 'old';
  while (rt.subscriptions(originHash).length === 0) await new Promise((done) => setImmediate(done));
  expect(rt.subscriptions(originHash)).toEqual([{ publisher: from, channel }]);
  const reports = ['old', 'new'].map((name) => publisher.publish(name, Buffer.from('x'), RELIABLE));
  const delivered = (await Promise.all(reports)).map((report) => report.delivered);
  expect(delivered).toEqual(stays ? [0, 1] : [1, 0]);
});
