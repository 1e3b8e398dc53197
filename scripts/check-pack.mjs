// npm run pack:check: packs, installs the tarball into an empty folder elsewhere, and uses it there: from CommonJS, ESM,
// TypeScript and Jest a node starts, and a daemon gets an event. publint and attw look at the same tarball.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const require = createRequire(import.meta.url);
const { name, version } = require('../package.json');
const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';
/** The body of an async function: starts a node, delivers an event to a daemon, and ends the node. */
const DELIVERS = `
    const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: '42'.repeat(32) });
    const runtime = DaemonRuntime.create(mesh);
    await mesh.start();
    runtime.start();
    const daemon = await runtime.spawnWithDaemon(Identity.generate(), { process: ({ payload }) => payload });
    const [answer] = await daemon.call(Buffer.from('here'));
    await mesh.shutdown();
    if (String(answer) !== 'here') throw new Error('an echo answered ' + String(answer));
`;

/** What has not ended by then never will. */
const TOO_LONG_MS = 300_000;
const home = mkdtempSync(join(tmpdir(), 'mesh-daemon-pack-'));

try {
  const [packed] = JSON.parse(run(npm, ['pack', '--json', '--ignore-scripts', '--pack-destination', home], root));
  const tarball = join(home, packed.filename);
  checkFiles(packed.files.map(({ path }) => path));

  run(process.execPath, [bin('publint'), 'run', '--strict', tarball], root, 'inherit');
  run(process.execPath, [bin('@arethetypeswrong/cli', 'attw'), '--quiet', tarball], root, 'inherit');

  const project = join(home, 'project');
  mkdirSync(project);
  writeFileSync(join(project, 'package.json'), JSON.stringify({ name: 'consumer', private: true }));
  run(npm, ['install', '--offline', '--no-audit', '--no-fund', tarball], project);
  useFromJavaScript(project);
  useFromTypeScript(project);
  useFromJest(project);

  const addon = packed.files.find(({ path }) => path.endsWith('.node'));
  console.log(`${basename(tarball)}: ${mebibytes(statSync(tarball).size)}, ${packed.files.length} files`);
  console.log(`${addon.path}: ${mebibytes(addon.size)}`);
} finally {
  rmSync(home, { recursive: true, force: true });
}

/** The tarball holds what is needed, and nothing left over from a deleted source or meant for tests. */
function checkFiles(files) {
  const fixed = [
    'CHANGELOG.md',
    'LICENSE-APACHE',
    'LICENSE-MIT',
    'README.md',
    'SECURITY.md',
    'index.d.ts',
    'index.js',
    'package.json',
  ];
  const missing = fixed.filter((path) => !files.includes(path));
  if (missing.length > 0) throw new Error(`not in the package: ${missing.join(', ')}`);
  if (files.filter((path) => path.endsWith('.node')).length !== 1) {
    throw new Error('the package holds not exactly one binary; run npm run build');
  }
  for (const path of files.filter((path) => !fixed.includes(path) && !path.endsWith('.node'))) {
    const source = path.replace(/^dist\/(.*)\.js$/, 'lib/$1.ts');
    if (source === path || !exists(join(root, source))) throw new Error(`does not belong into the package: ${path}`);
  }
}

/** Every runtime export is there under its name, from both module systems, and is the same object; and it works. */
function useFromJavaScript(project) {
  const names = Object.keys(
    JSON.parse(
      node(
        project,
        'names.cjs',
        `
    const exported = require('${name}');
    console.log(JSON.stringify(Object.fromEntries(Object.keys(exported).map((key) => [key, 1]))));
    const { DaemonRuntime, Identity, MeshNode } = exported;
    (async () => {${DELIVERS}})();
  `,
      ),
    ),
  );
  if (names.length === 0) throw new Error('the package exports nothing');
  node(
    project,
    'named.mjs',
    `
    import assert from 'node:assert/strict';
    import { createRequire } from 'node:module';
    import { ${names.map((key) => `${key} as _${key}`).join(', ')} } from '${name}';
    const exported = createRequire(import.meta.url)('${name}');
    ${names.map((key) => `assert.equal(_${key}, exported.${key});`).join('\n')}
    assert.equal(_version(), '${version}');
    const { DaemonRuntime, Identity, MeshNode } = exported;
    ${DELIVERS}
  `,
  );
  console.log(`CommonJS and ESM: ${names.length} exports by name`);
}

/** Type-checks a strict consumer under each way Node resolves types, with nothing skipped. */
function useFromTypeScript(project) {
  mkdirSync(join(project, 'node_modules', '@types'), { recursive: true });
  const types = (...path) => join('node_modules', ...path);
  // A TypeScript user of a Node library has Node's types; they are linked instead of downloaded.
  symlinkSync(join(root, types('@types', 'node')), join(project, types('@types', 'node')), 'junction');
  symlinkSync(join(root, types('undici-types')), join(project, types('undici-types')), 'junction');
  // The first program of README.md, as a reader would copy it.
  const [, source] = /```ts\n(.*?)```/s.exec(readFileSync(join(root, 'README.md'), 'utf8'));
  writeFileSync(join(project, 'commonjs.cts'), source);
  writeFileSync(join(project, 'esm.mts'), source);
  for (const resolution of [{ module: 'nodenext' }, { module: 'esnext', moduleResolution: 'bundler' }]) {
    writeFileSync(
      join(project, 'tsconfig.json'),
      JSON.stringify({
        compilerOptions: {
          ...resolution,
          target: 'es2022',
          lib: ['es2022', 'esnext.disposable'],
          types: ['node'],
          strict: true,
          exactOptionalPropertyTypes: true,
          skipLibCheck: false,
          noEmit: true,
          preserveSymlinks: true,
        },
        include: resolution.module === 'nodenext' ? ['*.cts', '*.mts'] : ['*.mts'],
      }),
    );
    run(process.execPath, [bin('typescript', 'tsc'), '-p', project], project, 'inherit');
  }
  console.log('TypeScript: the class of README.md type-checks as .cts and .mts, and for a bundler');
}

/** A test of the consumer's own: Jest gives each file realms of its own, and waits for nothing that stays behind. */
function useFromJest(project) {
  writeFileSync(
    join(project, 'own.test.js'),
    `
    const { DaemonRuntime, Identity, MeshNode } = require('${name}');
    test('a daemon gets an event', async () => {${DELIVERS}});
  `,
  );
  run(process.execPath, [bin('jest'), '--rootDir', project, '--config', '{}'], project);
  console.log('Jest: passes, and ends by itself');
}

function node(project, file, source) {
  writeFileSync(join(project, file), source);
  const { MESH_DAEMON_NATIVE_PATH: _, ...env } = process.env;
  return execFileSync(process.execPath, [file], { cwd: project, encoding: 'utf8', env, timeout: TOO_LONG_MS });
}

function run(command, args, cwd, stdout = 'pipe') {
  const shell = command.endsWith('.cmd');
  return execFileSync(command, args, {
    cwd,
    encoding: 'utf8',
    shell,
    stdio: ['ignore', stdout, 'inherit'],
    timeout: TOO_LONG_MS,
  });
}

/** The file behind a command of a dev dependency (not every package exports its package.json). */
function bin(from, command = from) {
  const folder = join(root, 'node_modules', from);
  const manifest = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8'));
  return join(folder, typeof manifest.bin === 'string' ? manifest.bin : manifest.bin[command]);
}

function exists(path) {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

function mebibytes(bytes) {
  return `${(bytes / 2 ** 20).toFixed(2)} MiB`;
}
