// Type tests of capabilities: `npm run typecheck` compiles them; nothing here runs.

import type { CapabilityFilter, CapabilityRequirement, CapabilitySet, MeshNode, ScopeFilter } from 'mesh-daemon';

export async function capabilities(mesh: MeshNode): Promise<void> {
  const caps = {
    hardware: { memoryGb: 15.5, storageGb: 1n, gpu: { vramGb: 8 } },
    software: { runtimes: [['node', '20']] },
    tags: ['scope:tenant:a'],
    metadata: { owner: 'me' },
  } as const satisfies CapabilitySet;
  await mesh.announceCapabilities(caps);
  // @ts-expect-error storage is a bigint
  ({ hardware: { storageGb: 1 } }) satisfies CapabilitySet;
  const filter: CapabilityFilter = { requireTags: ['a'], minVramGb: 1 };
  // @ts-expect-error no such field
  ({ tags: ['a'] }) satisfies CapabilityFilter;
  // @ts-expect-error a filter is needed
  ({ preferMoreMemory: 1 }) satisfies CapabilityRequirement;
  mesh.findNodes(filter) satisfies bigint[];
  mesh.findBestNode({ filter, preferMoreMemory: 1 }) satisfies bigint | null;
  const scopes: ScopeFilter[] = [{ kind: 'any' }, { kind: 'tenant', tenant: 'a' }, { kind: 'regions', regions: ['b'] }];
  for (const scope of scopes) {
    mesh.findNodesScoped(filter, scope) satisfies bigint[];
    mesh.findBestNodeScoped({ filter }, scope) satisfies bigint | null;
  }
  // @ts-expect-error a tenant is needed
  ({ kind: 'tenant' }) satisfies ScopeFilter;
  mesh.registerChannel({ name: 'a', publishCaps: { requireGpu: true }, subscribeCaps: filter });
}
