// npm run sim -- --seeds N [--from S] [FILTER]: the simulations with many seeds, those of channels (`simulation::`) among them.
// `npm test` runs a few fixed ones.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  options: { seeds: { type: 'string', default: '200' }, from: { type: 'string', default: '0' } },
  allowPositionals: true,
});
if (!/^[1-9]\d*$/.test(values.seeds)) throw new Error(`--seeds must be a positive number, got ${values.seeds}`);
if (!/^\d+$/.test(values.from)) throw new Error(`--from must be a whole number, got ${values.from}`);

const cargo = fileURLToPath(new URL('cargo.mjs', import.meta.url));
const test = [
  'test',
  '--package',
  'mesh-daemon-core',
  '--features',
  'test-hooks',
  '--test',
  'sim',
  '--test',
  'channel',
  '--',
  '--nocapture',
];
const { status } = spawnSync(process.execPath, [cargo, ...test, ...positionals], {
  stdio: 'inherit',
  env: { ...process.env, SIM_SEEDS: values.seeds, SIM_FROM: values.from },
});
process.exitCode = status ?? 1;
