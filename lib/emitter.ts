/** A typed emitter: what a user sees of an `EventEmitter`, without the means to emit. */

import { EventEmitter } from 'node:events';

type Listener = (event: unknown) => void;

/**
 * Lets others listen. Listeners run in the order they were added, on the thread that added them; a listener that throws
 * does so as an uncaught exception. Listening keeps no process alive.
 *
 * @public
 */
export abstract class Emitter<Events extends object> {
  readonly #emitter = new EventEmitter();

  /** Calls `listener` at every event of this name. */
  on<Name extends keyof Events & string>(name: Name, listener: (event: Events[Name]) => void): this {
    this.#emitter.on(name, listener as Listener);
    return this;
  }

  /** Calls `listener` at the next event of this name only. */
  once<Name extends keyof Events & string>(name: Name, listener: (event: Events[Name]) => void): this {
    this.#emitter.once(name, listener as Listener);
    return this;
  }

  /** Takes one `on` or `once` back. */
  off<Name extends keyof Events & string>(name: Name, listener: (event: Events[Name]) => void): this {
    this.#emitter.off(name, listener as Listener);
    return this;
  }

  /** @internal */
  static emit<Events extends object, Name extends keyof Events & string>(
    emitter: Emitter<Events>,
    name: Name,
    event: Events[Name],
  ): void {
    for (const listener of emitter.#emitter.rawListeners(name)) {
      try {
        Reflect.apply(listener, emitter, [event]);
      } catch (error) {
        process.nextTick(() => {
          throw error;
        });
      }
    }
  }
}
