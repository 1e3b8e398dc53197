// npm run bench -- [--rounds N] [WORD …]
//
// Measures ours and what it is compared with in turns, in one run, and prints ratios: only those mean something on
// another machine. WORDs choose lines by their name. Every sample goes to build/bench/results.json.

import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { call, callOutstanding, sendOneWay } from './lines/call';
import { deliver } from './lines/deliver';
import { deliverMany } from './lines/deliver-many';
import { fastLane } from './lines/fast-lane';
import { growthDaemons, growthNodes } from './lines/growth';
import { idle } from './lines/idle';
import { loopDelay } from './lines/loop-delay';
import { memory } from './lines/memory';
import { bulkMove } from './lines/bulk-move';
import { outstandingAsync, outstandingSync } from './lines/outstanding';
import { pause, pauses } from './lines/pause';
import { spawn } from './lines/spawn';
import { measure, type Result } from './measure';
import { printTable, writeResults } from './table';

const BENCHMARKS = [
  deliver,
  deliverMany,
  outstandingSync,
  outstandingAsync,
  call,
  callOutstanding,
  sendOneWay,
  pause,
  bulkMove,
  fastLane,
  spawn,
  memory,
  loopDelay,
  idle,
  growthDaemons,
  growthNodes,
  ...pauses,
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

  console.log(`Each line is warmed up, then ours and the reference run in turns, ${rounds} rounds.\n`);
  const results: Result[] = [];
  for (const benchmark of chosen) {
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${benchmark.name}`);
    try {
      results.push(await measure(benchmark, rounds));
    } catch (error) {
      // The others are worth seeing all the same.
      console.error(`\n${benchmark.name} failed:`, error);
      process.exitCode = 1;
    }
  }
  if (process.stderr.isTTY) process.stderr.write('\r\x1b[K');

  printTable(results);
  const file = join(__dirname, 'results.json');
  writeResults(file, rounds, results);
  console.log(`\nAll samples: ${file}`);
}

main().catch((error: unknown) => {
  console.error(error);
  process.exitCode = 1;
});
