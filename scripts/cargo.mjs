// Runs cargo with the host named as the target, as `napi build` does: cargo keeps artefacts of named targets apart, and
// without this every dependency would be compiled twice. (`--target host-tuple` needs a newer cargo than ours.)
import { execFileSync, spawnSync } from 'node:child_process';

const host = /^host: (.+)$/m.exec(execFileSync('rustc', ['-vV'], { encoding: 'utf8' }))?.[1];
if (host === undefined) throw new Error('rustc -vV names no host');
const { status, error } = spawnSync('cargo', process.argv.slice(2), {
  stdio: 'inherit',
  env: { ...process.env, CARGO_BUILD_TARGET: process.env.CARGO_BUILD_TARGET ?? host },
});
if (error) throw error;
process.exitCode = status ?? 1;
