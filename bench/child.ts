// Other processes, which are told and answer in lines.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';

export interface Child {
  /** The next line that it prints. */
  next: () => Promise<string>;
  /** Gives it a line and waits for one. */
  ask: (line: string) => Promise<string>;
  /** Closes its input, which is its end. */
  end: () => Promise<void>;
}

/** Runs a script of ours, which may have its garbage collected; `args` are its command line. */
export function startChild(script: string, ...args: string[]): Child {
  const child = spawn(process.execPath, ['--expose-gc', script, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  // What it was told last may come after its end, which `next` reports.
  child.stdin.on('error', () => undefined);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const next = async (): Promise<string> => {
    const line = await lines.next();
    if (line.done === true) throw new Error(`a process of ${script} ended`);
    return line.value;
  };
  return {
    next,
    ask: (line) => {
      child.stdin.write(`${line}\n`);
      return next();
    },
    end: async () => {
      const gone = once(child, 'exit');
      child.stdin.end();
      await gone;
    },
  };
}

/** In such a process: carries out what it is told, line by line, and ends with its input. */
export async function obey(order: (line: string) => Promise<string>): Promise<never> {
  for await (const line of createInterface({ input: process.stdin })) console.log(await order(line));
  process.exit();
}

/** Runs the main function of such a process. */
export function run(main: () => Promise<unknown>): void {
  main().catch((error: unknown) => {
    console.error(error);
    process.exit(1);
  });
}
