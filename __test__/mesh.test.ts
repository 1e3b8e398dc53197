// Mesh nodes through the public API: sessions, pins, keys, addresses, peer events, shutdown.

import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { inspect } from 'node:util';
import { Identity, MeshDaemonError, MeshError, MeshNode } from 'mesh-daemon';
import type { MeshNodeOptions, PeerEvent } from 'mesh-daemon';

const PSK = '11'.repeat(32);
const open = new Set<MeshNode>();

async function node(options: Partial<MeshNodeOptions> = {}): Promise<MeshNode> {
  const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk: PSK, ...options });
  open.add(mesh);
  return mesh;
}

afterEach(async () => {
  await Promise.all([...open].map((mesh) => mesh.shutdown()));
  open.clear();
});

/** Values from JavaScript that the types would not allow. */
function any(value: unknown): never {
  return value as never;
}

/** The next peer event of a type. */
function peerEvent(mesh: MeshNode, type: PeerEvent['type']): Promise<PeerEvent> {
  return new Promise((resolve) => {
    const listener = (event: PeerEvent): void => {
      if (event.type !== type) return;
      mesh.off('peer', listener);
      resolve(event);
    };
    mesh.on('peer', listener);
  });
}

describe('a node', () => {
  test('listens when create resolves and says where and who it is', async () => {
    const seed = Buffer.alloc(32, 3);
    const mesh = await node({ identitySeed: seed, psk: Buffer.alloc(32, 0x11) });
    expect(mesh.localAddr()).toMatch(/^127\.0\.0\.1:[1-9]\d*$/);
    expect(mesh.nodeId()).toBe(Identity.fromSeed(seed).nodeId);
    expect(mesh.entityId()).toEqual(Identity.fromSeed(seed).entityId);
    expect(mesh.publicKey()).toMatch(/^[0-9a-f]{64}$/);
    expect(mesh.peers()).toEqual([]);
    expect(mesh.peerCount()).toBe(0);
    expect(inspect(mesh)).toContain(mesh.localAddr());
  });

  test('its Noise key follows from its seed, so pins survive restarts', async () => {
    const options = { identitySeed: Buffer.alloc(32, 4) };
    const first = await node(options);
    const key = first.publicKey();
    await first.shutdown();
    expect((await node(options)).publicKey()).toBe(key);
  });

  test('without a seed it is a new one each time', async () => {
    const [a, b] = await Promise.all([node(), node()]);
    expect(a.nodeId()).not.toBe(b.nodeId());
  });
});

