// What a refusal says: why, by whom, and about whom.

import { DaemonRuntime, Identity, MeshNode, MigrationError, setLogger, type LogRecord } from 'mesh-daemon';
import { any, bare, closeAll, Counter, failure, node, pair, PSK, type Node } from './helpers/nodes';

afterEach(async () => {
  setLogger(null);
  await closeAll();
});

/** The first lines at `warn` that are about policies, once there are so many. */
function warnings(count: number): Promise<LogRecord[]> {
  return new Promise((resolve) => {
    const lines: LogRecord[] = [];
    const log = (line: LogRecord): void => {
      if (!('policy' in line.fields)) return;
      lines.push(line);
      if (lines.length === count) resolve(lines);
    };
    setLogger(log, { level: 'warn' });
  });
}

/** Why a daemon of the first node could not move to the second. */
async function refusal([from, to]: readonly [Node, Node], kind = 'counter'): Promise<MigrationError> {
  const config = kind === '' ? {} : { kind };
  const { originHash } = await from.rt.spawnWithDaemon(Identity.generate(), new Counter(), config);
  const move = from.rt.migrate(originHash, to.id).then((handle) => handle.wait());
  const error = await failure(move);
  expect(error).toBeInstanceOf(MigrationError);
  // It cost nothing.
  expect(String(await from.rt.call(originHash, Buffer.from('x')))).toBe('1:x');
  return error as unknown as MigrationError;
}

describe('factory-not-found says which of its reasons it is', () => {
  const kind = 'factory-not-found';

  test('the target has no factory of the kind', async () => {
    const nodes = await pair();
    expect(await refusal(nodes)).toMatchObject({
      kind,
      outcome: 'source',
      message: expect.stringContaining("no factory registered for kind 'counter'") as string,
    });
  });

  test('the target lets in only what it expects', async () => {
    const nodes = await pair({}, { acceptMigrations: false });
    nodes[1].rt.registerFactory('counter', () => new Counter());
    const { message, kind: found } = await refusal(nodes);
    expect(found).toBe(kind);
    expect(message).toMatch(/does not expect this daemon of kind 'counter', and lets in only those/);
  });

  test('the target expects it as another kind', async () => {
    const [a, b] = await pair();
    b.rt.registerFactory('other', () => new Counter());
    const identity = Identity.generate();
    b.rt.expectMigration('other', identity.originHash);
    await a.rt.spawnWithDaemon(identity, new Counter(), { kind: 'counter' });
    const error = await failure(a.rt.migrate(identity.originHash, b.id).then((move) => move.wait()));
    expect(error).toMatchObject({ kind, message: expect.stringContaining("not of kind 'counter'") as string });
  });

  test('the policy says no, or fails, which the logger is told', async () => {
    const told = warnings(2);
    const bug = new RangeError('a bug in the policy');
    const policies = [
      () => false,
      () => {
        throw bug;
      },
      () => Promise.reject(bug),
      () => any('yes'),
    ];
    for (const acceptMigrations of policies) {
      const nodes = await pair({}, { acceptMigrations });
      nodes[1].rt.registerFactory('counter', () => new Counter());
      const { message, kind: found } = await refusal(nodes);
      expect(found).toBe(kind);
      expect(message).toMatch(/policy does not let in this daemon of kind 'counter'/);
    }
    const fields = { policy: 'acceptMigrations', error: 'RangeError: a bug in the policy' };
    expect(await told).toMatchObject([
      { level: 'warn', fields },
      { level: 'warn', fields },
    ]);
  });

  test('the daemon has no kind', async () => {
    const { message, kind: found } = await refusal(await pair(), '');
    expect(found).toBe(kind);
    expect(message).toMatch(/the daemon has no kind/);
  });
});

test('not-authorized names the source that refused, also when its policy failed', async () => {
  const told = warnings(1);
  const orchestrators = () => {
    throw new Error('a bug in the policy');
  };
  for (const options of [{}, { orchestrators }]) {
    const [a, b] = await pair(options);
    b.rt.registerFactory('counter', () => new Counter());
    const { originHash } = await a.rt.spawnWithDaemon(Identity.generate(), new Counter(), { kind: 'counter' });
    const error = await failure(b.rt.startMigration(originHash, a.id, b.id).then((move) => move.wait()));
    expect(error).toMatchObject({ kind: 'not-authorized', nodeId: a.id, outcome: 'source' });
    expect(error.message).toContain(String(a.id));
  }
  expect(await told).toMatchObject([{ fields: { policy: 'orchestrators', error: 'Error: a bug in the policy' } }]);
});

