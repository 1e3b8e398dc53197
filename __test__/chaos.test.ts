// The fixed trials of `npm run chaos`, at least one for each phase of a move: see chaos/ for what is done and what is checked.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

const TRIALS = 14;

test(
  'hazards 23 and 24: a process is killed, or starts again, at each phase of a move under load, and the promises hold',
  async () => {
    const program = join(__dirname, '..', 'build', 'chaos', 'main.js');
    const child = spawn(process.execPath, [program, '--phases'], { stdio: ['ignore', 'pipe', 'inherit'] });
    const exit = once(child, 'exit');
    const lines: string[] = [];
    for await (const line of createInterface({ input: child.stdout })) lines.push(line);
    const failed = lines.filter((line) => !line.startsWith('ok'));
    expect(failed.join('\n')).toMatch(new RegExp(`^${TRIALS} trials, 0 failed, \\d+ s$`));
    expect(await exit).toEqual([0, null]);
  },
  10 * 60_000,
);
