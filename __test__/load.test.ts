// Loading the native code, seen from outside: copies of the package without a binary, in processes of their own.

import { execFile } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { version } from 'mesh-daemon';

const root = dirname(__dirname);
const binary = process.env.MESH_DAEMON_NATIVE_PATH ?? '';
const triple = basename(binary)
  .replace(/^mesh-daemon\./, '')
  .replace(/\.node$/, '');

interface Outcome {
  version?: string;
  name?: string;
  code?: string;
  message?: string;
  cause?: boolean;
}

describe('loading the native code', () => {
  let home: string;
  let installed: string;

  beforeEach(() => {
    home = mkdtempSync(join(tmpdir(), 'mesh-daemon-load-'));
    installed = join(home, 'node_modules', 'mesh-daemon');
    mkdirSync(join(installed, 'dist'), { recursive: true });
    for (const file of ['package.json', 'index.js']) cpSync(join(root, file), join(installed, file));
    for (const file of readdirSync(join(root, 'dist'), { recursive: true, encoding: 'utf8' })) {
      if (file.endsWith('.js')) cpSync(join(root, 'dist', file), join(installed, 'dist', file));
    }
  });

  afterEach(() => {
    rmSync(home, { recursive: true, force: true });
  });

  /** Requires the copy in a new process; `before` runs first there. */
  async function requireCopy(env: NodeJS.ProcessEnv = {}, before = ''): Promise<Outcome> {
    const script = `${before};
      let outcome;
      try { outcome = { version: require('mesh-daemon').version() }; }
      catch (e) { outcome = { name: e.name, code: e.code, message: e.message, cause: e.cause instanceof Error }; }
      process.stdout.write(JSON.stringify(outcome));`;
    const { MESH_DAEMON_NATIVE_PATH: _, ...inherited } = process.env;
    const { stdout } = await promisify(execFile)(process.execPath, ['-e', script], {
      cwd: home,
      env: { ...inherited, ...env },
    });
    return JSON.parse(stdout) as Outcome;
  }

  function installPlatformPackage(files: Record<string, string>): void {
    const folder = join(home, 'node_modules', '@mesh-daemon', `binding-${triple}`);
    mkdirSync(folder, { recursive: true });
    for (const [name, content] of Object.entries(files)) writeFileSync(join(folder, name), content);
  }

  test('the tests run on the version that package.json names', () => {
    const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as { version: string };
    expect(version()).toBe(manifest.version);
  });

  test('a binary beside dist/index.js is found', async () => {
    cpSync(binary, join(installed, 'dist', basename(binary)));
    expect(await requireCopy()).toEqual({ version: version() });
  });

  test('the platform package is found', async () => {
    installPlatformPackage({
      'package.json': JSON.stringify({ name: `@mesh-daemon/binding-${triple}`, main: 'index.node' }),
    });
    cpSync(binary, join(home, 'node_modules', '@mesh-daemon', `binding-${triple}`, 'index.node'));
    expect(await requireCopy()).toEqual({ version: version() });
  });

  test('no binary: the error names platform, arch, each place tried with its reason, and how to build', async () => {
    const outcome = await requireCopy();
    expect(outcome).toMatchObject({ name: 'MeshDaemonError', code: 'ERR_NATIVE_LOAD', cause: true });
    expect(outcome.message).toContain(`on ${process.platform} ${process.arch}`);
    expect(outcome.message).toContain(`${join('dist', `mesh-daemon.${triple}.node`)}: no such file`);
    expect(outcome.message).toContain(`@mesh-daemon/binding-${triple}: not installed`);
    expect(outcome.message).toContain('npm run build');
  });

  test('a broken binary beside it: its own error is told, and the platform package is used', async () => {
    writeFileSync(join(installed, 'dist', basename(binary)), 'not a library');
    const alone = await requireCopy();
    expect(alone.code).toBe('ERR_NATIVE_LOAD');
    expect(alone.message).toMatch(/dist.*\.node: (?!no such file)\S+/);

    installPlatformPackage({
      'package.json': '{}',
      'index.js': `module.exports = require(${JSON.stringify(binary)});`,
    });
    expect(await requireCopy()).toEqual({ version: version() });
  });

  test('a platform package of another version is refused and both versions are named', async () => {
    installPlatformPackage({ 'package.json': '{}', 'index.js': `exports.version = () => '0.0.7';` });
    const outcome = await requireCopy();
    expect(outcome.code).toBe('ERR_NATIVE_LOAD');
    expect(outcome.message).toContain(`is version 0.0.7, but mesh-daemon is ${version()}`);
  });

  test('MESH_DAEMON_NATIVE_PATH is used, and when it fails nothing else is', async () => {
    expect(await requireCopy({ MESH_DAEMON_NATIVE_PATH: binary })).toEqual({ version: version() });

    cpSync(binary, join(installed, 'dist', basename(binary)));
    const outcome = await requireCopy({ MESH_DAEMON_NATIVE_PATH: join('elsewhere', 'none.node') });
    expect(outcome.code).toBe('ERR_NATIVE_LOAD');
    expect(outcome.message).toContain(`${join('elsewhere', 'none.node')}: no such file`);
    expect(outcome.message).not.toContain('@mesh-daemon/binding');
  });

  test.each([
    ['sunos', 'x64', '{ header: {} }', 'on sunos x64.', 'binding-sunos-x64: not installed'],
    ['darwin', 'arm64', '{ header: {} }', 'on darwin arm64.', 'binding-darwin-arm64: not installed'],
    ['linux', 'riscv64', '{ header: {} }', 'on linux riscv64 (musl).', 'binding-linux-riscv64-musl: not installed'],
    [
      'linux',
      'arm64',
      `{ header: { glibcVersionRuntime: '2.36' } }`,
      'on linux arm64 (glibc).',
      'binding-linux-arm64-gnu',
    ],
    ['win32', 'arm64', '{ header: {} }', 'on win32 arm64.', 'binding-win32-arm64-msvc: not installed'],
  ])('a host we may have no binary for is named: %s %s %s', async (platform, arch, report, host, tried) => {
    const outcome = await requireCopy(
      {},
      `Object.defineProperty(process, 'platform', { value: '${platform}' });
       Object.defineProperty(process, 'arch', { value: '${arch}' });
       process.report.getReport = () => (${report})`,
    );
    expect(outcome.code).toBe('ERR_NATIVE_LOAD');
    expect(outcome.message).toContain(host);
    expect(outcome.message).toContain(tried);
  });
});