test('wrong-peer names the target that refused', async () => {
  const [a, b] = await pair();
  b.rt.registerFactory('counter', () => new Counter());
  const identity = Identity.generate();
  b.rt.expectMigration('counter', identity.originHash);
  expect(b.rt.bindExpectedOrchestrator(identity.originHash, 42n)).toBe(true);
  await a.rt.spawnWithDaemon(identity, new Counter(), { kind: 'counter' });
  const error = await failure(a.rt.migrate(identity.originHash, b.id).then((move) => move.wait()));
  expect(error).toMatchObject({ kind: 'wrong-peer', nodeId: b.id, outcome: 'source' });
});

describe('the report of a drain', () => {
  test('says why each daemon stayed', async () => {
    const [a, b] = await pair({}, { acceptMigrations: (request) => request.kind !== 'refused' });
    for (const kind of ['taken', 'refused']) b.rt.registerFactory(kind, () => new Counter());
    const spawn = async (kind?: string): Promise<bigint> => {
      const config = kind === undefined ? {} : { kind };
      return (await a.rt.spawnWithDaemon(Identity.generate(), new Counter(), config)).originHash;
    };
    const taken = await spawn('taken');
    const refused = await spawn('refused');
    const unknown = await spawn('unknown');
    const nameless = await spawn();
    const reports = new Map((await a.rt.drain()).map((report) => [report.originHash, report]));
    expect(reports.get(taken)).toEqual({ originHash: taken, outcome: 'target', targetNode: b.id });
    for (const [origin, kind, text] of [
      [refused, 'factory-not-found', /policy/],
      [unknown, 'no-target-available', /no connected node can host/],
      [nameless, 'factory-not-found', /has no kind/],
    ] as const) {
      const report = reports.get(origin);
      expect(report).toMatchObject({ outcome: 'source', error: { kind, outcome: 'source' } });
      expect(report?.error).toBeInstanceOf(MigrationError);
      expect(report?.error?.message).toMatch(text);
    }
  });

  test('says that its time was up', async () => {
    const [a, b] = await pair();
    b.rt.registerFactory('counter', () => new Promise<Counter>(() => undefined));
    await a.rt.spawnWithDaemon(Identity.generate(), new Counter(), { kind: 'counter' });
    expect(await a.rt.drain({ timeoutMs: 100 })).toMatchObject([{ outcome: 'source', error: { kind: 'timeout' } }]);
  });
});

describe('addresses in messages', () => {
  test('are the numbers that the API takes and shows', async () => {
    const { rt } = await node();
    const origin = Identity.generate().originHash;
    const error = await failure(rt.call(origin, Buffer.from('x')));
    const message = `daemon ${String(origin)} was not found; this node has no session with any other`;
    expect(error).toMatchObject({ code: 'ERR_DAEMON_NOT_FOUND', message });
    const handle = await rt.spawnWithDaemon(Identity.generate(), new Counter());
    await handle.stop();
    expect(() => handle.stats()).toThrow(`daemon ${String(handle.originHash)} was not found`);
  });
});

describe('a node that was not started', () => {
  test('is named when a call to another node is not answered', async () => {
    const a = await node();
    const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: PSK });
    const late = { mesh, rt: DaemonRuntime.create(mesh), id: mesh.nodeId() };
    late.rt.start();
    try {
      await late.mesh.connect(a.mesh.localAddr());
      const { originHash } = await a.rt.spawnWithDaemon(Identity.generate(), new Counter());
      const timeoutMs = 50;
      const here = await failure(late.rt.call(originHash, Buffer.from('x'), { timeoutMs }));
      expect(here).toMatchObject({ code: 'ERR_DAEMON_CALL_TIMEOUT' });
      expect(here.message).toMatch(/; mesh\.start\(\) was not called on this node$/);
      const there = await failure(a.rt.call(1n, Buffer.from('x'), { timeoutMs }));
      expect(there.message).toMatch(new RegExp(`; mesh\\.start\\(\\) was not called on node ${String(late.id)}$`));
      await late.mesh.start();
      expect(String(await late.rt.call(originHash, Buffer.from('x')))).toBe('1:x');
    } finally {
      await late.mesh.shutdown();
    }
  });

  test('waiting for a session with itself is refused', async () => {
    const mesh = await bare();
    const error = await failure(mesh.accept(mesh.nodeId()));
    expect(error).toMatchObject({
      code: 'ERR_MESH_INVALID_ARGUMENT',
      message: expect.stringMatching(/^nodeId /) as string,
    });
  });
});
