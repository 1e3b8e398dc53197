// The room: a daemon that sends what is said to the daemons of all members, on whatever nodes they are.

import { type CausalEvent, type DaemonContext, type MeshDaemon } from 'mesh-daemon';
import { decode, encode, type ToMember, type ToRoom } from './messages';

export class Room implements MeshDaemon {
  readonly #members = new Set<bigint>();

  process({ payload }: CausalEvent, context: DaemonContext): void {
    const message = decode(payload) as ToRoom;
    if (message.type === 'join') {
      this.#members.add(BigInt(message.member));
      this.#tell(context, `* ${message.name} came in (${this.#members.size} here)`);
    } else {
      this.#tell(context, `${message.name}: ${message.text}`);
    }
  }

  #tell(context: DaemonContext, line: string): void {
    const payload = encode({ line } satisfies ToMember);
    for (const member of this.#members) {
      // Not awaited: one whose process died is known to be gone only after a while, and holds up nobody meanwhile.
      context.send(member, payload).catch(() => this.#members.delete(member));
    }
  }
}
