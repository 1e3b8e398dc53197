// npm run tree:check: what no compiler looks at in the tracked files. Sources stay short, nothing names one machine or
// one registry host, and the version is the same everywhere.
import { execFileSync } from 'node:child_process';
import { readFileSync } from 'node:fs';

const MAX_LINES = 600;
const SOURCE = /^(src|core|lib|__test__|examples|bench|chaos|fuzz|scripts)\/.*\.(rs|ts|mjs|js)$/;
const GENERATED = ['Cargo.lock', 'lib/native.d.ts', 'index.d.ts', 'package-lock.json'];
const STRAY = [
  ['the path of one machine', /(?<![\w.-])\/(?:root|home|work|Users|mnt)\/[\w.]/],
  ['the path of one machine', /\b[A-Z]:\\Users\\/],
  ['a registry host', /\bregistry\.[a-z0-9-]+\.(?:com|dev|io|net|org)\b/],
  ['a registry host', /"resolved":\s/],
  ['a credential', /_auth[T]oken|-----BEGIN [A-Z ]*PRIVATE KEY/],
  ['a merge marker', /^(<{7}|>{7}) /],
];

const problems = [];
// With untracked files, so that a new file is seen before it is added.
const list = execFileSync('git', ['ls-files', '-z', '--cached', '--others', '--exclude-standard'], {
  encoding: 'utf8',
});
for (const path of list.split('\0').filter(Boolean)) {
  const text = readText(path);
  if (text === null) continue;
  const lines = text.split('\n');
  if (SOURCE.test(path) && !GENERATED.includes(path) && lines.length - 1 > MAX_LINES) {
    problems.push(`${path}: ${lines.length - 1} lines; look for the two subjects in it (limit ${MAX_LINES})`);
  }
  for (const [index, line] of lines.entries()) {
    for (const [what, pattern] of STRAY) {
      if (pattern.test(line)) problems.push(`${path}:${index + 1}: ${what}`);
    }
  }
}

const { version } = JSON.parse(readFileSync('package.json', 'utf8'));
const cargo = /^\[workspace\.package\]\nversion = "(.*)"$/m.exec(readFileSync('Cargo.toml', 'utf8'))?.[1];
if (cargo !== version) problems.push(`Cargo.toml has version ${cargo}, package.json ${version}`);

if (problems.length > 0) {
  console.error(problems.join('\n'));
  process.exitCode = 1;
}

/** The file's text, or null when it is binary or deleted but not yet committed so. */
function readText(path) {
  try {
    const content = readFileSync(path);
    return content.includes(0) ? null : content.toString('utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return null;
    throw error;
  }
}
