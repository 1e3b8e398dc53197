// Every public method, every parameter, every kind of wrong value: the error of the area, whose message begins with the
// parameter (hazard 19, requirement 135). A method that is in no table here fails the test of its class.

import {
  channelHash,
  DaemonHandle,
  DaemonRuntime,
  delegateToken,
  Identity,
  MeshNode,
  MigrationHandle,
  Revocation,
  setLogger,
  Token,
  TokenChain,
  type DaemonContext,
} from 'mesh-daemon';
import { any, closeAll, Counter, pair, type Node } from './helpers/nodes';

/** What is wrong for any parameter that does not say otherwise. */
const WRONG: Readonly<Record<string, unknown>> = {
  null: null,
  boolean: true,
  NaN,
  infinite: Infinity,
  negative: -1,
  fraction: 1.5,
  unsafe: 2 ** 60,
  'number that is none': '7',
  'negative bigint': -1n,
  'too large bigint': 2n ** 64n,
  symbol: Symbol('s'),
  object: { nope: 1 },
  array: [Symbol('s')],
  function: () => undefined,
  'no prototype': Object.create(null) as unknown,
  'forged bytes': Object.create(Uint8Array.prototype) as unknown,
  'shared bytes': new Uint8Array(new SharedArrayBuffer(32)),
};

interface Parameter {
  readonly path: string;
  readonly good: unknown;
  /** Names of values of {@link WRONG} that are right here. */
  readonly also?: readonly string[];
  /** More that is wrong. */
  readonly wrong?: Readonly<Record<string, unknown>>;
  readonly optional?: boolean;
}

const u64 = (path: string, good: unknown = 1n): Parameter => ({ path, good });
const bytes = (path: string, good: unknown = Buffer.alloc(32, 1)): Parameter => ({ path, good });
const subject = Identity.generate().entityId;
const name = (path: string, good: unknown = 'kind'): Parameter => ({
  path,
  good,
  also: ['number that is none'],
  wrong: { empty: '' },
});
const channel = (path: string): Parameter => ({ ...name(path, 'room'), wrong: { empty: '', 'two slashes': 'a//b' } });
const address = (path: string): Parameter => ({
  path,
  good: '127.0.0.1:1',
  wrong: { empty: '', 'no port': 'a', 'large port': 'a:65536', number: 7 },
});
const call = (path: string, good: unknown = () => undefined): Parameter => ({ path, good, also: ['function'] });
const identity = (path: string): Parameter => ({
  path,
  good: Identity.generate(),
  wrong: { forged: Object.create(Identity.prototype) as unknown },
});
/** The same where the secret has to be there. */
const secret = (path: string): Parameter => {
  const parameter = identity(path);
  const publicOnly = Identity.publicOnly(Identity.generate().entityId);
  return { ...parameter, wrong: { ...parameter.wrong, public: publicOnly } };
};
/** An optional object of options, each with values that are wrong for it. */
const options = (path: string, each: Readonly<Record<string, unknown>> = {}): Parameter => ({
  path,
  good: undefined,
  optional: true,
  // Objects that say nothing.
  also: ['no prototype', 'forged bytes'],
  wrong: Object.fromEntries(Object.entries(each).map(([key, value]) => [`${key}: ${String(value)}`, { [key]: value }])),
});
/** The same when it has to be there, and may say nothing. */
const words = (path: string, each: Readonly<Record<string, unknown>>): Parameter => ({
  ...options(path, each),
  good: {},
  optional: false,
});
const filter = words('filter', { requireTags: 'x', minMemoryGb: -1, requireGpu: 1, minContextLength: 0.5 });
const requirement: Parameter = {
  path: 'requirement',
  good: { filter: {} },
  wrong: { 'no filter': {}, preferMoreMemory: { filter: {}, preferMoreMemory: NaN } },
};
const scope: Parameter = {
  path: 'scope',
  good: { kind: 'any' },
  wrong: { 'no kind': {}, kind: { kind: 'all' }, tenants: { kind: 'tenants', tenants: [''] } },
};
const wait = options('options', { signal: {} });
const config = (path = 'config'): Parameter =>
  options(path, {
    autoSnapshotInterval: 1,
    maxLogEntries: -1,
    callbackTimeoutMs: 0,
    mailboxCapacity: 0,
    mailboxBytes: 0.5,
    outputChannel: 5,
  });

