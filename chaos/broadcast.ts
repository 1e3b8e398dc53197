// A publisher who never stops: numbered messages on a channel, and what its node said of each.

import type { MeshNode } from 'mesh-daemon';
import { payloadOf } from './journal';
import type { Published } from './messages';
import { Pace } from './pace';

/** The channel on which the trials publish. */
export const CHANNEL = 'broadcast';

const AT_ONCE = 16;

export class Broadcast {
  readonly #notes: Published[] = [];
  readonly #mesh: MeshNode;
  readonly #pace = new Pace(AT_ONCE, 2);

  constructor(mesh: MeshNode) {
    this.#mesh = mesh;
  }

  /** Opens the channel, on which nothing is published yet. */
  open(): void {
    this.#mesh.registerChannel({ name: CHANNEL, reliable: true });
  }

  start(): void {
    this.#pace.start(() => this.#publish());
  }

  /** Publishes no more; resolves with all notes when every report is there, or patience ends. */
  async settle(patienceMs: number): Promise<Published[]> {
    await this.#pace.rest(patienceMs);
    return this.#notes;
  }

  async #publish(): Promise<void> {
    const number = this.#notes.length + 1;
    this.#notes.push({ number, report: { as: 'waiting' } });
    await this.#mesh
      .publish(CHANNEL, payloadOf(number))
      .then(
        ({ attempted, delivered, errors }): Published['report'] => ({
          as: 'told',
          attempted,
          delivered,
          errors: errors.map(({ code }) => code),
        }),
        (error: unknown): Published['report'] => ({ as: 'rejected', error: String(error) }),
      )
      .then((report) => {
        this.#notes[number - 1] = { number, report };
      });
  }
}
