// The daemon that moves the other one. Unless a runtime's `orchestrators` say otherwise, only the node where a daemon
// lives may move it, so each host has a porter, and the first process calls the porter of the present host: over the mesh, like any daemon.

import { type CausalEvent, type DaemonRuntime, type MeshDaemon } from 'mesh-daemon';

/** Each event is `<origin of the daemon> <id of the node that it is to move to>`; answers when the move is over. */
export class Porter implements MeshDaemon {
  static order(origin: bigint, target: bigint): Buffer {
    return Buffer.from(`${origin} ${target}`);
  }

  readonly #runtime: DaemonRuntime;

  constructor(runtime: DaemonRuntime) {
    this.#runtime = runtime;
  }

  async process({ payload }: CausalEvent): Promise<void> {
    const [origin = '', target = ''] = payload.toString().split(' ');
    const migration = await this.#runtime.migrate(BigInt(origin), BigInt(target));
    await migration.wait();
  }
}
