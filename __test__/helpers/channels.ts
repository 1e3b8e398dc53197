// A publisher, nodes that have sessions with it, and what they read.

import type { ChannelMessage, MeshNode, MeshNodeOptions, Subscription } from 'mesh-daemon';
import { bare } from './nodes';

/** How a message is published that is to be acknowledged. */
export const RELIABLE = { reliability: 'reliable' } as const;

/** A publisher and those who have a session with it. */
export async function star(count: number, options: Partial<MeshNodeOptions> = {}): Promise<[MeshNode, ...MeshNode[]]> {
  const publisher = await bare(options);
  const others = await Promise.all(Array.from({ length: count - 1 }, () => bare(options)));
  for (const other of others) {
    await other.connect(publisher.localAddr());
    await publisher.accept(other.nodeId());
  }
  return [publisher, ...others];
}

/** A publisher, and one who has a session with it. */
export async function publisherAndSubscriber(options: Partial<MeshNodeOptions> = {}): Promise<[MeshNode, MeshNode]> {
  return (await star(2, options)) as [MeshNode, MeshNode];
}

/** The next messages; the subscription goes on. */
export async function take(subscription: Subscription, count: number): Promise<ChannelMessage[]> {
  const taken: ChannelMessage[] = [];
  for await (const message of subscription) {
    taken.push(message);
    if (taken.length === count) break;
  }
  return taken;
}
