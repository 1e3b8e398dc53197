// What is done in a trial: all of it follows from one number.

export type Role = 'source' | 'target' | 'orchestrator';
/** Who drives the move. */
export type Driver = 'source' | 'target' | 'third';

/** A message of the move, held where it arrives. */
export interface Point {
  readonly phase: 'before' | 'snapshot' | 'transfer' | 'restore' | 'replay' | 'cutover' | 'complete';
  readonly holder: Role;
  readonly message: string;
  /** Whether the source has decided to hand over when this message is on its way. */
  readonly released: boolean;
}

/** What happens to the victims: with `restart` they are killed, and start again under the same identity a while later. */
export type Fault =
  | { readonly as: 'kill' }
  | { readonly as: 'restart'; readonly afterMs: number }
  | { readonly as: 'stop'; readonly forMs: number };

export interface Plan {
  readonly seed: number;
  readonly driver: Driver;
  readonly victims: readonly Role[];
  readonly fault: Fault;
  /** Behind a gate, everybody else may go on for a while before the fault. */
  readonly moment:
    ({ readonly as: 'gate'; readonly lateMs: number } & Point) | { readonly as: 'instant'; readonly afterMs: number };
  readonly ballast: number;
  /** Whether the daemon hears the channel as the only member of a queue group. */
  readonly inGroup: boolean;
}

const point = (phase: Point['phase'], holder: Role, message: string, released = false): Point => ({
  phase,
  holder,
  message,
  released,
});

/** All points, in the order of a move. */
export const POINTS: readonly Point[] = [
  point('before', 'source', 'Inquire'),
  point('before', 'orchestrator', 'Described'),
  point('before', 'target', 'Prepare'),
  point('before', 'orchestrator', 'Prepared'),
  point('snapshot', 'source', 'TakeSnapshot'),
  point('transfer', 'target', 'Reserve'),
  point('transfer', 'source', 'Reserved'),
  point('transfer', 'target', 'Chunk'),
  point('transfer', 'target', 'SnapshotReady'),
  point('restore', 'source', 'RestoreComplete'),
  point('replay', 'orchestrator', 'ReplayComplete'),
  point('replay', 'target', 'BufferedEvents'),
  point('replay', 'source', 'ReplayComplete'),
  point('cutover', 'source', 'CutoverNotify'),
  point('cutover', 'target', 'ActivateTarget', true),
  point('complete', 'source', 'ActivateAck', true),
  point('complete', 'orchestrator', 'CleanupComplete', true),
  point('complete', 'target', 'CleanupComplete', true),
];

/** The process that has a role. */
export function holderOf(role: Role, driver: Driver): 'source' | 'target' | 'third' {
  return role === 'orchestrator' ? driver : role;
}

/** One trial for each phase, with every role as the victim and every kind of driver; then some that start again. */
export function planOfPhases(): Plan[] {
  const again: Fault = { as: 'restart', afterMs: 200 };
  const chosen: [message: string, holder: Role, driver: Driver, victim: Role, fault?: Fault][] = [
    ['Prepare', 'target', 'source', 'target'],
    ['TakeSnapshot', 'source', 'third', 'orchestrator'],
    ['SnapshotReady', 'target', 'source', 'target'],
    ['RestoreComplete', 'source', 'target', 'source'],
    ['BufferedEvents', 'target', 'third', 'orchestrator'],
    ['CutoverNotify', 'source', 'third', 'target'],
    ['ActivateTarget', 'target', 'source', 'target'],
    ['ActivateAck', 'source', 'third', 'target'],
    ['SnapshotReady', 'target', 'source', 'target', again],
    ['BufferedEvents', 'target', 'third', 'source', again],
    ['CutoverNotify', 'source', 'third', 'orchestrator', again],
    ['ActivateTarget', 'target', 'source', 'target', again],
    ['ActivateTarget', 'target', 'third', 'source', again],
    ['ActivateAck', 'source', 'target', 'target', again],
  ];
  return chosen.map(([message, holder, driver, victim, fault = { as: 'kill' }], at) => {
    const point = POINTS.find((point) => point.message === message && point.holder === holder);
    if (point === undefined) throw new Error(`no point ${message}`);
    return {
      seed: at,
      driver,
      victims: [victim],
      fault,
      moment: { as: 'gate', lateMs: 0, ...point },
      ballast: 100_000,
      inGroup: at % 2 === 1,
    };
  });
}

/** The plan with this number. */
export function planOf(seed: number): Plan {
  const random = generator(seed);
  const one = <T>(...from: readonly T[]): T => from[Math.floor(random() * from.length)] as T;
  const driver = one<Driver>('source', 'source', 'target', 'third', 'third', 'third');
  const victim = one<Role>('source', 'target', driver === 'third' ? 'orchestrator' : 'target');
  const victims: Role[] = random() < 0.1 ? ['source', 'target'] : [victim];
  const fault = random();
  return {
    seed,
    driver,
    victims,
    // Short: everybody waits. Long: it is given up, and comes back.
    fault:
      fault < 0.2
        ? { as: 'stop', forMs: one(300, 1_000, 2_000, 5_000) }
        : fault < 0.5
          ? { as: 'restart', afterMs: one(0, 300, 5_000) }
          : { as: 'kill' },
    moment:
      random() < 0.6
        ? { as: 'gate', lateMs: one(0, 0, 150), ...one(...POINTS) }
        : { as: 'instant', afterMs: Math.floor(random() * 120) },
    ballast: one(0, 10_000, 1_000_000, 20_000_000),
    inGroup: one(false, true),
  };
}

/** Numbers in [0, 1) that follow from a seed (the mulberry32 sequence). */
function generator(seed: number): () => number {
  let state = Math.imul(seed + 1, 0x9e3779b9);
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A plan in a few words. */
export function describe({ seed, driver, victims, fault, moment, ballast, inGroup }: Plan): string {
  const what =
    fault.as === 'kill' ? 'kill' : fault.as === 'stop' ? `stop ${fault.forMs} ms` : `restart ${fault.afterMs} ms`;
  const when =
    moment.as === 'gate'
      ? `${moment.phase}: ${moment.message} at ${moment.holder} + ${moment.lateMs} ms`
      : `${moment.afterMs} ms`;
  return `seed ${seed}, driver ${driver}, ${what} ${victims.join('+')}, ${when}, ${ballast} bytes${inGroup ? ', group' : ''}`;
}