type Table = Readonly<Record<string, readonly Parameter[]>>;

const RUNTIME: Table = {
  registerFactory: [name('kind'), call('factory')],
  start: [],
  isReady: [],
  daemonCount: [],
  shutdown: [],
  spawn: [name('kind'), secret('identity'), config()],
  spawnWithDaemon: [identity('identity'), { path: 'daemon', good: new Counter() }, config(), optional(call('factory'))],
  spawnFromSnapshot: [name('kind'), identity('identity'), bytes('snapshot'), config()],
  spawnFromSnapshotWithDaemon: [
    identity('identity'),
    bytes('snapshot'),
    { path: 'daemon', good: new Counter() },
    config(),
    optional(call('factory')),
  ],
  stop: [u64('originHash')],
  snapshot: [u64('originHash')],
  deliver: [u64('originHash'), event()],
  deliverCausal: [u64('originHash'), event()],
  deliverMany: [u64('originHash'), { path: 'payloads', good: [Buffer.alloc(1)] }],
  call: [u64('originHash'), bytes('payload'), options('options', { timeoutMs: -1, signal: 5 })],
  send: [u64('originHash'), bytes('payload')],
  // What comes behind the address is of channels; daemon-channels.test.ts has it.
  subscribeChannel: [u64('originHash')],
  unsubscribeChannel: [u64('originHash')],
  subscriptions: [u64('originHash')],
  locate: [u64('originHash')],
  expectMigration: [name('kind'), u64('originHash'), config()],
  registerMigrationTargetIdentity: [name('kind'), secret('identity'), config()],
  bindExpectedOrchestrator: [u64('originHash'), u64('nodeId')],
  startMigration: [u64('originHash'), u64('sourceNode'), u64('targetNode'), migration()],
  startMigrationWith: [u64('originHash'), u64('sourceNode'), u64('targetNode'), { ...migration(), optional: false }],
  migrate: [u64('originHash'), u64('targetNode'), migration()],
  migrationPhase: [u64('originHash')],
  migrations: [],
  recover: [u64('originHash')],
  drain: [options('options', { timeoutMs: 1.5, signal: {} })],
};

const MESH: Table = {
  localAddr: [],
  nodeId: [],
  entityId: [],
  publicKey: [],
  connect: [
    address('addr'),
    optional({ path: 'publicKey', good: '11'.repeat(32), wrong: { short: '11' } }),
    optional(u64('nodeId')),
    wait,
  ],
  join: [address('addr'), wait],
  accept: [u64('nodeId'), wait],
  start: [],
  peers: [],
  peerCount: [],
  unregisterChannel: [channel('name')],
  registerChannel: [
    {
      path: 'config',
      good: { name: 'room' },
      wrong: {
        'no name': {},
        visibility: { name: 'room', visibility: 'all' },
        reliable: { name: 'room', reliable: 1 },
        requireToken: { name: 'room', requireToken: 'no' },
        tokenRoots: { name: 'room', tokenRoots: [Buffer.alloc(3)] },
        'tokenRoots, none of them': { name: 'room', tokenRoots: [] },
        priority: { name: 'room', priority: 256 },
        maxRatePps: { name: 'room', maxRatePps: 0 },
        publishCaps: { name: 'room', publishCaps: { requireTags: 'x' } },
        subscribeCaps: { name: 'room', subscribeCaps: { nope: 1 } },
      },
    },
  ],
  subscribeChannel: [u64('publisher'), channel('channel'), options('options', { token: 5, signal: {} })],
  unsubscribeChannel: [u64('publisher'), channel('channel'), wait],
  publish: [
    channel('channel'),
    bytes('payload'),
    options('options', { reliability: 'sure', onFailure: 'cry', maxInflight: 0 }),
  ],
  messages: [u64('publisher'), channel('channel'), options('options', { token: 5, signal: {} })],
  revoke: [
    { ...bytes('revocation', Identity.generate().revokeTokens({ below: 1 })), wrong: { short: Buffer.alloc(3) } },
    wait,
  ],
  revocations: [],
  announceCapabilities: [words('caps', { hardware: 1, tags: [1], models: {}, metadata: { a: 1 } })],
  findNodes: [filter],
  findBestNode: [requirement],
  findNodesScoped: [filter, scope],
  findBestNodeScoped: [requirement, scope],
  ref: [],
  unref: [],
  shutdown: [],
};

