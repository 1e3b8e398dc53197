// Compares the daemon's counts with the straightforward ones and prints the outcome.

import { ENOUGH_HOPS, type Hops } from './hops';
import { number } from './progress';
import type { LineStream } from './stream';
import type { WordReport } from './word-count';
import type { Text } from './words';

/** What there is to compare. */
export interface Evidence {
  text: Text;
  /** How often the text was read; short ones are over before there were enough hops. */
  readings: number;
  stream: LineStream;
  hops: Hops;
  /** The daemon's own word. */
  report: WordReport;
}

/** Prints the outcome; whether all is as it should be. */
export async function judge({ text, readings, stream, hops, report }: Evidence): Promise<boolean> {
  const expected = await text.count();
  const differing = wordsThatDiffer(expected.words, readings, new Map(report.words));
  const counted = report.words.reduce((sum, [, count]) => sum + count, 0);

  console.log(`
  lines sent       ${number(stream.sent)}${readings > 1 ? ` (the text ${number(readings)} times)` : ''}
  lines counted    ${number(report.lines)}
  words counted    ${number(counted)}, ${number(report.words.length)} different
  hops             ${number(hops.live)} with lines in flight
  longest pause    ${number(stream.longestPause)} ms between two answers
  ${number(report.lost)} lost, ${number(report.repeated)} repeated
`);

  const problems = [
    stream.sent !== expected.lines * readings && `${number(expected.lines * readings)} lines should have been sent`,
    report.lines !== stream.sent && 'the daemon did not count what was sent',
    report.lost + report.repeated > 0 && 'lines were lost or repeated',
    differing.length > 0 && `${number(differing.length)} words were counted wrongly, such as '${differing[0] ?? ''}'`,
    hops.live < ENOUGH_HOPS && `there should have been ${ENOUGH_HOPS} hops`,
  ].filter((problem) => problem !== false);
  for (const problem of problems) console.error(`FAILED: ${problem}`);
  if (problems.length === 0) console.log('The counts are those of a straightforward count in this process.');
  return problems.length === 0;
}

function wordsThatDiffer(expected: Map<string, number>, readings: number, counted: Map<string, number>): string[] {
  const words = new Set([...expected.keys(), ...counted.keys()]);
  return [...words].filter((word) => (expected.get(word) ?? 0) * readings !== (counted.get(word) ?? 0));
}