describe('sessions', () => {
  test.each(['before', 'after', 'never'] as const)(
    'connect and accept in any order, start %s (requirement 125)',
    async (start) => {
      const [a, b] = await Promise.all([node(), node()]);
      if (start === 'before') await Promise.all([a.start(), b.start()]);
      const accepted = b.accept(a.nodeId());
      await expect(a.connect(b.localAddr())).resolves.toBe(b.nodeId());
      await expect(accepted).resolves.toMatch(/^127\.0\.0\.1:\d+$/);
      // The session is there: at once.
      await expect(b.accept(a.nodeId())).resolves.toBe(await accepted);
      await expect(a.accept(b.nodeId())).resolves.toBe(b.localAddr());
      if (start === 'after') await Promise.all([a.start(), b.start(), a.start()]);
      expect(a.peerCount()).toBe(1);
      const [peer] = a.peers();
      expect(peer).toMatchObject({
        nodeId: b.nodeId(),
        entityId: b.entityId(),
        addr: b.localAddr(),
        state: 'connected',
      });
      expect(peer?.since).toBeInstanceOf(Date);
      expect([null, expect.any(Number)]).toContainEqual(peer?.rttMs);
    },
  );

  test('connecting to a peer with a session gives that session', async () => {
    const [a, b] = await Promise.all([node(), node()]);
    await a.connect(b.localAddr());
    await expect(a.connect(b.localAddr())).resolves.toBe(b.nodeId());
    expect(a.peerCount()).toBe(1);
  });

  test('dialling each other at once ends with one session', async () => {
    const [a, b] = await Promise.all([node(), node()]);
    const ids = await Promise.all([a.connect(b.localAddr()), b.connect(a.localAddr())]);
    expect(ids).toEqual([b.nodeId(), a.nodeId()]);
    expect([a.peerCount(), b.peerCount()]).toEqual([1, 1]);
  });

  test('right pins are accepted', async () => {
    const [a, b] = await Promise.all([node(), node()]);
    await expect(a.connect(b.localAddr(), b.publicKey(), b.nodeId())).resolves.toBe(b.nodeId());
  });

  test('a wrong key or id is ERR_MESH_PIN_MISMATCH, with the address', async () => {
    const [a, b] = await Promise.all([node(), node()]);
    const mismatch = { name: 'MeshError', code: 'ERR_MESH_PIN_MISMATCH', address: b.localAddr() };
    await expect(a.connect(b.localAddr(), a.publicKey())).rejects.toMatchObject(mismatch);
    await expect(a.connect(b.localAddr(), undefined, 7n)).rejects.toMatchObject(mismatch);
    await expect(a.connect(b.localAddr(), b.publicKey(), 7n)).rejects.toThrow(b.localAddr());
    expect(a.peerCount()).toBe(0);
  });

  test('another PSK never gets a session', async () => {
    const [a, b] = await Promise.all([node(), node({ psk: '22'.repeat(32) })]);
    let error: unknown;
    try {
      await a.connect(b.localAddr());
    } catch (thrown) {
      error = thrown;
    }
    expect(error).toBeInstanceOf(MeshError);
    expect(error).toBeInstanceOf(MeshDaemonError);
    expect(error).toMatchObject({ code: 'ERR_MESH_HANDSHAKE_FAILED', address: b.localAddr() });
    expect((error as Error).message).toContain(b.localAddr());
    expect((error as Error).stack).toContain('mesh.test.ts');
    expect([a.peerCount(), b.peerCount()]).toEqual([0, 0]);
  });

  test('peers come and go as events', async () => {
    const [a, b] = await Promise.all([node(), node()]);
    const connected = [peerEvent(a, 'connected'), peerEvent(b, 'connected')];
    await a.connect(b.localAddr());
    expect(await Promise.all(connected)).toEqual([
      { type: 'connected', nodeId: b.nodeId() },
      { type: 'connected', nodeId: a.nodeId() },
    ]);
    const lost = peerEvent(a, 'lost');
    await b.shutdown();
    expect(await lost).toEqual({ type: 'lost', nodeId: b.nodeId() });
    expect(a.peerCount()).toBe(0);
  });

  test('once hears one event, off none', async () => {
    const [a, b, c] = await Promise.all([node(), node(), node()]);
    const heard: string[] = [];
    const never = (): void => {
      heard.push('never');
    };
    a.once('peer', ({ nodeId }) => heard.push(`once ${nodeId.toString()}`))
      .on('peer', never)
      .off('peer', never);
    const first = peerEvent(a, 'connected');
    await b.connect(a.localAddr());
    await first;
    const second = peerEvent(a, 'connected');
    await c.connect(a.localAddr());
    await second;
    expect(heard).toEqual([`once ${b.nodeId().toString()}`]);
  });
});

describe('addresses', () => {
  test('a port in use is ERR_MESH_ADDRESS_IN_USE and names the address', async () => {
    const first = await node();
    const error: unknown = await node({ bindAddr: first.localAddr() }).catch((e: unknown) => e);
    expect(error).toBeInstanceOf(MeshError);
    expect(error).toMatchObject({ code: 'ERR_MESH_ADDRESS_IN_USE', address: first.localAddr() });
    expect((error as Error).message).toContain(first.localAddr());
  });

  test('a name that does not resolve is ERR_MESH_ADDRESS_NOT_FOUND', async () => {
    const name = 'no-such-host.invalid:4000';
    const mesh = await node();
    // One after the other: a rejection that nobody waits for yet would count as unhandled.
    for (const attempt of [() => mesh.connect(name), () => node({ bindAddr: name })]) {
      const error: unknown = await attempt().catch((e: unknown) => e);
      expect(error).toMatchObject({ name: 'MeshError', code: 'ERR_MESH_ADDRESS_NOT_FOUND', address: name });
      expect((error as Error).message).toContain(name);
    }
  });

  test('a port where nobody listens is ERR_MESH_UNREACHABLE', async () => {
    const mesh = await node();
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const addr = `127.0.0.1:${String((server.address() as AddressInfo).port)}`;
    await new Promise((resolve) => server.close(resolve));
    await expect(mesh.connect(addr)).rejects.toMatchObject({ code: 'ERR_MESH_UNREACHABLE', address: addr });
    await expect(mesh.connect(addr)).rejects.toThrow(addr);
  });

  test('a server that is no node is ERR_MESH_HANDSHAKE_FAILED', async () => {
    const mesh = await node();
    const server = createServer((socket) => socket.end('HTTP/1.1 400 Bad Request\r\n\r\n'));
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const addr = `127.0.0.1:${String((server.address() as AddressInfo).port)}`;
    try {
      await expect(mesh.connect(addr)).rejects.toMatchObject({ code: 'ERR_MESH_HANDSHAKE_FAILED', address: addr });
    } finally {
      server.close();
    }
  });
});

