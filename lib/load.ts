/**
 * Finds and loads the native binding.
 *
 * In this order: the file that `MESH_DAEMON_NATIVE_PATH` names (then nothing else is tried), the file that
 * `npm run build` puts beside this module, the platform package that npm installs as an optional dependency.
 * Nothing is ever downloaded.
 */

import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { MeshDaemonError } from './errors/classes';
import type * as Native from './native';

/** What the native code exports. */
export type NativeBinding = typeof Native;

type Libc = 'glibc' | 'musl' | null;

/** A place that was looked at and gave nothing. */
interface Failure {
  readonly place: string;
  readonly why: string;
  readonly cause?: unknown;
}

const { version } = require('../package.json') as { version: string };

/** Loads the binding, or throws an `Error` with code `ERR_NATIVE_LOAD` that says what was tried and why it failed. */
export function loadNative(): NativeBinding {
  const explicit = process.env.MESH_DAEMON_NATIVE_PATH;
  const libc = process.platform === 'linux' ? detectLibc() : null;
  const triple = tripleOf(process.platform, process.arch, libc);
  const places = explicit
    ? [resolve(explicit)]
    : [join(__dirname, `mesh-daemon.${triple}.node`), `@mesh-daemon/binding-${triple}`];

  const failures: Failure[] = [];
  for (const place of places) {
    try {
      return load(place);
    } catch (cause) {
      failures.push({ place, why: reason(place, cause), cause });
    }
  }
  throw loadError(libc, failures, Boolean(explicit));
}

function load(place: string): NativeBinding {
  if (place.endsWith('.node') && !existsSync(place)) throw new Error('no such file');
  const binding = loadFresh(require.resolve(place));
  // A stale build or a half-updated node_modules would fail later and further from the cause.
  const found = binding.version();
  if (found !== version) throw new Error(`is version ${found}, but mesh-daemon is ${version}`);
  return binding;
}

/**
 * Each load of this package has a native environment of its own. With `require`, which Jest takes from outside its sandbox,
 * all test files of a process would share one, and the errors of one file would be instances of another's classes.
 */
function loadFresh(file: string): NativeBinding {
  if (!file.endsWith('.node')) return require(file) as NativeBinding;
  const module = { exports: {} as NativeBinding };
  process.dlopen(module, file);
  return module.exports;
}

function reason(place: string, cause: unknown): string {
  if (!(cause instanceof Error)) return String(cause);
  // Only the first line: Node adds the whole require stack below it.
  const [line = ''] = cause.message.split('\n');
  return line.startsWith(`Cannot find module '${place}'`) ? 'not installed' : line;
}

/** The platform's name as `napi build --platform` writes it into file and package names. */
function tripleOf(platform: NodeJS.Platform, arch: string, libc: Libc): string {
  if (platform === 'win32') return `win32-${arch}-msvc`;
  if (platform === 'linux') return `linux-${arch}-${libc === 'musl' ? 'musl' : 'gnu'}`;
  return `${platform}-${arch}`;
}

/** Which C library this Node runs on; its own diagnostic report knows without starting a process. */
function detectLibc(): Libc {
  const settings = process.report as NodeJS.ProcessReport & { excludeNetwork?: boolean };
  const excludeNetwork = settings.excludeNetwork;
  // The report otherwise looks up the names of open connections.
  settings.excludeNetwork = true;
  try {
    const report = process.report.getReport() as { header?: { glibcVersionRuntime?: string } };
    return report.header?.glibcVersionRuntime ? 'glibc' : 'musl';
  } finally {
    if (excludeNetwork !== undefined) settings.excludeNetwork = excludeNetwork;
  }
}

function loadError(libc: Libc, failures: readonly Failure[], explicit: boolean): Error {
  const host = [process.platform, process.arch, ...(libc === null ? [] : [`(${libc})`])].join(' ');
  const message = [
    `Cannot load the native code of mesh-daemon ${version} on ${host}. Tried:`,
    ...failures.map(({ place, why }) => `  ${place}: ${why}`),
    explicit
      ? 'MESH_DAEMON_NATIVE_PATH names that file; unset it to use the installed binary.'
      : 'Installed by npm: the platform package is an optional dependency, so install again without --omit=optional and ' +
        'on this platform. A tarball of `npm pack` holds the binary of the platform that it was made on.',
    'In a checkout: `npm run build` builds it (needs Rust, https://rustup.rs).',
  ].join('\n');
  return new MeshDaemonError(message, { code: 'ERR_NATIVE_LOAD', cause: failures.at(-1)?.cause });
}
