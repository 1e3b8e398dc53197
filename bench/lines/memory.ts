// Budget 11: native memory of an idle daemon. Each sample is a process of its own, so that none profits from memory that
// another one freed: resident size less the JavaScript heap, with many live daemons, compared with the same objects and
// keys without a runtime that hosts them.

import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { Identity } from 'mesh-daemon';
import { type Benchmark } from '../measure';
import { Echo, local } from '../local';

const DAEMONS = 20_000;
const BUDGET_BYTES = 2048;

export const memory: Benchmark = {
  name: '11 native memory of an idle daemon',
  reference: '2 KiB',
  limit: { atMost: 1 },
  start: () =>
    Promise.resolve({
      unit: 'B',
      round: async () => {
        const hosted = await nativeBytes('hosted');
        const bare = await nativeBytes('bare');
        return { ours: (hosted - bare) / DAEMONS, reference: BUDGET_BYTES };
      },
    }),
};

/** What the objects cost in a new process. */
async function nativeBytes(mode: 'hosted' | 'bare'): Promise<number> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', __filename, mode]);
  return Number(stdout);
}

async function measureHere(hosted: boolean): Promise<number> {
  const { runtime, end } = await local();
  const keep: unknown[] = [];
  const one = async (): Promise<unknown> => {
    const [identity, daemon] = [Identity.generate(), new Echo()];
    return hosted ? [identity, daemon, await runtime.spawnWithDaemon(identity, daemon)] : [identity, daemon];
  };
  // The first ones pay for what all share.
  for (let i = 0; i < 100; i += 1) keep.push(await one());
  const before = native();
  for (let i = 0; i < DAEMONS; i += 1) keep.push(await one());
  const bytes = native() - before;
  if (keep.length !== DAEMONS + 100) throw new Error('daemons are missing');
  await end();
  return bytes;
}

/** Resident bytes that are not the JavaScript heap. */
function native(): number {
  globalThis.gc?.();
  const { rss, heapTotal } = process.memoryUsage();
  return rss - heapTotal;
}

if (require.main === module) {
  measureHere(process.argv[2] === 'hosted').then(
    (bytes) => {
      console.log(bytes);
    },
    (error: unknown) => {
      console.error(error);
      process.exitCode = 1;
    },
  );
}
