// The daemon of another process that does there what only that process can.

import type { CausalEvent, DaemonRuntime, MeshDaemon } from 'mesh-daemon';

export class Steward implements MeshDaemon {
  static move(origin: bigint, target: bigint): Buffer {
    return Buffer.from(`move ${origin} ${target}`);
  }

  static stop(origin: bigint): Buffer {
    return Buffer.from(`stop ${origin}`);
  }

  readonly #runtime: DaemonRuntime;

  constructor(runtime: DaemonRuntime) {
    this.#runtime = runtime;
  }

  async process({ payload }: CausalEvent): Promise<void> {
    const [order, origin = '', target = ''] = payload.toString().split(' ');
    if (order === 'stop') await this.#runtime.stop(BigInt(origin));
    else await (await this.#runtime.migrate(BigInt(origin), BigInt(target))).wait();
  }
}
