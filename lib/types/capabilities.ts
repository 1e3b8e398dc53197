/**
 * What a node can do. Every field is optional.
 *
 * Reserved: not used yet.
 *
 * @public
 */
export interface CapabilitySet {
  hardware?: HardwareCapabilities;
  software?: SoftwareCapabilities;
  models?: readonly ModelCapability[];
  tools?: readonly ToolCapability[];
  /** Free words; `scope:tenant:<id>`, `scope:region:<id>` and `scope:subnet-local` limit who sees the node. */
  tags?: readonly string[];
  limits?: ResourceLimits;
  metadata?: Readonly<Record<string, string>>;
}

/**
 * What a node is made of.
 *
 * Reserved: not used yet.
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
 * Reserved: not used yet.
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
 * Reserved: not used yet.
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
 * Reserved: not used yet.
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
 * Reserved: not used yet.
 *
 * @public
 */
export type NamedVersion = readonly [name: string, version: string];

/**
 * A model that a node serves.
 *
 * Reserved: not used yet.
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
 * Reserved: not used yet.
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
 * Reserved: not used yet.
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
 * Reserved: not used yet. A channel whose configuration has one that is not empty is refused.
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
  gpuVendor?: string;
  /** Of all GPUs together. */
  minVramGb?: number;
  /** Of any model. */
  minContextLength?: number;
  /** Every one of them, by some model. */
  requireModalities?: readonly string[];
}

/**
 * A filter and what makes one admitted node better than another. Finite weights are clamped to 0 … 1.
 *
 * Reserved: not used yet.
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
 * Which part of the mesh a search looks at.
 *
 * Reserved: not used yet.
 *
 * @public
 */
export type ScopeFilter =
  | { kind: 'any' | 'globalOnly' | 'sameSubnet' }
  | { kind: 'tenant'; tenant: string }
  | { kind: 'tenants'; tenants: readonly string[] }
  | { kind: 'region'; region: string }
  | { kind: 'regions'; regions: readonly string[] };