const EMITTER: Table = Object.fromEntries(
  ['on', 'once', 'off'].map((method) => [method, [{ path: 'name', good: 'peer' }, call('listener')]]),
);

const HANDLE: Table = {
  stats: [],
  snapshot: [],
  lastSnapshot: [],
  call: [bytes('payload'), options('options', { timeoutMs: -1 })],
  send: [bytes('payload')],
  stop: [],
};

const MOVE: Table = {
  phase: [],
  wait: [wait],
  waitWithTimeout: [{ path: 'ms', good: 5 }],
  cancel: [],
  phases: [],
  progress: [],
};

const IDENTITY: Table = {
  toBytes: [],
  sign: [bytes('message')],
  issueToken: [
    {
      path: 'options',
      good: { subject, scope: ['publish'], channel: 'room', ttlSeconds: 5 },
      wrong: {
        subject: { subject: Buffer.alloc(3), scope: ['publish'], channel: 'room', ttlSeconds: 5 },
        scope: { subject, scope: ['fly'], channel: 'room', ttlSeconds: 5 },
        channel: { subject, scope: ['publish'], channel: '', ttlSeconds: 5 },
        ttlSeconds: { subject, scope: ['publish'], channel: 'room', ttlSeconds: -5 },
        depth: { subject, scope: ['publish'], channel: 'room', ttlSeconds: 5, delegationDepth: null },
        generation: { subject, scope: ['publish'], channel: 'room', ttlSeconds: 5, generation: null },
      },
    },
  ],
  installToken: [{ ...bytes('token'), wrong: { short: Buffer.alloc(3) } }],
  lookupToken: [bytes('subject'), channel('channel')],
  revokeTokens: [
    {
      path: 'options',
      good: { below: 1 },
      wrong: { none: {}, zero: { below: 0 }, fraction: { below: 1.5 }, bigint: { below: 1n } },
    },
  ],
  installRevocation: [{ ...bytes('revocation'), wrong: { short: Buffer.alloc(3) } }],
};

function optional(parameter: Parameter): Parameter {
  return { ...parameter, optional: true };
}

function migration(): Parameter {
  return options('opts', { transportIdentity: 1, retryNotReadyMs: -1 });
}

function event(): Parameter {
  const good = { originHash: 1n, sequence: 1n, payload: Buffer.alloc(1) };
  const wrong = { originHash: { ...good, originHash: 1 }, payload: { ...good, payload: 'x' } };
  return { path: 'event', good, wrong };
}

/** A value that is wrong for a parameter. */
function wrongFor({ also = [], wrong = {} }: Parameter): unknown {
  return Object.entries({ ...WRONG, ...wrong }).find(([kind]) => !also.includes(kind))?.[1];
}

/**
 * Calls with each wrong value in turn, once with the right ones behind it and once with wrong ones: the first that is wrong is
 * named. Gives what was not refused as it should be.
 */
