// A daemon that keeps what it is sent.

import type { CausalEvent, DaemonRuntime, MeshDaemon } from 'mesh-daemon';

/** Its whole state is the text of the events that it ran; it tells them when it is asked. */
export class Keeper implements MeshDaemon {
  seen: string[] = [];

  process({ payload }: CausalEvent): Buffer | undefined {
    const text = payload.toString();
    if (text === 'tell') return this.snapshot();
    this.seen.push(text);
    return undefined;
  }

  snapshot(): Buffer {
    return Buffer.from(JSON.stringify(this.seen));
  }

  restore(state: Buffer): void {
    this.seen = JSON.parse(state.toString()) as string[];
  }
}

/** What one has seen. */
export async function told(rt: DaemonRuntime, origin: bigint): Promise<string[]> {
  const [seen] = await rt.call(origin, Buffer.from('tell'));
  return JSON.parse(String(seen)) as string[];
}

/** The same, once it has seen so much. */
export async function seen(rt: DaemonRuntime, origin: bigint, count: number): Promise<string[]> {
  for (;;) {
    const all = await told(rt, origin);
    if (all.length >= count) return all;
    await new Promise((done) => setImmediate(done));
  }
}
