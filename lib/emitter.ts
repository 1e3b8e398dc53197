/** A typed emitter: what a user sees of an `EventEmitter`, without the means to emit. */

import { EventEmitter } from 'node:events';
import { callable, choice, type Refuse } from './validate/index';

type Listener = (event: unknown) => void;

/**
 * Lets others listen. Listeners run in the order they were added, on the thread that added them; a listener that throws
 * does so as an uncaught exception. Listening keeps no process alive.
 *
 * @public
 */
export abstract class Emitter<Events extends object> {
  readonly #emitter = new EventEmitter();
  readonly #refuse: Refuse;
  readonly #names: readonly string[];

  /** @internal */
  constructor(refuse: Refuse, names: Readonly<Record<keyof Events & string, true>>) {
    this.#refuse = refuse;
    this.#names = Object.keys(names);
  }

  /** Calls `listener` at every event of this name. */
  on<Name extends keyof Events & string>(name: Name, listener: (event: Events[Name]) => void): this {
    this.#emitter.on(...this.#checked(name, listener));
    return this;
  }

  /** Calls `listener` at the next event of this name only. */
  once<Name extends keyof Events & string>(name: Name, listener: (event: Events[Name]) => void): this {
    this.#emitter.once(...this.#checked(name, listener));
    return this;
  }

  /** Takes one `on` or `once` back. */
  off<Name extends keyof Events & string>(name: Name, listener: (event: Events[Name]) => void): this {
    this.#emitter.off(...this.#checked(name, listener));
    return this;
  }

  #checked(name: string, listener: unknown): [string, Listener] {
    choice(this.#refuse, 'name', name, this.#names);
    callable(this.#refuse, 'listener', listener);
    return [name, listener as Listener];
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
