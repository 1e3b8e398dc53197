// Capabilities through the public API: announcing, finding, scopes, gates of channels; hazards 45 to 47, requirement 126.

import { once } from 'node:events';
import { spawn, type ChildProcess } from 'node:child_process';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { ChannelAuthError, ChannelError, MeshError } from 'mesh-daemon';
import type { CapabilitySet, MeshNode, MeshNodeOptions } from 'mesh-daemon';
import { any, bare, closeAll, failure, PSK, thrown } from './helpers/nodes';

const children = new Set<ChildProcess>();

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
  await closeAll();
});

/** A node, and others that have a session with it. */
async function meshes(...options: Partial<MeshNodeOptions>[]): Promise<[MeshNode, ...MeshNode[]]> {
  const [first, ...others] = (await Promise.all(options.map(bare))) as [MeshNode, ...MeshNode[]];
  // Whoever comes here was heard before.
  first.registerChannel({ name: 'heard' });
  for (const other of others) {
    await other.connect(first.localAddr());
    await first.accept(other.nodeId());
    await heard(other, first);
  }
  return [first, ...others];
}

/** Resolves when all that `one` announced so far has reached `other`: what it asks comes behind it. */
async function heard(one: MeshNode, other: MeshNode): Promise<void> {
  await one.subscribeChannel(other.nodeId(), 'heard');
  await one.unsubscribeChannel(other.nodeId(), 'heard');
}

function ids(...nodes: readonly MeshNode[]): bigint[] {
  return nodes.map((mesh) => mesh.nodeId()).sort((one, other) => (one < other ? -1 : 1));
}

