// A runtime with one echo daemon in this process, and the same handler for the bare mechanisms.

import { randomBytes } from 'node:crypto';
import { DaemonRuntime, Identity, MeshNode, type CausalEvent, type MeshDaemon } from 'mesh-daemon';
import { check } from './measure';

export const PAYLOAD = Buffer.alloc(64, 7);

export class Echo implements MeshDaemon {
  process({ payload }: CausalEvent): Buffer {
    return payload;
  }
}

export class AsyncEcho implements MeshDaemon {
  // eslint-disable-next-line @typescript-eslint/require-await -- an async function is what is measured
  async process({ payload }: CausalEvent): Promise<Buffer> {
    return payload;
  }
}

export interface Local {
  mesh: MeshNode;
  runtime: DaemonRuntime;
  end: () => Promise<void>;
}

export async function local(psk: Buffer | string = randomBytes(32)): Promise<Local> {
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
  const runtime = DaemonRuntime.create(mesh);
  await mesh.start();
  runtime.start();
  return {
    mesh,
    runtime,
    end: async () => {
      await runtime.shutdown();
      await mesh.shutdown();
    },
  };
}

/** With a daemon; the address of which comes back. */
export async function localDaemon(daemon: MeshDaemon): Promise<Local & { origin: bigint }> {
  const node = await local();
  const { originHash } = await node.runtime.spawnWithDaemon(Identity.generate(), daemon);
  return { ...node, origin: originHash };
}

export function checkEcho(outputs: readonly Buffer[]): void {
  check(outputs.length === 1 && outputs[0]?.length === PAYLOAD.length, 'the echo is one payload of the same length');
}
