// The table and the file.

import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { dirname } from 'node:path';
import { version } from 'mesh-daemon';
import type { Result } from './measure';

const COLUMNS = ['', 'ratio', 'min – max', 'p99', 'wanted', 'ours', 'reference', 'unit', 'compared with'] as const;

export function printTable(results: readonly Result[]): void {
  const rows = results.map((result) => [
    `${result.met ? ' ' : '✗'} ${result.name}`,
    short(result.median),
    `${short(result.min)} – ${short(result.max)}`,
    short(result.p99),
    wanted(result.limit),
    short(middle(result.samples.map(({ ours }) => ours))),
    short(middle(result.samples.map(({ reference }) => reference))),
    result.unit,
    result.reference,
  ]);
  const widths = COLUMNS.map((title, i) => Math.max(title.length, ...rows.map((row) => row[i]?.length ?? 0)));
  for (const row of [[...COLUMNS], ...rows]) {
    console.log(
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    );
  }
}

/** Every sample, and where they come from. */
export function writeResults(file: string, rounds: number, results: readonly Result[]): void {
  const about = {
    version: version(),
    date: new Date().toISOString(),
    node: process.version,
    platform: `${process.platform} ${process.arch}`,
    processors: cpus().map(({ model }) => model),
    rounds,
  };
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, `${JSON.stringify({ ...about, results }, null, 2)}\n`);
}

function middle(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN;
}

function wanted(limit: Result['limit']): string {
  if (limit === null) return '';
  return 'atLeast' in limit ? `≥ ${limit.atLeast}` : `≤ ${limit.atMost}`;
}

/** Three digits. */
function short(value: number): string {
  if (value >= 1e6) return `${(value / 1e6).toPrecision(3)} M`;
  if (value >= 1e4) return `${(value / 1e3).toPrecision(3)} k`;
  return value >= 100 ? value.toFixed(0) : value.toPrecision(3);
}
