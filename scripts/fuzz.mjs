// npm run fuzz -- --seconds N [TARGET...]: feeds decoders and state machines with what the fuzzer makes up, one after
// another. Needs a nightly compiler and cargo-fuzz; the tests replay the committed corpus without either.
// npm run fuzz -- --write | --keep: writes the corpus's valid examples anew, or takes the shortest valid finds into it.
import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values, positionals } = parseArgs({
  options: {
    seconds: { type: 'string', default: '60' },
    write: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
  },
  allowPositionals: true,
});
if (!/^[1-9]\d*$/.test(values.seconds)) throw new Error(`--seconds must be a positive number, got ${values.seconds}`);

const root = fileURLToPath(new URL('..', import.meta.url));
const known = readdirSync(`${root}/fuzz/corpus`).sort();
const unknown = positionals.filter((target) => !known.includes(target));
if (unknown.length > 0) throw new Error(`no target ${unknown.join(', ')}; there are ${known.join(', ')}`);

const changes = ['write', 'keep'].filter((change) => values[change]);
if (changes.length > 0) {
  for (const change of changes) {
    const cargo = ['scripts/cargo.mjs', 'run', '-p', 'mesh-daemon-core', '--example', 'fuzz_corpus', '--', change];
    const { status } = spawnSync(process.execPath, cargo, { cwd: root, stdio: 'inherit' });
    if (status !== 0) process.exit(status ?? 1);
  }
  process.exit();
}

if (spawnSync('cargo', ['+nightly', 'fuzz', '--version'], { stdio: 'ignore' }).status !== 0) {
  console.error(
    'Fuzzing needs a nightly compiler and cargo-fuzz: rustup toolchain install nightly && cargo install cargo-fuzz --locked',
  );
  process.exit(1);
}

// Settings for the project's own builds would have the targets compiled with its options, or elsewhere.
const { CARGO_TARGET_DIR: _, CARGO_BUILD_TARGET: __, ...env } = process.env;
const failed = [];
for (const target of positionals.length > 0 ? positionals : known) {
  // What is found goes to the first directory, which is not committed.
  const [grown, corpus] = [`fuzz/grown/${target}`, `fuzz/corpus/${target}`];
  mkdirSync(`${root}/${grown}`, { recursive: true });
  const run = ['+nightly', 'fuzz', 'run', target, grown, corpus, '--'];
  const limits = [
    `-max_total_time=${values.seconds}`,
    '-max_len=4096',
    '-len_control=0',
    '-rss_limit_mb=1024',
    '-print_final_stats=1',
  ];
  console.log(`\n${target}`);
  const { status, error } = spawnSync('cargo', [...run, ...limits], { cwd: root, env, stdio: 'inherit' });
  if (error) throw error;
  if (status !== 0) failed.push(target);
}
if (failed.length > 0) {
  console.error(`\nfailed: ${failed.join(', ')}`);
  process.exitCode = 1;
}
