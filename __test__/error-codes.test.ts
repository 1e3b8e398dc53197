// The generated table of codes is what the native table says: one source, no drift.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

interface Row {
  readonly code: string;
  readonly class: string;
  readonly kind?: string;
  readonly fields: readonly string[];
}

interface Sample {
  readonly code: string;
  readonly message: string;
  readonly fields?: Readonly<Record<string, unknown>>;
}

/** The native part itself: the table and, in builds with test hooks, one failure of every kind. */
function binding(): { readonly errorTable: () => Row[]; readonly errorSamples: () => Sample[] } {
  const module = { exports: {} as ReturnType<typeof binding> };
  process.dlopen(module, process.env.MESH_DAEMON_NATIVE_PATH ?? '');
  return module.exports;
}

test('lib/errors/codes.generated.ts is what src/error.rs says', async () => {
  const script = join(__dirname, '..', 'scripts', 'gen-error-codes.mjs');
  await expect(promisify(execFile)(process.execPath, [script, '--check'])).resolves.toBeDefined();
});

test('every code is its class in capitals, then its kind where there is one', () => {
  const prefixes: Record<string, string> = {
    MeshError: 'ERR_MESH_',
    DaemonError: 'ERR_DAEMON_',
    MigrationError: 'ERR_MIGRATION_',
    GroupError: 'ERR_GROUP_',
    IdentityError: 'ERR_IDENTITY_',
    TokenError: 'ERR_TOKEN_',
    ChannelError: 'ERR_CHANNEL_',
    ChannelAuthError: 'ERR_CHANNEL_',
  };
  const rows = binding().errorTable();
  expect(new Set(rows.map((row) => row.code)).size).toBe(rows.length);
  for (const { code, class: name, kind } of rows) {
    const prefix = prefixes[name] ?? 'ERR_';
    const rest = kind?.toUpperCase().replaceAll('-', '_') ?? code.slice(prefix.length);
    expect(code).toBe(prefix + rest);
  }
});

test('every failure of the core has a code of its own area, fields that its row names, and a text for people', () => {
  const { errorTable, errorSamples } = binding();
  const rows = new Map(errorTable().map((row) => [row.code, row]));
  const samples = errorSamples();
  for (const { code, message, fields = {} } of samples) {
    const row = rows.get(code);
    expect(row).toBeDefined();
    expect(code).not.toBe('ERR_MESH_DAEMON');
    expect(row?.fields).toEqual(expect.arrayContaining(Object.keys(fields)));
    // No names of Rust's.
    expect(message).not.toMatch(/[A-Z][a-z]+[A-Z]|[A-Z]\w*\(|::|Some|None|\{/);
    expect(message).not.toBe('');
  }
  const codeOf = (text: RegExp): unknown => samples.find(({ message }) => text.test(message))?.code;
  expect(codeOf(/no common peer relays/)).toBe('ERR_NOT_CONNECTED');
  expect(codeOf(/signature does not verify/)).toBe('ERR_IDENTITY_INVALID_ARGUMENT');
  // Also where that is not certain.
  const taken = samples.filter(({ code }) => code === 'ERR_DAEMON_ALREADY_REGISTERED').map(({ message }) => message);
  expect(taken.length).toBeGreaterThan(1);
  for (const message of taken) expect(message).toContain('already registered');
  const nodes = samples.filter(({ fields }) => fields?.nodeId !== undefined).map(({ code }) => code);
  expect(new Set(nodes)).toEqual(
    new Set(['NOT_AUTHORIZED', 'WRONG_PEER', 'PEER_LOST', 'TARGET_UNAVAILABLE'].map((kind) => `ERR_MIGRATION_${kind}`)),
  );
});

test('every code is one that the core or the package gives, or belongs to groups, which are not there yet', () => {
  const { errorTable, errorSamples } = binding();
  const given = new Set(errorSamples().map(({ code }) => code));
  const others = errorTable().filter(({ code }) => !given.has(code) && !code.startsWith('ERR_GROUP_'));
  // The package itself throws these.
  expect(others.map(({ code }) => code)).toEqual(['ERR_MESH_DAEMON', 'ERR_NATIVE_LOAD']);
});
