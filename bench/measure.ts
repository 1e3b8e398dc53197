// How a line is measured: ours and the reference in turns, and only their ratio counts.

/** One round. Both in the line's unit. */
export interface Sample {
  ours: number;
  reference: number;
}

/** One line of the table, ready to be measured. */
export interface Line {
  /** Takes one sample. */
  round: () => Promise<Sample>;
  unit: string;
  /** Ends what the line started. */
  end?: () => Promise<void>;
}

/** One line of the table: what it compares, and what the ratio ours / reference has to be. */
export interface Benchmark {
  /** Its name on the command line and in the table. */
  name: string;
  reference: string;
  /** None where the figure is only shown. */
  limit: { atLeast: number } | { atMost: number } | null;
  /** One where nothing is said. */
  samplesPerRound?: number;
  /** Why it cannot be measured here, if so. */
  missing?: () => string | null;
  start: () => Promise<Line>;
}

/** The outcome of a line. */
export interface Result {
  name: string;
  reference: string;
  unit: string;
  limit: Benchmark['limit'];
  met: boolean;
  /** Of the samples' ratios. */
  median: number;
  min: number;
  /** With fewer than a hundred samples, the largest. */
  p99: number;
  max: number;
  samples: Sample[];
  /** How long all of it took, with the start. */
  seconds: number;
}

/** Does something n times and checks that it was done. */
export type Work = (n: number) => Promise<void>;

/** A side runs at least so long in one slice: short, so that what else the machine does meets both sides alike. */
const SLICE_MS = 30;
/** Slices of each side in a round. Even, so that each side is first as often as the other. */
const SLICES = 8;
/** Work is done so long before it is measured. */
const WARM_MS = 500;

export async function measure(benchmark: Benchmark, rounds: number): Promise<Result> {
  const { name, reference, limit, samplesPerRound = 1, start } = benchmark;
  const begin = performance.now();
  const line = await start();
  const samples: Sample[] = [];
  try {
    for (let i = 0; i < rounds * samplesPerRound; i += 1) samples.push(await line.round());
  } finally {
    await line.end?.();
  }
  const ratios = samples.map((sample) => sample.ours / sample.reference).sort((a, b) => a - b);
  const median = quantile(ratios, 0.5);
  const met = limit === null || ('atLeast' in limit ? median >= limit.atLeast : median <= limit.atMost);
  return {
    name,
    reference,
    unit: line.unit,
    limit,
    met,
    median,
    min: quantile(ratios, 0),
    p99: quantile(ratios, 0.99),
    max: quantile(ratios, 1),
    samples,
    seconds: (performance.now() - begin) / 1000,
  };
}

/**
 * Rounds that give rates: how often per second each side does its work. A round is many short slices of both in turns,
 * in the other order each time. Finding out how much work fills a slice warms up.
 */
export async function rates(ours: Work, reference: Work, unit = '1/s'): Promise<Line> {
  const sides = {
    ours: { work: ours, n: await calibrate(ours), seconds: 0 },
    reference: { work: reference, n: await calibrate(reference), seconds: 0 },
  };
  return {
    unit,
    round: async () => {
      sides.ours.seconds = sides.reference.seconds = 0;
      for (let slice = 0; slice < SLICES; slice += 1) {
        const order = [sides.ours, sides.reference];
        if (slice % 2 === 1) order.reverse();
        for (const side of order) side.seconds += await seconds(side.work, side.n);
      }
      return {
        ours: (SLICES * sides.ours.n) / sides.ours.seconds,
        reference: (SLICES * sides.reference.n) / sides.reference.seconds,
      };
    },
  };
}

/** Rounds that give times: how many microseconds each side takes for its work once. */
export async function times(ours: Work, reference: Work): Promise<Line> {
  const { round } = await rates(ours, reference);
  return {
    unit: 'µs',
    round: async () => {
      const sample = await round();
      return { ours: 1e6 / sample.ours, reference: 1e6 / sample.reference };
    },
  };
}

export async function seconds(work: Work, n: number): Promise<number> {
  const start = performance.now();
  await work(n);
  return (performance.now() - start) / 1000;
}

/** Of sorted values. */
export function quantile(sorted: readonly number[], q: number): number {
  const value = sorted[Math.min(sorted.length - 1, Math.floor(q * sorted.length))];
  if (value === undefined) throw new Error('nothing was measured');
  return value;
}

export function check(holds: boolean, what: string): void {
  if (!holds) throw new Error(`a benchmark did not do its work: ${what}`);
}

/**
 * Finds out how often work is done in a slice. The last figures before it is known are of warm code, so the count is
 * scaled from them: a mere power of two could make a slice twice as long.
 */
async function calibrate(work: Work): Promise<number> {
  for (let done = 0, n = 1; ; n *= 2) {
    const ms = (await seconds(work, n)) * 1000;
    done += ms;
    if (done >= WARM_MS && ms >= SLICE_MS) return Math.max(1, Math.ceil((n * SLICE_MS) / ms));
  }
}