describe('announcing and finding', () => {
  test('an empty filter finds this node from the start, and every peer', async () => {
    const [a, b, c] = (await meshes({}, {}, {})) as [MeshNode, MeshNode, MeshNode];
    expect(a.findNodes({})).toEqual(ids(a, b, c));
    expect(a.findNodes({ requireTags: ['x'] })).toEqual([]);
    expect(a.findBestNode({ filter: { requireGpu: true } })).toBeNull();
    expect(a.findBestNode({ filter: {} })).toBe(ids(a, b, c)[0]);
  });

  test('what was announced is found by every field, here and at peers, and replaced as a whole', async () => {
    const [a, b] = (await meshes({}, {})) as [MeshNode, MeshNode];
    const caps: CapabilitySet = {
      hardware: {
        cpuCores: 8,
        cpuThreads: 16,
        memoryGb: 64,
        gpu: { vendor: 'nvidia', model: 'x', vramGb: 16, computeUnits: 1, tensorCores: 2, fp16TflopsX10: 3 },
        additionalGpus: [{ vramGb: 8.5 }],
        storageGb: 2n ** 63n,
        networkGbps: 2.5,
        accelerators: [{ kind: 'npu', model: 'y', memoryGb: 1, topsX10: 5 }],
      },
      software: {
        os: 'linux',
        osVersion: '6',
        runtimes: [['node', '20']],
        frameworks: [['f', '1']],
        drivers: [['d', '2']],
        cudaVersion: '12',
      },
      models: [
        { modelId: 'm', family: 'f', parametersBX10: 70, contextLength: 8192, quantization: 'q4' },
        { modelId: 'n', modalities: ['text', 'image'], tokensPerSec: 10.5, loaded: true },
      ],
      tools: [
        { toolId: 't', name: 'T', version: '1', inputSchema: '{}', outputSchema: '{}', requires: ['x'] },
        { toolId: 'u', estimatedTimeMs: 1.5, stateless: true },
      ],
      tags: ['one', 'two'],
      limits: {
        maxConcurrentRequests: 1,
        maxTokensPerRequest: 2,
        rateLimitRpm: 3,
        maxBatchSize: 4,
        maxInputBytes: 2 ** 40,
        maxOutputBytes: 6,
      },
      metadata: { owner: 'me', 2: 'two' },
    };
    await b.announceCapabilities(caps);
    await heard(b, a);
    for (const mesh of [a, b]) {
      for (const filter of [
        { requireTags: ['two', 'one'] },
        { requireModels: ['none', 'm'] },
        { requireTools: ['u'] },
        { minMemoryGb: 64 },
        { requireGpu: true },
        { gpuVendor: 'NVIDIA' },
        { minVramGb: 24.5 },
        { minContextLength: 8192 },
        { requireModalities: ['image'] },
      ]) {
        expect(mesh.findNodes(filter)).toEqual([b.nodeId()]);
      }
      for (const filter of [
        { requireTags: ['one', 'three'] },
        { requireModels: ['none'] },
        { requireTools: ['none'] },
        { minMemoryGb: 64.1 },
        { gpuVendor: 'amd' },
        { minVramGb: 24.6 },
        { minContextLength: 8193 },
        { requireModalities: ['image', 'sound'] },
      ]) {
        expect(mesh.findNodes(filter)).toEqual([]);
      }
    }
    await b.announceCapabilities({ tags: ['three'] });
    await heard(b, a);
    expect(a.findNodes({ requireGpu: true })).toEqual([]);
    expect(a.findNodes({ requireTags: ['three'] })).toEqual([b.nodeId()]);
  });

  test('hazard 47: of many announcements the last one stays', async () => {
    const [a, b] = (await meshes({}, {})) as [MeshNode, MeshNode];
    for (let at = 0; at < 200; at += 1) void b.announceCapabilities({ tags: [`v${String(at)}`] });
    await heard(b, a);
    // Of more than a hundred at once the last one is looked at a little later.
    while (a.findNodes({ requireTags: ['v199'] }).length === 0) await heard(b, a);
    expect(a.findNodes({ requireTags: ['v199'] })).toEqual([b.nodeId()]);
    for (let at = 0; at < 199; at += 1) expect(a.findNodes({ requireTags: [`v${String(at)}`] })).toEqual([]);
  });

  test('the best node goes by weighted preferences, of equals the lowest id', async () => {
    const [a, b, c] = (await meshes({}, {}, {})) as [MeshNode, MeshNode, MeshNode];
    await b.announceCapabilities({ hardware: { memoryGb: 64, gpu: { vramGb: 8 } }, tags: ['w'] });
    await c.announceCapabilities({ hardware: { memoryGb: 32, gpu: { vramGb: 80 } }, tags: ['w'] });
    await Promise.all([heard(b, a), heard(c, a)]);
    const filter = { requireTags: ['w'] };
    expect(a.findBestNode({ filter, preferMoreMemory: 1 })).toBe(b.nodeId());
    expect(a.findBestNode({ filter, preferMoreVram: 0.5 })).toBe(c.nodeId());
    expect(a.findBestNode({ filter, preferMoreMemory: 0.1, preferMoreVram: 1e300 })).toBe(c.nodeId());
    expect(a.findBestNode({ filter, preferMoreMemory: 1, preferMoreVram: -5 })).toBe(b.nodeId());
    expect(a.findBestNode({ filter })).toBe(ids(b, c)[0]);
    await b.announceCapabilities({ tags: ['w'], models: [{ modelId: 'm', tokensPerSec: 10, loaded: true }] });
    await c.announceCapabilities({ tags: ['w'], models: [{ modelId: 'm', tokensPerSec: 20, loaded: false }] });
    await Promise.all([heard(b, a), heard(c, a)]);
    expect(a.findBestNode({ filter, preferFasterInference: 1 })).toBe(c.nodeId());
    expect(a.findBestNode({ filter, preferLoadedModels: 1 })).toBe(b.nodeId());
  });

  test('scopes go by tags and configured subnets', async () => {
    const subnet = { levels: [1, 2] };
    const [a, near, far] = (await meshes({ subnet }, { subnet }, {})) as [MeshNode, MeshNode, MeshNode];
    const tagged = async (...tags: string[][]): Promise<void> => {
      await near.announceCapabilities({ tags: tags[0] ?? [] });
      await far.announceCapabilities({ tags: tags[1] ?? [] });
      await Promise.all([heard(near, a), heard(far, a)]);
    };
    await tagged(['scope:tenant:t'], ['scope:region:r']);
    expect(a.findNodesScoped({}, { kind: 'any' })).toEqual(ids(a, near, far));
    expect(a.findNodesScoped({}, { kind: 'globalOnly' })).toEqual(ids(a));
    expect(a.findNodesScoped({}, { kind: 'sameSubnet' })).toEqual(ids(a, near));
    expect(a.findNodesScoped({}, { kind: 'tenant', tenant: 't' })).toEqual(ids(a, near));
    expect(a.findNodesScoped({}, { kind: 'tenants', tenants: ['', 'u'] })).toEqual(ids(a));
    expect(a.findNodesScoped({}, { kind: 'region', region: 'r' })).toEqual(ids(a, far));
    expect(a.findNodesScoped({}, { kind: 'regions', regions: ['q', 'r'] })).toEqual(ids(a, far));
    await tagged(['scope:subnet-local'], ['scope:subnet-local']);
    expect(a.findNodesScoped({}, { kind: 'any' })).toEqual(ids(a, near));
    expect(a.findNodes({})).toEqual(ids(a, near, far));
    const requirement = { filter: { requireTags: ['scope:subnet-local'] } };
    expect(a.findBestNodeScoped(requirement, { kind: 'sameSubnet' })).toBe(near.nodeId());
    expect(a.findBestNodeScoped(requirement, { kind: 'globalOnly' })).toBeNull();
  });

  test('requirement 126: a lost node is not found, and is again when it returns with another process', async () => {
    const a = await bare({ heartbeatIntervalMs: 100, sessionTimeoutMs: 1_000, reconnect: false });
    a.registerChannel({ name: 'heard' });
    const script = `
      const { MeshNode } = require('mesh-daemon');
      (async () => {
        const [psk, addr, seed, tag] = process.argv.slice(1);
        const identitySeed = Buffer.from(seed, 'hex');
        const mesh = await MeshNode.create({ bindAddr: '127.0.0.1:0', psk, identitySeed, reconnect: false });
        await mesh.start();
        await mesh.announceCapabilities({ tags: [tag] });
        await mesh.subscribeChannel(await mesh.connect(addr), 'heard');
        console.log(String(mesh.nodeId()));
      })();`;
    const other = async (tag: string): Promise<{ child: ChildProcess; id: bigint }> => {
      const args = ['-e', script, PSK, a.localAddr(), '07'.repeat(32), tag];
      const child = spawn(process.execPath, args, { cwd: join(__dirname, '..'), stdio: ['ignore', 'pipe', 'inherit'] });
      children.add(child);
      const [line] = (await once(createInterface({ input: child.stdout }), 'line')) as [string];
      return { child, id: BigInt(line) };
    };
    const first = await other('first');
    expect(a.findNodes({ requireTags: ['first'] })).toEqual([first.id]);
    const lost = new Promise<void>((resolve) => {
      a.on('peer', ({ type }) => {
        if (type === 'lost') resolve();
      });
    });
    first.child.kill('SIGKILL');
    await lost;
    expect(a.findNodes({})).toEqual([a.nodeId()]);
    const second = await other('second');
    expect(second.id).toBe(first.id);
    expect(a.findNodes({ requireTags: ['first'] })).toEqual([]);
    expect(a.findNodes({ requireTags: ['second'] })).toEqual([first.id]);
  });
});

