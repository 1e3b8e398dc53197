// A daemon with state, and a node that can host it. README.md shows this file.

import { DaemonRuntime, MeshNode, type CausalEvent, type MeshDaemon } from 'mesh-daemon';

export class Counter implements MeshDaemon {
  #total = 0;

  process({ payload }: CausalEvent) {
    this.#total += Number(payload.toString());
    return Buffer.from(String(this.#total));
  }

  snapshot() {
    return Buffer.from(String(this.#total));
  }

  restore(state: Buffer) {
    this.#total = Number(state.toString());
  }
}

export async function startNode(psk: string) {
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk });
  const runtime = DaemonRuntime.create(mesh, { acceptMigrations: true });
  runtime.registerFactory('counter', () => new Counter());
  await mesh.start();
  runtime.start();
  return { mesh, runtime };
}
