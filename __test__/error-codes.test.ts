// The generated table of codes is what the native table says: one source, no drift.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';

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
  const module = { exports: {} as { errorTable(): { code: string; class: string; kind?: string }[] } };
  process.dlopen(module, process.env.MESH_DAEMON_NATIVE_PATH ?? '');
  const rows = module.exports.errorTable();
  expect(new Set(rows.map((row) => row.code)).size).toBe(rows.length);
  for (const { code, class: name, kind } of rows) {
    const prefix = prefixes[name] ?? 'ERR_';
    const rest = kind?.toUpperCase().replaceAll('-', '_') ?? code.slice(prefix.length);
    expect(code).toBe(prefix + rest);
  }
});