describe('gates of channels', () => {
  test('hazard 45: publishCaps is what the publishing node has announced', async () => {
    const [a, b] = (await meshes({}, {})) as [MeshNode, MeshNode];
    a.registerChannel({ name: 'gated', publishCaps: { requireTags: ['source'] } });
    await b.subscribeChannel(a.nodeId(), 'gated');
    const refused = await failure(a.publish('gated', Buffer.from('x')));
    expect(refused).toBeInstanceOf(ChannelAuthError);
    expect(refused).toMatchObject({ code: 'ERR_CHANNEL_UNAUTHORIZED' });
    await a.announceCapabilities({ tags: ['source'] });
    const report = await a.publish('gated', Buffer.from('x'), { reliability: 'reliable' });
    expect(report).toEqual({ attempted: 1, delivered: 1, errors: [] });
    await a.announceCapabilities({});
    expect(await failure(a.publish('gated', Buffer.from('x')))).toBeInstanceOf(ChannelAuthError);
  });

  test('hazard 45: subscribeCaps is what the node of a subscriber has announced, then and later', async () => {
    const [a, b] = (await meshes({}, {})) as [MeshNode, MeshNode];
    a.registerChannel({ name: 'gated', subscribeCaps: { requireGpu: true, minVramGb: 8 } });
    expect(await failure(b.subscribeChannel(a.nodeId(), 'gated'))).toBeInstanceOf(ChannelAuthError);
    await b.announceCapabilities({ hardware: { gpu: { vramGb: 8 } } });
    const subscription = b.messages(a.nodeId(), 'gated');
    await subscription.ready;
    expect(await a.publish('gated', Buffer.from('x'), { reliability: 'reliable' })).toMatchObject({ delivered: 1 });
    await b.announceCapabilities({ hardware: { gpu: { vramGb: 7 } } });
    const got: string[] = [];
    const ended = await failure(
      (async () => {
        for await (const { payload } of subscription) got.push(payload.toString());
      })(),
    );
    expect(ended).toBeInstanceOf(ChannelAuthError);
    expect(got).toEqual(['x']);
    expect(await a.publish('gated', Buffer.from('y'))).toMatchObject({ attempted: 0 });
  });

  test('hazard 46: who is refused again and again is throttled', async () => {
    const [a, b] = (await meshes({}, {})) as [MeshNode, MeshNode];
    a.registerChannel({ name: 'gated', subscribeCaps: { requireTags: ['x'] } });
    const codes: unknown[] = [];
    for (let at = 0; at < 9; at += 1) codes.push((await failure(b.subscribeChannel(a.nodeId(), 'gated'))).code);
    expect(codes).toEqual([...Array<string>(8).fill('ERR_CHANNEL_UNAUTHORIZED'), 'ERR_CHANNEL_THROTTLED']);
  });

  test('who subscribes right after connecting is judged by what it announced before', async () => {
    const a = await bare();
    a.registerChannel({ name: 'gated', subscribeCaps: { requireTags: ['gpu'] } });
    for (let at = 0; at < 10; at += 1) {
      const b = await bare();
      await b.announceCapabilities({ tags: ['gpu'] });
      const publisher = await b.connect(a.localAddr());
      await expect(b.subscribeChannel(publisher, 'gated')).resolves.toBeUndefined();
      await b.shutdown();
    }
  });
});

