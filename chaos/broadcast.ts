// A publisher who never stops: numbered messages on a channel, and what its node said of each.

import type { MeshNode } from 'mesh-daemon';
import { payloadOf } from './journal';
import type { Published } from './messages';

/** The channel on which the trials publish. */
export const CHANNEL = 'broadcast';

const AT_ONCE = 16;

export class Broadcast {
  readonly #notes: Published[] = [];
  readonly #mesh: MeshNode;
  #waiting = 0;
  #running = false;
  #rested: (() => void) | undefined;

  constructor(mesh: MeshNode) {
    this.#mesh = mesh;
  }

  /** Opens the channel, on which nothing is published yet. */
  open(): void {
    this.#mesh.registerChannel({ name: CHANNEL, reliable: true });
  }

  start(): void {
    this.#running = true;
    const next = (): void => {
      if (!this.#running) return;
      if (this.#waiting < AT_ONCE) this.#publish();
      setTimeout(next, 2);
    };
    next();
  }

  /** Publishes no more; resolves with all notes when every report is there, or patience ends. */
  async settle(patienceMs: number): Promise<Published[]> {
    this.#running = false;
    if (this.#waiting > 0) {
      await new Promise<void>((resolve) => {
        this.#rested = resolve;
        setTimeout(resolve, patienceMs);
      });
    }
    return this.#notes;
  }

  #publish(): void {
    const number = this.#notes.length + 1;
    this.#notes.push({ number, report: { as: 'waiting' } });
    this.#waiting += 1;
    void this.#mesh
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
        this.#waiting -= 1;
        if (this.#waiting === 0) this.#rested?.();
      });
  }
}
