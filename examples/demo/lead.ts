// The part of the first process: starts the hosts, streams the text, moves the counter, compares.

import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { DaemonRuntime, MeshNode } from 'mesh-daemon';
import { ENOUGH_HOPS, Hops } from './hops';
import { Hosts } from './hosts';
import { Progress } from './progress';
import { LineStream } from './stream';
import { judge, type Evidence } from './verdict';
import { WordCount, type WordReport } from './word-count';
import type { Text } from './words';

/** What a shell gives a process that a signal ended. */
const ENDED_BY = { SIGINT: 130, SIGTERM: 143 } as const;

/** Runs the demo on a text and resolves with the exit status. Whatever happens, the hosts end with it. */
export async function lead(program: string, text: Text): Promise<number> {
  const interrupted = Promise.race([
    once(process, 'SIGINT').then(() => ENDED_BY.SIGINT),
    once(process, 'SIGTERM').then(() => ENDED_BY.SIGTERM),
  ]);
  const psk = randomBytes(32).toString('hex');
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
  const hosts = new Hosts();
  try {
    return await Promise.race([demo(program, psk, mesh, hosts, text), hosts.failed, interrupted]);
  } catch (error) {
    await hosts.stop();
    // A host that was only starting dies of the same Ctrl-C, and may be heard of first.
    return await Promise.race([interrupted, Promise.reject(error as Error)]);
  } finally {
    await hosts.stop();
    await mesh.shutdown();
  }
}

async function demo(program: string, psk: string, mesh: MeshNode, hosts: Hosts, text: Text): Promise<number> {
  const [first, second] = await hosts.start(program, { psk, lead: String(mesh.nodeId()) });
  const runtime = DaemonRuntime.create(mesh);
  await mesh.start();
  runtime.start();
  await Promise.all([first, second].map(({ card }) => mesh.connect(card.addr, card.publicKey)));

  const counter = BigInt(first.card.counter ?? 0);
  const evidence = await streamAndHop(runtime, counter, text, new Hops(runtime, counter, [first, second]));
  return (await judge(evidence)) ? 0 : 1;
}

async function streamAndHop(runtime: DaemonRuntime, counter: bigint, text: Text, hops: Hops): Promise<Evidence> {
  const stream = new LineStream(runtime, counter);
  const progress = new Progress(text, stream, hops);
  const over = new AbortController();
  let readings = 0;
  async function* lines(): AsyncGenerator<string> {
    do {
      if (readings === 1)
        console.log(`${text.file} ended after ${hops.live} hops; it is read again until there are ${ENOUGH_HOPS}.`);
      yield* text.lines();
      readings += 1;
    } while (stream.sent > 0 && hops.live < ENOUGH_HOPS);
  }
  const sending = stream.send(lines()).finally(() => {
    over.abort();
  });
  try {
    await Promise.all([sending, hops.run(stream, over.signal)]);
  } finally {
    progress.end();
  }
  const [answer = Buffer.of()] = await runtime.call(counter, WordCount.askForReport);
  return { text, readings, stream, hops, report: JSON.parse(answer.toString()) as WordReport };
}