async function accepted(
  run: (...args: unknown[]) => unknown,
  parameters: readonly Parameter[],
  code: RegExp,
  asynchronous: boolean,
): Promise<string[]> {
  const complaints: string[] = [];
  const cases = [...parameters.entries()].flatMap(([index, parameter]) => {
    const { also = [], wrong = {}, optional: maybe = false } = parameter;
    const values = { ...WRONG, ...(maybe ? {} : { undefined }), ...wrong };
    const before = parameters.slice(0, index).map(({ good }) => good);
    const behind = parameters.slice(index + 1);
    return Object.entries(values)
      .filter(([kind]) => !also.includes(kind))
      .flatMap(([kind, value]) => [
        { parameter, kind, args: [...before, value, ...behind.map(({ good }) => good)] },
        { parameter, kind: `${kind}, and more`, args: [...before, value, ...behind.map(wrongFor)] },
      ]);
  });
  for (const {
    parameter: { path },
    kind,
    args,
  } of cases) {
    const complain = (what: string): void => void complaints.push(`${path} = ${kind}: ${what}`);
    let outcome: unknown;
    try {
      outcome = run(...args);
      if (asynchronous) {
        await (outcome as Promise<unknown>);
      }
      complain('accepted');
    } catch (error) {
      if (asynchronous && outcome === undefined) complain('thrown, not rejected');
      const { code: found, message } = error as { code?: string; message: string };
      if (!code.test(String(found))) complain(`${String(found)} ${message}`);
      else if (!message.startsWith(path) && !message.startsWith('unknown option')) complain(message);
    }
  }
  return complaints;
}

const PROMISES =
  /^(spawn.*|stop|snapshot|deliver.*|call|send|locate|startMigration.*|migrate|recover|drain|connect|join|accept|(un)?subscribeChannel|publish|revoke|announceCapabilities|wait.*)$/;

async function fuzz(object: object, table: Table, code: RegExp): Promise<string[]> {
  const complaints: string[] = [];
  for (const [method, parameters] of Object.entries(table)) {
    const run = (...args: unknown[]): unknown =>
      Reflect.apply((object as Record<string, (...args: unknown[]) => unknown>)[method]!, object, args);
    const found = await accepted(run, parameters, code, PROMISES.test(method));
    complaints.push(...found.map((complaint) => `${method}: ${complaint}`));
  }
  return complaints;
}

/** Methods of a class that the table does not know. */
function unknown({ prototype }: { readonly prototype: object }, table: Table): string[] {
  const descriptors = Object.entries(Object.getOwnPropertyDescriptors(prototype));
  const methods = descriptors.filter(([key, { value }]) => typeof value === 'function' && key !== 'constructor');
  return methods.map(([key]) => key).filter((key) => !Object.hasOwn(table, key));
}

const DAEMON = /^ERR_DAEMON_INVALID_ARGUMENT$/;
const CHANNEL = /^(ERR_CHANNEL_INVALID_ARGUMENT|ERR_TOKEN_INVALID_FORMAT)$/;

let nodes: [Node, Node];

beforeAll(async () => {
  nodes = await pair();
});

afterAll(closeAll);

test('DaemonRuntime', async () => {
  expect(unknown(DaemonRuntime, RUNTIME)).toEqual([]);
  expect(await fuzz(nodes[0].rt, RUNTIME, DAEMON)).toEqual([]);
  const emitter = Object.fromEntries(
    Object.entries(EMITTER).map(([method, [, listener]]) => [method, [{ path: 'name', good: 'daemon' }, listener!]]),
  );
  expect(await fuzz(nodes[0].rt, emitter, DAEMON)).toEqual([]);
  const create = [
    { path: 'mesh', good: nodes[0].mesh },
    options('options', {
      acceptMigrations: 'yes',
      orchestrators: [1],
      recoverLost: 1,
      freezeTimeoutMs: 0,
      silenceMs: 1,
      handoverHoldMs: -1,
      arrivalBudgetBytes: -1n,
    }),
  ];
  expect(await fuzz(DaemonRuntime, { create }, DAEMON)).toEqual([]);
});

test('MeshNode', async () => {
  expect(unknown(MeshNode, MESH)).toEqual([]);
  const { registerChannel, unregisterChannel, ...rest } = MESH;
  const { subscribeChannel, unsubscribeChannel, publish, messages, revoke, ...own } = rest;
  const code = /^ERR_MESH_INVALID_ARGUMENT$/;
  expect(await fuzz(nodes[0].mesh, { ...own, ...EMITTER }, code)).toEqual([]);
  const owned = { registerChannel, unregisterChannel };
  const channels = { ...owned, subscribeChannel, unsubscribeChannel, publish, messages } as Table;
  expect(await fuzz(nodes[0].mesh, channels, CHANNEL)).toEqual([]);
  const tokenCodes = /^(ERR_MESH_INVALID_ARGUMENT|ERR_TOKEN_INVALID_FORMAT)$/;
  expect(await fuzz(nodes[0].mesh, { revoke: revoke! }, tokenCodes)).toEqual([]);
});