describe('waiting', () => {
  test('an aborted signal rejects with its reason and starts nothing', async () => {
    const [a, b] = await Promise.all([node(), node()]);
    const reason = { why: 'changed my mind' };
    const signal = AbortSignal.abort(reason);
    await expect(a.connect(b.localAddr(), undefined, undefined, { signal })).rejects.toBe(reason);
    await expect(a.accept(b.nodeId(), { signal })).rejects.toBe(reason);
    expect(a.peerCount()).toBe(0);
  });

  test('aborting while it waits rejects with the reason; listeners go', async () => {
    const mesh = await node();
    const controller = new AbortController();
    const added = jest.spyOn(controller.signal, 'addEventListener');
    const removed = jest.spyOn(controller.signal, 'removeEventListener');
    const accepted = mesh.accept(1n, { signal: controller.signal });
    controller.abort('enough');
    await expect(accepted).rejects.toBe('enough');
    const other = await node();
    const fresh = new AbortController();
    const freshRemoved = jest.spyOn(fresh.signal, 'removeEventListener');
    await mesh.connect(other.localAddr(), undefined, undefined, { signal: fresh.signal });
    await Promise.resolve();
    expect(freshRemoved).toHaveBeenCalled();
    expect(added.mock.calls.length).toBeLessThanOrEqual(removed.mock.calls.length + 1);
  });
});

describe('shutdown', () => {
  test('is idempotent, ends what waits, and later calls say so', async () => {
    const mesh = await node();
    const ended = mesh.accept(1n).catch((error: unknown) => error);
    const shut = { name: 'MeshError', code: 'ERR_MESH_SHUT_DOWN' };
    await Promise.all([mesh.shutdown(), mesh.shutdown()]);
    await mesh.shutdown();
    expect(await ended).toMatchObject(shut);
    await expect(mesh.connect('127.0.0.1:1')).rejects.toMatchObject(shut);
    await expect(mesh.accept(1n)).rejects.toMatchObject(shut);
    await expect(mesh.start()).rejects.toMatchObject(shut);
    expect(mesh.peers()).toEqual([]);
    expect(mesh.localAddr()).toMatch(/^127/);
  });

  test('frees the port', async () => {
    const first = await node();
    await first.shutdown();
    const second = await node({ bindAddr: first.localAddr() });
    expect(second.localAddr()).toBe(first.localAddr());
  });

  test('Symbol.asyncDispose shuts down', async () => {
    const mesh = await node();
    await mesh[Symbol.asyncDispose]();
    await expect(mesh.start()).rejects.toMatchObject({ code: 'ERR_MESH_SHUT_DOWN' });
  });
});