describe('arguments', () => {
  test.each([
    ['caps must be an object, got undefined', undefined],
    ['caps must be an object, got null', null],
    ["unknown option 'gpus' in caps", { gpus: 1 }],
    ['caps.hardware must be an object, got a number', { hardware: 1 }],
    ['caps.hardware.cpuCores must be an integer', { hardware: { cpuCores: 1.5 } }],
    ['caps.hardware.cpuCores must be non-negative', { hardware: { cpuCores: -1 } }],
    ['caps.hardware.cpuCores must be at most 4294967295', { hardware: { cpuCores: 2 ** 32 } }],
    ['caps.hardware.memoryGb must be finite', { hardware: { memoryGb: NaN } }],
    ['caps.hardware.memoryGb must be non-negative', { hardware: { memoryGb: -0.5 } }],
    ['caps.hardware.storageGb must be a bigint, got a number', { hardware: { storageGb: 1 } }],
    ['caps.hardware.storageGb must be within u64 range', { hardware: { storageGb: 2n ** 64n } }],
    ["unknown option 'vram' in caps.hardware.gpu", { hardware: { gpu: { vram: 1 } } }],
    ['caps.hardware.additionalGpus[0].vramGb must be finite', { hardware: { additionalGpus: [{ vramGb: Infinity }] } }],
    ['caps.software.drivers[0] must be a name and a version, got 1 strings', { software: { drivers: [['x']] } }],
    ['caps.software.runtimes[1][0] must be a string, got a number', { software: { runtimes: [['a', 'b'], [1]] } }],
    ['caps.models[0].loaded must be a boolean, got a number', { models: [{ loaded: 1 }] }],
    ['caps.tools must be an array, got an object', { tools: {} }],
    ['caps.tags[1] must be a string, got undefined', { tags: ['a', undefined] }],
    ['caps.tags must have at most 256 elements, got 257', { tags: Array<string>(257).fill('x') }],
    ['caps.limits.maxInputBytes must be non-negative', { limits: { maxInputBytes: -1 } }],
    ['caps.metadata.a must be a string, got a number', { metadata: { a: 1 } }],
    ['caps must be at most 32768 bytes when encoded, got', { metadata: { a: 'x'.repeat(40_000) } }],
  ])('announceCapabilities: %s', async (message, caps) => {
    const mesh = await bare();
    const error = await failure(mesh.announceCapabilities(any(caps)));
    expect(error).toBeInstanceOf(MeshError);
    expect(error).toMatchObject({ code: 'ERR_MESH_INVALID_ARGUMENT' });
    expect(error.message).toContain(message);
    // Nothing of it counts.
    expect(mesh.findNodes({ requireTags: ['x'] })).toEqual([]);
  });

  test.each([
    ['filter must be an object, got undefined', undefined],
    ["unknown option 'tags' in filter", { tags: [] }],
    ['filter.requireTags must be an array, got a string', { requireTags: 'x' }],
    ['filter.minMemoryGb must be finite', { minMemoryGb: Infinity }],
    ['filter.minVramGb must be non-negative', { minVramGb: -1 }],
    ['filter.requireGpu must be a boolean, got a number', { requireGpu: 1 }],
    ['filter.minContextLength must be an integer', { minContextLength: 0.5 }],
  ])('a filter: %s', async (message, filter) => {
    const mesh = await bare();
    for (const find of [() => mesh.findNodes(any(filter)), () => mesh.findNodesScoped(any(filter), { kind: 'any' })]) {
      const error = thrown(find);
      expect(error).toBeInstanceOf(MeshError);
      expect(error.message).toContain(message);
    }
    if (filter === undefined) return;
    const refused = thrown(() => {
      mesh.registerChannel({ name: 'a', subscribeCaps: any(filter) });
    });
    expect(refused).toBeInstanceOf(ChannelError);
    expect(refused.message).toContain(message.replace('filter', 'config.subscribeCaps'));
  });

  test.each([
    ['requirement must be an object, got undefined', undefined],
    ['requirement.filter must be an object, got undefined', {}],
    ['requirement.filter.requireGpu must be a boolean', { filter: { requireGpu: 'x' } }],
    ['requirement.preferMoreMemory must be finite', { filter: {}, preferMoreMemory: NaN }],
    ['requirement.preferMoreVram must be finite', { filter: {}, preferMoreVram: Infinity }],
    ['requirement.preferFasterInference must be a number, got a string', { filter: {}, preferFasterInference: '1' }],
    ["unknown option 'prefer' in requirement", { filter: {}, prefer: 1 }],
  ])('a requirement: %s', async (message, requirement) => {
    const mesh = await bare();
    for (const find of [
      () => mesh.findBestNode(any(requirement)),
      () => mesh.findBestNodeScoped(any(requirement), { kind: 'any' }),
    ]) {
      const error = thrown(find);
      expect(error).toBeInstanceOf(MeshError);
      expect(error.message).toContain(message);
    }
  });

  test.each([
    ['scope must be an object, got undefined', undefined],
    ["scope.kind must be one of 'any', 'globalOnly'", { kind: 'all' }],
    ['scope.tenant must be a string, got undefined', { kind: 'tenant' }],
    ['scope.tenant must not be empty', { kind: 'tenant', tenant: '' }],
    ['scope.tenants must not be empty', { kind: 'tenants', tenants: [] }],
    ['scope.regions must not be empty', { kind: 'regions', regions: ['', ''] }],
    ['scope.regions[0] must be a string, got a number', { kind: 'regions', regions: [1] }],
    ["unknown option 'region' in scope of kind 'tenant'", { kind: 'tenant', tenant: 'a', region: 'b' }],
    ["unknown option 'name' in scope", { kind: 'any', name: 'a' }],
  ])('a scope: %s', async (message, scope) => {
    const mesh = await bare();
    for (const find of [
      () => mesh.findNodesScoped({}, any(scope)),
      () => mesh.findBestNodeScoped({ filter: {} }, any(scope)),
    ]) {
      const error = thrown(find);
      expect(error).toBeInstanceOf(MeshError);
      expect(error.message).toContain(message);
    }
  });

  test('a node that was shut down says so, behind wrong arguments', async () => {
    const mesh = await bare();
    await mesh.shutdown();
    expect(await failure(mesh.announceCapabilities({}))).toMatchObject({ code: 'ERR_MESH_SHUT_DOWN' });
    expect(await failure(mesh.announceCapabilities(any(1)))).toMatchObject({ code: 'ERR_MESH_INVALID_ARGUMENT' });
    expect(thrown(() => mesh.findNodes({}))).toMatchObject({ code: 'ERR_MESH_SHUT_DOWN' });
    expect(thrown(() => mesh.findBestNode({ filter: {} }))).toMatchObject({ code: 'ERR_MESH_SHUT_DOWN' });
  });
});