test('DaemonHandle and MigrationHandle', async () => {
  expect([...unknown(DaemonHandle, HANDLE), ...unknown(MigrationHandle, MOVE)]).toEqual([]);
  const [a, b] = nodes;
  b.rt.registerFactory('counter', () => new Counter());
  const handle = await a.rt.spawnWithDaemon(Identity.generate(), new Counter(), { kind: 'counter' });
  expect(await fuzz(handle, HANDLE, DAEMON)).toEqual([]);
  const move = await a.rt.migrate(handle.originHash, b.id);
  expect(await fuzz(move, MOVE, DAEMON)).toEqual([]);
  await move.wait();
});

test('DaemonContext', async () => {
  const [{ rt }] = nodes;
  const { publish, ...table } = {
    call: [u64('originHash'), bytes('payload')],
    send: [u64('originHash'), bytes('payload')],
    publish: MESH.publish!,
    sign: [bytes('message')],
  };
  let complaints: string[] | undefined;
  const handle = await rt.spawnWithDaemon(Identity.generate(), {
    process: async (_, context: DaemonContext) => {
      complaints = unknown(context.constructor, { ...table, publish });
      complaints.push(...(await fuzz(context, table, DAEMON)));
      complaints.push(...(await fuzz(context, { publish }, CHANNEL)));
    },
  });
  await handle.call(Buffer.alloc(1));
  expect(complaints).toEqual([]);
});

test('Identity, Token, TokenChain and the functions beside them', async () => {
  expect(unknown(Identity, { ...IDENTITY, toJSON: [] })).toEqual([]);
  const code = /^(ERR_IDENTITY_INVALID_ARGUMENT|ERR_TOKEN_INVALID_FORMAT)$/;
  const signer = Identity.generate();
  expect(await fuzz(signer, IDENTITY, code)).toEqual([]);
  const statics = {
    fromSeed: [bytes('seed')],
    fromBytes: [bytes('seed')],
    publicOnly: [bytes('entityId')],
    verify: [bytes('entityId'), bytes('message'), bytes('signature', Buffer.alloc(64))],
  };
  expect(await fuzz(Identity, statics, code)).toEqual([]);
  const token = signer.issueToken({ subject: signer.entityId, scope: ['publish'], channel: 'room', ttlSeconds: 60 });
  const functions = {
    channelHash: [channel('name')],
    delegateToken: [
      identity('signer'),
      { path: 'parent', good: token, wrong: { short: Buffer.alloc(3) } },
      bytes('subject', subject),
      { path: 'scope', good: ['publish'] },
    ],
  };
  expect(await fuzz({ channelHash, delegateToken }, functions, code)).toEqual([]);
  const parse = [{ ...bytes('wire'), wrong: { short: Buffer.alloc(3) } }];
  for (const read of [Token, TokenChain, Revocation]) expect(await fuzz(read, { parse }, code)).toEqual([]);
});

test('setLogger', async () => {
  const fn = { ...call('fn'), also: ['function', 'null'] };
  const levels = ['loud', null].map((level) => options('options', { level }));
  for (const level of levels) expect(await fuzz({ setLogger }, { setLogger: [fn, level] }, DAEMON)).toEqual([]);
  setLogger(null);
});

test('a method that was taken from its object is an error, not a crash', async () => {
  for (const object of [nodes[0].rt, nodes[0].mesh, Identity.generate()]) {
    const methods = Object.getOwnPropertyNames(Object.getPrototypeOf(object) as object);
    for (const method of methods.filter((key) => key !== 'constructor')) {
      const descriptor = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(object) as object, method);
      if (typeof descriptor?.value !== 'function') continue;
      let error: unknown;
      try {
        await (Reflect.apply(descriptor.value as () => unknown, any({}), [1n, any(1), any(1)]) as Promise<unknown>);
      } catch (thrown) {
        error = thrown;
      }
      expect([method, error === undefined]).toEqual([method, false]);
    }
  }
});