describe('arguments (hazard 19, requirement 135)', () => {
  test.each<[Record<string, unknown>, string]>([
    [{ bindAddr: 7 }, 'options.bindAddr must be a string, got a number'],
    [{ bindAddr: 'localhost' }, "options.bindAddr must be 'host:port', got 'localhost'"],
    [{ bindAddr: 'localhost:70000' }, "options.bindAddr must have a port of at most 65535, got 'localhost:70000'"],
    [{ psk: 'abc' }, 'options.psk must be 64 hex characters or 32 bytes'],
    [{ psk: undefined }, 'options.psk must be 64 hex characters or 32 bytes'],
    [{ psk: 5 }, 'options.psk must be 64 hex characters or 32 bytes, got a number'],
    [{ psk: 'g'.repeat(64) }, 'options.psk must be 64 hex characters or 32 bytes'],
    [{ psk: Buffer.alloc(16) }, 'options.psk must be 32 bytes, got 16'],
    [{ identitySeed: Buffer.alloc(31) }, 'options.identitySeed must be 32 bytes, got 31'],
    [{ heartbeatIntervalMs: -1 }, 'options.heartbeatIntervalMs must be non-negative'],
    [{ heartbeatIntervalMs: Infinity }, 'options.heartbeatIntervalMs must be finite'],
    [{ heartbeatIntervalMs: 1.5 }, 'options.heartbeatIntervalMs must be an integer'],
    [{ sessionTimeoutMs: NaN }, 'options.sessionTimeoutMs must be finite'],
    [{ sessionTimeoutMs: '5' }, 'options.sessionTimeoutMs must be a number or a bigint, got a string'],
    [{ sessionTimeoutMs: 2n ** 64n }, 'options.sessionTimeoutMs must be within u64 range'],
    [{ sessionTimeoutMs: 0 }, 'options.sessionTimeoutMs must be at least 40'],
    [{ sessionTimeoutMs: 1 }, 'options.sessionTimeoutMs must be at least 40'],
    [{ sessionTimeoutMs: 39n }, 'options.sessionTimeoutMs must be at least 40'],
    [{ sessionTimeoutMs: -1 }, 'options.sessionTimeoutMs must be non-negative'],
    [{ relay: 'no' }, 'options.relay must be a boolean, got a string'],
    [{ reconnect: 1 }, 'options.reconnect must be a boolean, got a number'],
    [{ maxPayloadBytes: 0 }, 'options.maxPayloadBytes must be at least 1'],
    [{ maxPayloadBytes: -5 }, 'options.maxPayloadBytes must be at least 1'],
    [{ maxPeers: 2 ** 40 }, 'options.maxPeers must be at most 4294967295'],
    [{ subnet: { levels: [] } }, 'options.subnet.levels must have 1 to 4 levels, got 0'],
    [{ subnet: { levels: [256] } }, 'options.subnet.levels[0] must be at most 255'],
    [{ subnet: { levels: [-1] } }, 'options.subnet.levels[0] must be non-negative'],
    [{ seeds: ['x'] }, "options.seeds[0] must be 'host:port', got 'x'"],
    [
      { bindAdr: 'x' },
      "unknown option 'bindAdr' in options; there are bindAddr, psk, identitySeed, heartbeatIntervalMs, " +
        'sessionTimeoutMs, reconnect, maxPayloadBytes, maxPeers, relay, subnet, tokenClockSkewMs, seeds, ' +
        'capabilityGcIntervalMs, requireSignedCapabilities, numShards',
    ],
  ])('%p rejects', async (options, message) => {
    const created = MeshNode.create(any({ bindAddr: '127.0.0.1:0', psk: PSK, ...options }));
    await expect(created).rejects.toThrow(new MeshError(message));
    await expect(created).rejects.toMatchObject({ name: 'MeshError', code: 'ERR_MESH_INVALID_ARGUMENT', message });
  });

  test('zero-valued and huge intervals are tolerated (requirement 127)', async () => {
    const [a, b] = await Promise.all([
      node({ heartbeatIntervalMs: 0, sessionTimeoutMs: 60_000 }),
      node({ heartbeatIntervalMs: 0, sessionTimeoutMs: any(2n ** 64n - 1n) }),
    ]);
    await expect(a.connect(b.localAddr())).resolves.toBe(b.nodeId());
  });

  test('methods that return promises reject', async () => {
    const mesh = await node();
    await expect(mesh.connect(any(1))).rejects.toThrow('addr must be a string');
    await expect(mesh.connect('a:1', 'zz')).rejects.toThrow('publicKey must be 64 hex characters');
    await expect(mesh.connect('a:1', undefined, any(1))).rejects.toThrow('nodeId must be a bigint');
    await expect(mesh.accept(-1n)).rejects.toThrow('nodeId must be non-negative');
    await expect(mesh.accept(2n ** 64n)).rejects.toThrow('nodeId must be within u64 range');
    await expect(mesh.accept(1n, any({ sginal: 1 }))).rejects.toThrow("unknown option 'sginal'");
    await expect(mesh.accept(1n, any({ signal: 1 }))).rejects.toThrow('options.signal must be an AbortSignal');
    await expect(MeshNode.create(any(undefined))).rejects.toThrow('options must be an object');
    await expect(MeshNode.create(any(null))).rejects.toThrow('options must be an object');
  });

  test('arguments are checked before the state is looked at', async () => {
    const mesh = await node();
    await mesh.shutdown();
    await expect(mesh.connect('nonsense')).rejects.toMatchObject({ code: 'ERR_MESH_INVALID_ARGUMENT' });
  });

  test('the constructor is private', () => {
    const Anything = MeshNode as unknown as new (...args: unknown[]) => unknown;
    expect(() => new Anything()).toThrow(MeshError);
  });
});
