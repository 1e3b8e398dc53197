/** Checks of what nodes can do, and of what is asked of them. */

import { native } from './binding';
import type { CapabilitySetOptions, FilterOptions, RequirementOptions, ScopeOptions } from './native';
import type {
  AcceleratorCapability,
  CapabilityFilter,
  CapabilityRequirement,
  CapabilitySet,
  GpuCapability,
  HardwareCapabilities,
  ModelCapability,
  ResourceLimits,
  ScopeFilter,
  SoftwareCapabilities,
  ToolCapability,
} from './types/capabilities';
import {
  boolean,
  byteSize,
  choice,
  finite,
  integer,
  kindOf,
  list,
  meshArea,
  options,
  text,
  u64,
  type Refuse,
} from './validate/index';

/** Throws when the node was shut down. */
type CheckLive = () => void;

type Check = (refuse: Refuse, path: string, value: unknown) => unknown;

/** How each property is checked. */
type Shape<T> = Readonly<Record<keyof T, Check>>;

/** Most elements of any list. */
const MOST_ITEMS = 256;

/** What can be measured: any number that is not negative. */
function amount(refuse: Refuse, path: string, value: unknown): number {
  const checked = finite(refuse, path, value);
  if (checked < 0) throw refuse(`${path} must be non-negative`);
  return checked;
}

/** What can be counted. */
const count: Check = (refuse, path, value) => integer(refuse, path, value);

function few(item: Check): Check {
  return (refuse, path, value) => {
    const checked = list(refuse, path, value, item);
    if (checked.length > MOST_ITEMS) {
      throw refuse(`${path} must have at most ${String(MOST_ITEMS)} elements, got ${String(checked.length)}`);
    }
    return checked;
  };
}

const words = few(text);

const namedVersions = few((refuse, path, value) => {
  const pair = list(refuse, path, value, text);
  if (pair.length !== 2) throw refuse(`${path} must be a name and a version, got ${String(pair.length)} strings`);
  return pair;
});

/** Keys and values, in order. */
function metadata(refuse: Refuse, path: string, value: unknown): unknown {
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw refuse(`${path} must be an object, got ${kindOf(value)}`);
  const entries = Object.entries(value).map(([key, one]) => [key, text(refuse, `${path}.${key}`, one)]);
  if (entries.length > MOST_ITEMS) {
    throw refuse(`${path} must have at most ${String(MOST_ITEMS)} keys, got ${String(entries.length)}`);
  }
  return entries;
}

/** An object of which every property that is given is checked. */
function record<T extends object>(shape: Shape<T>): Check {
  const known = Object.fromEntries(Object.keys(shape).map((key) => [key, true])) as Readonly<Record<keyof T, true>>;
  return (refuse, path, value) => {
    if (value === undefined) throw refuse(`${path} must be an object, got undefined`);
    const read = options(refuse, path, value as T, known);
    const checked = (Object.keys(read) as (keyof T & string)[]).map((key) => [
      key,
      shape[key](refuse, `${path}.${key}`, read[key]),
    ]);
    return Object.fromEntries(checked) as unknown;
  };
}

const gpu = record<GpuCapability>({
  vendor: text,
  model: text,
  vramGb: amount,
  computeUnits: count,
  tensorCores: count,
  fp16TflopsX10: count,
});

const capabilitySet = record<CapabilitySet>({
  hardware: record<HardwareCapabilities>({
    cpuCores: count,
    cpuThreads: count,
    memoryGb: amount,
    gpu,
    additionalGpus: few(gpu),
    storageGb: u64,
    networkGbps: amount,
    accelerators: few(record<AcceleratorCapability>({ kind: text, model: text, memoryGb: amount, topsX10: count })),
  }),
  software: record<SoftwareCapabilities>({
    os: text,
    osVersion: text,
    runtimes: namedVersions,
    frameworks: namedVersions,
    drivers: namedVersions,
    cudaVersion: text,
  }),
  models: few(
    record<ModelCapability>({
      modelId: text,
      family: text,
      parametersBX10: count,
      contextLength: count,
      quantization: text,
      modalities: words,
      tokensPerSec: amount,
      loaded: boolean,
    }),
  ),
  tools: few(
    record<ToolCapability>({
      toolId: text,
      name: text,
      version: text,
      inputSchema: text,
      outputSchema: text,
      requires: words,
      estimatedTimeMs: amount,
      stateless: boolean,
    }),
  ),
  tags: words,
  limits: record<ResourceLimits>({
    maxConcurrentRequests: count,
    maxTokensPerRequest: count,
    rateLimitRpm: count,
    maxBatchSize: count,
    maxInputBytes: byteSize,
    maxOutputBytes: byteSize,
  }),
  metadata,
});

