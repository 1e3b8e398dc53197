// The room: a daemon that sends what is said to the daemons of all members, on whatever nodes they are.

import { type CausalEvent, type DaemonContext, type MeshDaemon } from 'mesh-daemon';
import { decode, encode, type ToMember, type ToRoom } from './messages';

export class Room implements MeshDaemon {
  readonly #members = new Set<bigint>();

  async process({ payload }: CausalEvent, context: DaemonContext): Promise<void> {
    const message = decode(payload) as ToRoom;
    if (message.type === 'join') {
      this.#members.add(BigInt(message.member));
      await this.#tell(context, `* ${message.name} came in (${this.#members.size} here)`);
    } else {
      await this.#tell(context, `${message.name}: ${message.text}`);
    }
  }

  async #tell(context: DaemonContext, line: string): Promise<void> {
    const payload = encode({ line } satisfies ToMember);
    await Promise.all(
      [...this.#members].map((member) =>
        context.send(member, payload).catch(() => {
          // Its process has ended.
          this.#members.delete(member);
        }),
      ),
    );
  }
}
