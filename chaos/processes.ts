// The processes of a trial, and what may be done to them.

import { fork, type ChildProcess } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { join } from 'node:path';
import type { Commands, Ending, Report, Setup } from './messages';

type Reply = { id: number; result: unknown } | { id: number; error: string } | Report;

/** How long any command may take beyond what it was given itself. */
const ANSWER_MS = 30_000;

/** A child process with a node of the mesh. */
export class Member {
  readonly #setup: Setup;
  readonly #child: ChildProcess;
  readonly #questions = new Map<number, { resolve: (result: never) => void; reject: (error: Error) => void }>();
  readonly #reports: Report[] = [];
  readonly #watchers = new Set<() => void>();
  #last = 0;
  #alive = true;

  private constructor(setup: Setup) {
    this.#setup = setup;
    this.#child = fork(join(__dirname, 'node.js'), [JSON.stringify(setup)], { serialization: 'advanced' });
    this.#child.on('message', (message: Reply) => {
      if ('type' in message) {
        this.#reports.push(message);
        for (const watcher of this.#watchers) watcher();
        return;
      }
      const question = this.#questions.get(message.id);
      this.#questions.delete(message.id);
      if ('error' in message) question?.reject(new Error(`${this.name}: ${message.error}`));
      else question?.resolve(message.result as never);
    });
    this.#child.on('exit', () => {
      this.#alive = false;
      for (const { reject } of this.#questions.values()) reject(new Error(`${this.name} has died`));
      for (const watcher of this.#watchers) watcher();
    });
    // A process that was killed reads nothing; its exit says so.
    this.#child.on('error', () => undefined);
  }

  static async start(name: string, psk: string, journal: string): Promise<Member> {
    return this.#ready({ name, psk, seed: randomBytes(32).toString('hex'), journal });
  }

  static async #ready(setup: Setup): Promise<Member> {
    const member = new Member(setup);
    await member.report('ready', ANSWER_MS);
    return member;
  }

  get name(): string {
    return this.#setup.name;
  }

  /** Another process under the same identity: the next life of this node. */
  again(): Promise<Member> {
    return Member.#ready(this.#setup);
  }

  get alive(): boolean {
    return this.#alive;
  }

  get address(): { addr: string; node: bigint } {
    const ready = this.#reports.find((report) => report.type === 'ready');
    if (ready === undefined) throw new Error(`${this.name} is not ready`);
    return ready;
  }

  /** How the move ended that it drove, if it has. */
  get ending(): Ending | undefined {
    return this.#reports.find((report) => report.type === 'ended')?.ending;
  }

  ask<Name extends keyof Commands>(
    name: Name,
    command: Omit<Commands[Name], 'result'>,
    patienceMs = 0,
  ): Promise<Commands[Name]['result']> {
    this.#last += 1;
    const id = this.#last;
    return new Promise((resolve, reject) => {
      if (!this.#alive) {
        reject(new Error(`${this.name} has died`));
        return;
      }
      const timer = setTimeout(() => {
        reject(new Error(`${this.name} did not answer '${name}'`));
      }, patienceMs + ANSWER_MS);
      const done = <T>(then: (value: T) => void) => {
        return (value: T) => {
          clearTimeout(timer);
          then(value);
        };
      };
      this.#questions.set(id, { resolve: done(resolve), reject: done(reject) });
      this.#child.send({ id, name, ...command });
    });
  }

  /** Resolves with the first report of this type for which `holds`; undefined when it dies, or time is up, before. */
  report<Type extends Report['type']>(
    type: Type,
    timeMs: number,
    holds: (report: Extract<Report, { type: Type }>) => boolean = () => true,
  ): Promise<Extract<Report, { type: Type }> | undefined> {
    type Wanted = Extract<Report, { type: Type }>;
    const find = (): Wanted | undefined =>
      this.#reports.find((report): report is Wanted => report.type === type && holds(report as Wanted));
    return new Promise((resolve) => {
      const finish = (): void => {
        clearTimeout(timer);
        this.#watchers.delete(look);
        resolve(find());
      };
      const look = (): void => {
        if (find() !== undefined || !this.#alive) finish();
      };
      const timer = setTimeout(finish, timeMs);
      this.#watchers.add(look);
      look();
    });
  }

  signal(signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#child.kill(signal);
  }

  async kill(): Promise<void> {
    if (!this.#alive) return;
    const gone = once(this.#child, 'exit');
    this.#child.kill('SIGKILL');
    await gone;
  }
}
