// setLogger: silent by default, records of the native part when set, one bad logger hurts nobody.

import { execFile } from 'node:child_process';
import { connect } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { Identity, MeshNode, setLogger, type LogRecord } from 'mesh-daemon';
import { closeAll, Counter, pair } from './helpers/nodes';

const PSK = '11'.repeat(32);

afterEach(() => {
  setLogger(null);
  return closeAll();
});

/** Makes a node log something: a stranger sends it garbage. */
async function provoke(mesh: MeshNode): Promise<void> {
  const [host = '', port = ''] = mesh.localAddr().split(':');
  const socket = connect(Number(port), host);
  await new Promise((resolve) => {
    socket.on('close', resolve);
    socket.on('error', resolve);
    socket.end(Buffer.alloc(300, 0xff));
    socket.resume();
  });
}

test('a logger gets level, target, message and fields', async () => {
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: PSK });
  const first = new Promise<LogRecord>((resolve) => {
    setLogger(resolve, { level: 'trace' });
  });
  await provoke(mesh);
  const record = await first;
  expect(record.target).toMatch(/^mesh_daemon/);
  expect(['error', 'warn', 'info', 'debug', 'trace']).toContain(record.level);
  expect(record.message).not.toBe('');
  expect(typeof record.fields).toBe('object');
  await mesh.shutdown();
});

test('what is said of a move names the daemon, the move and the part of the node that says it', async () => {
  const [a, b] = await pair();
  for (const { rt } of [a, b]) rt.registerFactory('counter', () => new Counter());
  const origins = await Promise.all(
    [1, 2].map(async () => (await a.rt.spawn('counter', Identity.generate())).originHash),
  );
  const records: LogRecord[] = [];
  const over = new Set<unknown>();
  const told = new Promise<void>((resolve) => {
    const logger = (record: LogRecord): void => {
      if (record.message !== 'migration') return;
      records.push(record);
      const { origin, role, stage } = record.fields;
      if (stage === 'complete') over.add(`${String(origin)} ${String(role)}`);
      if (over.size === 6) resolve();
    };
    setLogger(logger, { level: 'debug' });
  });
  const moves = await Promise.all(origins.map((origin) => a.rt.migrate(origin, b.id)));
  await Promise.all(moves.map((move) => move.wait()));
  await told;
  const roles = ['orchestrator', 'source', 'target'];
  expect([...over].sort()).toEqual(origins.flatMap((origin) => roles.map((role) => `${origin} ${role}`)).sort());
  const names = origins.map((origin) => {
    const of = records.filter(({ fields }) => fields.origin === String(origin));
    return [...new Set(of.map(({ fields }) => fields.migration))];
  });
  expect(names.flat()).toEqual([expect.stringMatching(/^[0-9a-f]{32}$/), expect.stringMatching(/^[0-9a-f]{32}$/)]);
  expect(names[0]).not.toEqual(names[1]);
  for (const { fields } of records) {
    expect(fields).toMatchObject({ source: String(a.id), target: String(b.id) });
    expect(roles).toContain(fields.role);
  }
});

test('why a seed cannot be joined is told once: at warn when it refuses, at info when nobody is there', async () => {
  const other = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: '22'.repeat(32) });
  const records: LogRecord[] = [];
  const tries = new Map<unknown, number>();
  const nobody = '127.0.0.1:1';
  const seeds = [other.localAddr(), nobody];
  const enough = new Promise<void>((resolve) => {
    const logger = (record: LogRecord): void => {
      if (!record.message.startsWith('a seed cannot be')) return;
      records.push(record);
      tries.set(record.fields.addr, (tries.get(record.fields.addr) ?? 0) + 1);
      if (seeds.every((addr) => (tries.get(addr) ?? 0) >= 2)) resolve();
    };
    setLogger(logger, { level: 'debug' });
  });
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: PSK, seeds });
  await enough;
  const levels = (seed: string) => records.filter(({ fields }) => fields.addr === seed).map(({ level }) => level);
  // The one of them may have been tried more often by then.
  expect(levels(other.localAddr()).slice(0, 2)).toEqual(['warn', 'debug']);
  expect(levels(nobody).slice(0, 2)).toEqual(['info', 'debug']);
  expect(records.find(({ level }) => level === 'warn')?.fields.error).toMatch(
    /its pre-shared key or its major version/,
  );
  await mesh.shutdown();
  await other.shutdown();
});

test('silent by default, and again after null (a process of its own prints nothing)', async () => {
  const script = `
    const { MeshNode, setLogger } = require('mesh-daemon');
    const { connect } = require('node:net');
    (async () => {
      const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: '${PSK}' });
      setLogger(() => console.log('heard'), { level: 'trace' });
      setLogger(null);
      const [host, port] = mesh.localAddr().split(':');
      const socket = connect(Number(port), host, () => socket.end(Buffer.alloc(300, 255)));
      socket.resume();
      await new Promise((resolve) => socket.on('close', resolve).on('error', resolve));
      await mesh.shutdown();
    })();`;
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ['-e', script], {
    cwd: join(__dirname, '..'),
  });
  expect([stdout, stderr]).toEqual(['', '']);
});

test('a logger that throws is an uncaught exception and stops nothing else', async () => {
  const script = `
    const { MeshNode, setLogger } = require('mesh-daemon');
    const { connect } = require('node:net');
    const uncaught = new Promise((resolve) => process.once('uncaughtException', resolve));
    (async () => {
      const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: '${PSK}' });
      setLogger(() => { setLogger(null); throw new Error('bad logger'); }, { level: 'trace' });
      const [host, port] = mesh.localAddr().split(':');
      const socket = connect(Number(port), host, () => socket.end(Buffer.alloc(300, 255)));
      socket.on('error', () => {}).resume();
      console.log((await uncaught).message);
      await mesh.shutdown();
      console.log('still here');
    })();`;
  const { stdout } = await promisify(execFile)(process.execPath, ['-e', script], { cwd: join(__dirname, '..') });
  expect(stdout).toBe('bad logger\nstill here\n');
});
