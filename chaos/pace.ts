// How fast a user of a trial goes: one thing after the other without an end, and so many at once.

export class Pace {
  readonly #atOnce: number;
  readonly #everyMs: number;
  #waiting = 0;
  #running = false;
  #rested: (() => void) | undefined;

  constructor(atOnce: number, everyMs: number) {
    this.#atOnce = atOnce;
    this.#everyMs = everyMs;
  }

  /** Begins one thing after the other, unless as many as may be are under way. They must not reject. */
  start(begin: () => Promise<void>): void {
    this.#running = true;
    const next = (): void => {
      if (!this.#running) return;
      if (this.#waiting < this.#atOnce) {
        this.#waiting += 1;
        void begin().then(() => {
          this.#waiting -= 1;
          if (this.#waiting === 0) this.#rested?.();
        });
      }
      setTimeout(next, this.#everyMs);
    };
    next();
  }

  /** Begins nothing more; resolves when nothing is under way, or patience ends. */
  async rest(patienceMs: number): Promise<void> {
    this.#running = false;
    if (this.#waiting === 0) return;
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, patienceMs);
      this.#rested = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