const capabilityFilter = record<CapabilityFilter>({
  requireTags: words,
  requireModels: words,
  requireTools: words,
  minMemoryGb: amount,
  requireGpu: boolean,
  gpuVendor: text,
  minVramGb: amount,
  minContextLength: count,
  requireModalities: words,
});

const capabilityRequirement = record<CapabilityRequirement>({
  filter: capabilityFilter,
  preferMoreMemory: finite,
  preferMoreVram: finite,
  preferFasterInference: finite,
  preferLoadedModels: finite,
});

/** What a node must offer. */
export function readCapabilityFilter(refuse: Refuse, path: string, value: unknown): FilterOptions {
  return capabilityFilter(refuse, path, value) as FilterOptions;
}

function readRequirement(value: unknown): RequirementOptions {
  const read = capabilityRequirement(meshArea, 'requirement', value) as Partial<RequirementOptions>;
  const { filter = readCapabilityFilter(meshArea, 'requirement.filter', undefined), ...preferences } = read;
  return { filter, ...preferences };
}

function readScope(value: unknown): ScopeOptions {
  if (value === undefined) throw meshArea('scope must be an object, got undefined');
  const known = { kind: true, tenant: true, tenants: true, region: true, regions: true } as const;
  const read = options<Record<keyof typeof known, unknown>>(meshArea, 'scope', value as never, known);
  const kind = choice(meshArea, 'scope.kind', read.kind, [
    'any',
    'globalOnly',
    'sameSubnet',
    'tenant',
    'tenants',
    'region',
    'regions',
  ] satisfies ScopeFilter['kind'][]);
  for (const key of Object.keys(read)) {
    if (key !== 'kind' && key !== kind) throw meshArea(`unknown option '${key}' in scope of kind '${kind}'`);
  }
  switch (kind) {
    case 'any':
    case 'globalOnly':
    case 'sameSubnet':
      return { kind, names: [] };
    case 'tenant':
    case 'region':
      return { kind: `${kind}s`, names: notEmpty(`scope.${kind}`, [text(meshArea, `scope.${kind}`, read[kind])]) };
    case 'tenants':
    case 'regions':
      return { kind, names: notEmpty(`scope.${kind}`, list(meshArea, `scope.${kind}`, read[kind], text)) };
  }
}

/** Without the empty strings; there must be something left. */
function notEmpty(path: string, names: readonly string[]): string[] {
  const left = names.filter((one) => one !== '');
  if (left.length === 0) throw meshArea(`${path} must not be empty`);
  return left;
}

/** Announces what a node can do. */
export function announceCapabilities(mesh: number, caps: CapabilitySet, checkLive: CheckLive): void {
  const read = capabilitySet(meshArea, 'caps', caps) as CapabilitySetOptions;
  checkLive();
  native.capabilitiesAnnounce(mesh, read);
}

/** The nodes that offer what a filter asks for. */
export function findNodes(mesh: number, filter: CapabilityFilter, checkLive: CheckLive): bigint[] {
  const wanted = readCapabilityFilter(meshArea, 'filter', filter);
  checkLive();
  return native.capabilitiesFind(mesh, wanted);
}

/** The same in a part of the mesh. */
export function findNodesScoped(
  mesh: number,
  filter: CapabilityFilter,
  scope: ScopeFilter,
  checkLive: CheckLive,
): bigint[] {
  const wanted = readCapabilityFilter(meshArea, 'filter', filter);
  const where = readScope(scope);
  checkLive();
  return native.capabilitiesFind(mesh, wanted, where);
}

/** The node that meets a requirement best. */
export function findBestNode(mesh: number, requirement: CapabilityRequirement, checkLive: CheckLive): bigint | null {
  const wanted = readRequirement(requirement);
  checkLive();
  return native.capabilitiesBest(mesh, wanted);
}

/** The same in a part of the mesh. */
export function findBestNodeScoped(
  mesh: number,
  requirement: CapabilityRequirement,
  scope: ScopeFilter,
  checkLive: CheckLive,
): bigint | null {
  const wanted = readRequirement(requirement);
  const where = readScope(scope);
  checkLive();
  return native.capabilitiesBest(mesh, wanted, where);
}
