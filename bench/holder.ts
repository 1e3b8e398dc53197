// A daemon that holds bytes and answers with what it was sent.

import { createHash } from 'node:crypto';
import type { CausalEvent, MeshDaemon } from 'mesh-daemon';

export class Holder implements MeshDaemon {
  static readonly kind = 'holder';
  /** Asks for the length and the digest of its bytes. */
  static readonly DIGEST = Buffer.from('digest');

  /** What it answers to that. */
  static digestOf(state: Buffer): string {
    return `${state.length} ${createHash('sha256').update(state).digest('hex')}`;
  }

  #state: Buffer;

  constructor(state: Buffer = Buffer.of()) {
    this.#state = state;
  }

  process({ payload }: CausalEvent): Buffer {
    if (payload.equals(Holder.DIGEST)) return Buffer.from(Holder.digestOf(this.#state));
    return payload.length === 0 ? Buffer.from(String(this.#state.length)) : payload;
  }

  snapshot(): Buffer {
    return this.#state;
  }

  restore(state: Buffer): void {
    this.#state = state;
  }
}
