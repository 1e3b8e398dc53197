/**
 * What a node can do, as it says itself. Every field is optional; a list has at most 256 elements, and all of it at most 32 KiB
 * when encoded.
 *
 * @public
 */
export interface CapabilitySet {
  hardware?: HardwareCapabilities;
  software?: SoftwareCapabilities;
  models?: readonly ModelCapability[];
  tools?: readonly ToolCapability[];
  /** Free words; `scope:tenant:<id>`, `scope:region:<id>` and `scope:subnet-local` say who finds it, see {@link ScopeFilter}. */
  tags?: readonly string[];
  limits?: ResourceLimits;
  metadata?: Readonly<Record<string, string>>;
}

/**
 * What a node is made of.
 *
 * @public
 */
export interface HardwareCapabilities {
  cpuCores?: number;
  cpuThreads?: number;
  memoryGb?: number;
  gpu?: GpuCapability;
  additionalGpus?: readonly GpuCapability[];
  storageGb?: bigint;
  networkGbps?: number;
  accelerators?: readonly AcceleratorCapability[];
}

/**
 * A graphics processor of a node.
 *
 * @public
 */
export interface GpuCapability {
  vendor?: string;
  model?: string;
  vramGb?: number;
  computeUnits?: number;
  tensorCores?: number;
  /** Half-precision TFLOPS, times ten. */
  fp16TflopsX10?: number;
}

/**
 * Another accelerator of a node.
 *
 * @public
 */
export interface AcceleratorCapability {
  kind?: string;
  model?: string;
  memoryGb?: number;
  /** TOPS, times ten. */
  topsX10?: number;
}

/**
 * What runs on a node.
 *
 * @public
 */
export interface SoftwareCapabilities {
  os?: string;
  osVersion?: string;
  runtimes?: readonly NamedVersion[];
  frameworks?: readonly NamedVersion[];
  drivers?: readonly NamedVersion[];
  cudaVersion?: string;
}

/**
 * A name and its version.
 *
 * @public
 */
export type NamedVersion = readonly [name: string, version: string];

/**
 * A model that a node serves.
 *
 * @public
 */
export interface ModelCapability {
  modelId?: string;
  family?: string;
  /** Billions of parameters, times ten. */
  parametersBX10?: number;
  contextLength?: number;
  quantization?: string;
  modalities?: readonly string[];
  tokensPerSec?: number;
  loaded?: boolean;
}

/**
 * A tool that a node offers.
 *
 * @public
 */
export interface ToolCapability {
  toolId?: string;
  name?: string;
  version?: string;
  inputSchema?: string;
  outputSchema?: string;
  requires?: readonly string[];
  estimatedTimeMs?: number;
  stateless?: boolean;
}

/**
 * What a node takes at most.
 *
 * @public
 */
export interface ResourceLimits {
  maxConcurrentRequests?: number;
  maxTokensPerRequest?: number;
  rateLimitRpm?: number;
  maxBatchSize?: number;
  maxInputBytes?: number;
  maxOutputBytes?: number;
}

/**
 * What a node must offer; thresholds are inclusive, an empty filter admits everyone.
 *
 * @public
 */
export interface CapabilityFilter {
  /** All of them. */
  requireTags?: readonly string[];
  /** Any of them. */
  requireModels?: readonly string[];
  /** Any of them. */
  requireTools?: readonly string[];
  minMemoryGb?: number;
  requireGpu?: boolean;
  /** In whatever case. */
  gpuVendor?: string;
  /** Of all GPUs together. */
  minVramGb?: number;
  /** Of any model. */
  minContextLength?: number;
  /** Every one of them, by some model. */
  requireModalities?: readonly string[];
}

/**
 * A filter and what makes one admitted node better than another. Finite weights are clamped to 0 … 1. A node's score is 1 and,
 * for each preference, the weight times its share of what the best of the admitted ones offers. Where the filter names models,
 * only those count for speed (the fastest one) and for what is loaded (how many).
 *
 * @public
 */
export interface CapabilityRequirement {
  filter: CapabilityFilter;
  preferMoreMemory?: number;
  preferMoreVram?: number;
  preferFasterInference?: number;
  preferLoadedModels?: number;
}

/**
 * Which part of the mesh a search looks at, by the tags that nodes announce. `any`: all of it; `globalOnly`: nodes without such
 * tags; `sameSubnet`: this node, and those known to be in the same configured subnet; tenants and regions: nodes tagged with one
 * of them, and those with neither tenant nor region. Nodes tagged `scope:subnet-local` are found by none of them from outside of
 * their subnet. Empty names are dropped; none at all is an error.
 *
 * @public
 */
export type ScopeFilter =
  | { kind: 'any' | 'globalOnly' | 'sameSubnet' }
  | { kind: 'tenant'; tenant: string }
  | { kind: 'tenants'; tenants: readonly string[] }
  | { kind: 'region'; region: string }
  | { kind: 'regions'; regions: readonly string[] };
