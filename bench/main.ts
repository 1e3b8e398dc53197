// npm run bench -- [--rounds N] [WORD …]
//
// Measures ours and what it is compared with in turns, in one run, and prints ratios: only those mean something on
// another machine. WORDs choose lines by their name. Every sample goes to build/bench/results.json.

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { calls } from './lines/call';
import { deliver } from './lines/deliver';
import { deliverMany } from './lines/deliver-many';
import { convergence, directoryBytes } from './lines/directory';
import { fanOuts } from './lines/fan-out';
import { fastLanes } from './lines/fast-lane';
import { growthDaemons, growthNodes } from './lines/growth';
import { idle } from './lines/idle';
import { loopDelay } from './lines/loop-delay';
import { memory } from './lines/memory';
import { bulkMove } from './lines/bulk-move';
import { outstandingAsync, outstandingSync } from './lines/outstanding';
import { pause, pauses } from './lines/pause';
import { spawn } from './lines/spawn';
import { measure, type Benchmark, type Result } from './measure';
import { printTable, writeResults } from './table';

const BENCHMARKS: readonly Benchmark[] = [
  deliver,
  deliverMany,
  outstandingSync,
  outstandingAsync,
  ...calls,
  pause,
  bulkMove,
  ...fastLanes,
  spawn,
  memory,
  loopDelay,
  idle,
  growthDaemons,
  growthNodes,
  ...pauses,
  ...fanOuts,
  convergence,
  directoryBytes,
];

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    options: { rounds: { type: 'string', default: '7' } },
    allowPositionals: true,
  });
  const rounds = Number(values.rounds);
  if (!Number.isInteger(rounds) || rounds < 1) throw new Error(`--rounds must be a number, got ${values.rounds}`);
  const chosen = BENCHMARKS.filter(
    ({ name }) =>
      positionals.length === 0 ||
      positionals.some((word) => name.split(' ')[0] === word || (/\D/.test(word) && name.includes(word))),
  );

  if (chosen.length === 0) throw new Error(`no line is named ${positionals.join(' or ')}`);
  console.log(`Each line is warmed up, then ours and the reference run in turns, ${rounds} rounds.\n`);
  const results: Result[] = [];
  for (const benchmark of withoutMissing(chosen)) {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${benchmark.name}`);
    try {
      results.push(await measure(benchmark, rounds));
    } catch (error) {
      // The others are worth seeing all the same.
      console.error(`\n${benchmark.name} (${benchmark.reference}) failed:`, error);
      process.exitCode = 1;
    }
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');

  printTable(results);
  const file = join(__dirname, 'results.json');
  writeResults(file, rounds, results);
  const minutes = results.reduce((sum, { seconds }) => sum + seconds, 0) / 60;
  console.log(`\n${minutes.toFixed(1)} minutes. All samples: ${file}`);
}

/** Those that can be measured here; says of the others why they cannot, each reason once. */
function withoutMissing(benchmarks: readonly Benchmark[]): Benchmark[] {
  const skipped = new Map<string, string[]>();
  const left = benchmarks.filter(({ name, reference, missing }) => {
    const why = missing?.() ?? null;
    if (why !== null) skipped.set(why, [...(skipped.get(why) ?? []), `${name} (${reference})`]);
    return why === null;
  });
  for (const [why, lines] of skipped) console.log(`Skipped, for ${why}: ${lines.join('; ')}.\n`);
  return left;
}

main().then(
  // What a line that failed has left running ends here.
  () => process.exit(),
  (error: unknown) => {
    console.error(error);
    process.exit(1);
  },
);
