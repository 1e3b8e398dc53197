// A daemon that holds bytes and answers with what it was sent.

import type { CausalEvent, MeshDaemon } from 'mesh-daemon';

export class Holder implements MeshDaemon {
  static readonly kind = 'holder';
  #state: Buffer;

  constructor(state: Buffer = Buffer.of()) {
    this.#state = state;
  }

  process({ payload }: CausalEvent): Buffer {
    return payload.length === 0 ? Buffer.from(String(this.#state.length)) : payload;
  }

  snapshot(): Buffer {
    return this.#state;
  }

  restore(state: Buffer): void {
    this.#state = state;
  }
}
