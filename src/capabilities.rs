//! What nodes can do: announced, and looked for.
//!
//! The structures mirror those of `core` field by field; `lib` has checked every value with a message that names it.

use mesh_daemon_core::capability::{
    Accelerator, AnnouncementError, Capabilities, CapabilityFilter, CapabilityRequirement, CapabilitySet, Gpu,
    Hardware, Limits, MAX_ANNOUNCEMENT, Model, NamedVersion, Quantity, ScopeFilter, Software, Tool, Weight,
};
use mesh_daemon_core::mesh::MeshError;
use napi::bindgen_prelude::{BigInt, Env};
use napi::{Result, Status};
use napi_derive::napi;

use crate::convert::u64_from;
use crate::env::EnvState;
use crate::error::{ErrorCode, Failure};

/// What a node can do.
#[napi(object, object_to_js = false)]
pub struct CapabilitySetOptions {
    /// What it is made of.
    pub hardware: Option<HardwareOptions>,
    /// What runs on it.
    pub software: Option<SoftwareOptions>,
    /// Models that it serves.
    pub models: Option<Vec<ModelOptions>>,
    /// Tools that it offers.
    pub tools: Option<Vec<ToolOptions>>,
    /// Free words.
    pub tags: Option<Vec<String>>,
    /// What it takes at most.
    pub limits: Option<LimitOptions>,
    /// Pairs of key and value.
    pub metadata: Option<Vec<Vec<String>>>,
}

/// What a node is made of.
#[napi(object, object_to_js = false)]
pub struct HardwareOptions {
    /// Cores.
    pub cpu_cores: Option<u32>,
    /// Threads.
    pub cpu_threads: Option<u32>,
    /// Main memory.
    pub memory_gb: Option<f64>,
    /// The first graphics processor.
    pub gpu: Option<GpuOptions>,
    /// Further ones.
    pub additional_gpus: Option<Vec<GpuOptions>>,
    /// Storage.
    pub storage_gb: Option<BigInt>,
    /// Network.
    pub network_gbps: Option<f64>,
    /// Other accelerators.
    pub accelerators: Option<Vec<AcceleratorOptions>>,
}

/// A graphics processor.
#[napi(object, object_to_js = false)]
pub struct GpuOptions {
    /// Who makes it.
    pub vendor: Option<String>,
    /// Its name.
    pub model: Option<String>,
    /// Its memory.
    pub vram_gb: Option<f64>,
    /// Compute units.
    pub compute_units: Option<u32>,
    /// Tensor cores.
    pub tensor_cores: Option<u32>,
    /// Half-precision TFLOPS, times ten.
    #[napi(js_name = "fp16TflopsX10")]
    pub fp16_tflops_x10: Option<u32>,
}

/// Another accelerator.
#[napi(object, object_to_js = false)]
pub struct AcceleratorOptions {
    /// What it is.
    pub kind: Option<String>,
    /// Its name.
    pub model: Option<String>,
    /// Its memory.
    pub memory_gb: Option<f64>,
    /// TOPS, times ten.
    #[napi(js_name = "topsX10")]
    pub tops_x10: Option<u32>,
}

/// What runs on a node.
#[napi(object, object_to_js = false)]
pub struct SoftwareOptions {
    /// The operating system.
    pub os: Option<String>,
    /// Its version.
    pub os_version: Option<String>,
    /// Pairs of name and version.
    pub runtimes: Option<Vec<Vec<String>>>,
    /// Pairs of name and version.
    pub frameworks: Option<Vec<Vec<String>>>,
    /// Pairs of name and version.
    pub drivers: Option<Vec<Vec<String>>>,
    /// CUDA.
    pub cuda_version: Option<String>,
}

/// A model that a node serves.
#[napi(object, object_to_js = false)]
pub struct ModelOptions {
    /// What filters name.
    pub model_id: Option<String>,
    /// Its family.
    pub family: Option<String>,
    /// Billions of parameters, times ten.
    #[napi(js_name = "parametersBX10")]
    pub parameters_b_x10: Option<u32>,
    /// Tokens of context.
    pub context_length: Option<u32>,
    /// How it is quantised.
    pub quantization: Option<String>,
    /// What it takes and gives.
    pub modalities: Option<Vec<String>>,
    /// Its speed.
    pub tokens_per_sec: Option<f64>,
    /// Whether it can answer at once.
    pub loaded: Option<bool>,
}

/// A tool that a node offers.
#[napi(object, object_to_js = false)]
pub struct ToolOptions {
    /// What filters name.
    pub tool_id: Option<String>,
    /// Its name.
    pub name: Option<String>,
    /// Its version.
    pub version: Option<String>,
    /// What goes in.
    pub input_schema: Option<String>,
    /// What comes out.
    pub output_schema: Option<String>,
    /// What it needs.
    pub requires: Option<Vec<String>>,
    /// How long it takes.
    pub estimated_time_ms: Option<f64>,
    /// Whether it keeps nothing.
    pub stateless: Option<bool>,
}

/// What a node takes at most.
#[napi(object, object_to_js = false)]
pub struct LimitOptions {
    /// Requests at once.
    pub max_concurrent_requests: Option<u32>,
    /// Tokens of one request.
    pub max_tokens_per_request: Option<u32>,
    /// Requests in a minute.
    pub rate_limit_rpm: Option<u32>,
    /// Requests in a batch.
    pub max_batch_size: Option<u32>,
    /// Bytes that go in.
    pub max_input_bytes: Option<BigInt>,
    /// Bytes that come out.
    pub max_output_bytes: Option<BigInt>,
}

/// What a node must offer.
#[napi(object, object_to_js = false)]
pub struct FilterOptions {
    /// All of them.
    pub require_tags: Option<Vec<String>>,
    /// Any of them.
    pub require_models: Option<Vec<String>>,
    /// Any of them.
    pub require_tools: Option<Vec<String>>,
    /// Main memory.
    pub min_memory_gb: Option<f64>,
    /// A graphics processor.
    pub require_gpu: Option<bool>,
    /// One of this vendor.
    pub gpu_vendor: Option<String>,
    /// Memory of all graphics processors.
    pub min_vram_gb: Option<f64>,
    /// Of any model.
    pub min_context_length: Option<u32>,
    /// Every one, by some model.
    pub require_modalities: Option<Vec<String>>,
}

/// What a node must offer, and what is preferred.
#[napi(object, object_to_js = false)]
pub struct RequirementOptions {
    /// What it must offer.
    pub filter: FilterOptions,
    /// A weight.
    pub prefer_more_memory: Option<f64>,
    /// A weight.
    pub prefer_more_vram: Option<f64>,
    /// A weight.
    pub prefer_faster_inference: Option<f64>,
    /// A weight.
    pub prefer_loaded_models: Option<f64>,
}

/// Which part of the mesh is looked at.
#[napi(object, object_to_js = false)]
pub struct ScopeOptions {
    /// `any`, `globalOnly`, `sameSubnet`, `tenants` or `regions`.
    pub kind: String,
    /// Of tenants or regions.
    pub names: Vec<String>,
}

/// Announces what a node can do.
#[napi]
pub fn capabilities_announce(env: Env, mesh: u32, set: CapabilitySetOptions) -> Result<()> {
    let capabilities = capabilities(&env, mesh)?;
    capabilities.announce(set_from(set)?).map_err(|error| {
        let message = match error {
            AnnouncementError::TooLarge(size) => {
                format!("caps must be at most {MAX_ANNOUNCEMENT} bytes when encoded, got {size}")
            }
            other => format!("caps cannot be announced: {other}"),
        };
        Failure::new(ErrorCode::MeshInvalidArgument, message).throw(&env)
    })
}

/// The nodes that offer what a filter asks for, sorted.
#[napi]
pub fn capabilities_find(
    env: Env,
    mesh: u32,
    filter: FilterOptions,
    scope: Option<ScopeOptions>,
) -> Result<Vec<BigInt>> {
    let scope = scope.map(scope_from).transpose()?;
    let found = capabilities(&env, mesh)?.find(&filter_from(filter)?, scope.as_ref());
    Ok(found.into_iter().map(|node| node.get().into()).collect())
}

/// The node that meets a requirement best.
#[napi]
pub fn capabilities_best(
    env: Env,
    mesh: u32,
    requirement: RequirementOptions,
    scope: Option<ScopeOptions>,
) -> Result<Option<BigInt>> {
    let scope = scope.map(scope_from).transpose()?;
    let requirement = CapabilityRequirement {
        filter: filter_from(requirement.filter)?,
        prefer_more_memory: weight(requirement.prefer_more_memory)?,
        prefer_more_vram: weight(requirement.prefer_more_vram)?,
        prefer_faster_inference: weight(requirement.prefer_faster_inference)?,
        prefer_loaded_models: weight(requirement.prefer_loaded_models)?,
    };
    Ok(capabilities(&env, mesh)?.best(&requirement, scope.as_ref()).map(|node| node.get().into()))
}

/// What is asked of a node.
pub(crate) fn filter_from(filter: FilterOptions) -> Result<CapabilityFilter> {
    Ok(CapabilityFilter {
        require_tags: filter.require_tags.unwrap_or_default(),
        require_models: filter.require_models.unwrap_or_default(),
        require_tools: filter.require_tools.unwrap_or_default(),
        min_memory_gb: quantity(filter.min_memory_gb)?,
        require_gpu: filter.require_gpu.unwrap_or_default(),
        gpu_vendor: filter.gpu_vendor,
        min_vram_gb: quantity(filter.min_vram_gb)?,
        min_context_length: filter.min_context_length,
        require_modalities: filter.require_modalities.unwrap_or_default(),
    })
}

fn set_from(set: CapabilitySetOptions) -> Result<CapabilitySet> {
    Ok(CapabilitySet {
        hardware: set.hardware.map(hardware_from).transpose()?,
        software: set.software.map(software_from).transpose()?,
        models: all(set.models, model_from)?,
        tools: all(set.tools, tool_from)?,
        tags: set.tags.unwrap_or_default(),
        limits: set.limits.map(limits_from).transpose()?,
        metadata: pairs(set.metadata)?,
    })
}

fn hardware_from(hardware: HardwareOptions) -> Result<Hardware> {
    Ok(Hardware {
        cpu_cores: hardware.cpu_cores,
        cpu_threads: hardware.cpu_threads,
        memory_gb: quantity(hardware.memory_gb)?,
        gpu: hardware.gpu.map(gpu_from).transpose()?,
        additional_gpus: all(hardware.additional_gpus, gpu_from)?,
        storage_gb: hardware.storage_gb.as_ref().map(u64_from).transpose()?,
        network_gbps: quantity(hardware.network_gbps)?,
        accelerators: all(hardware.accelerators, accelerator_from)?,
    })
}

fn gpu_from(gpu: GpuOptions) -> Result<Gpu> {
    Ok(Gpu {
        vendor: gpu.vendor,
        model: gpu.model,
        vram_gb: quantity(gpu.vram_gb)?,
        compute_units: gpu.compute_units,
        tensor_cores: gpu.tensor_cores,
        fp16_tflops_x10: gpu.fp16_tflops_x10,
    })
}

fn accelerator_from(accelerator: AcceleratorOptions) -> Result<Accelerator> {
    Ok(Accelerator {
        kind: accelerator.kind,
        model: accelerator.model,
        memory_gb: quantity(accelerator.memory_gb)?,
        tops_x10: accelerator.tops_x10,
    })
}

fn software_from(software: SoftwareOptions) -> Result<Software> {
    Ok(Software {
        os: software.os,
        os_version: software.os_version,
        runtimes: pairs(software.runtimes)?,
        frameworks: pairs(software.frameworks)?,
        drivers: pairs(software.drivers)?,
        cuda_version: software.cuda_version,
    })
}

fn model_from(model: ModelOptions) -> Result<Model> {
    Ok(Model {
        model_id: model.model_id,
        family: model.family,
        parameters_b_x10: model.parameters_b_x10,
        context_length: model.context_length,
        quantization: model.quantization,
        modalities: model.modalities.unwrap_or_default(),
        tokens_per_sec: quantity(model.tokens_per_sec)?,
        loaded: model.loaded,
    })
}

fn tool_from(tool: ToolOptions) -> Result<Tool> {
    Ok(Tool {
        tool_id: tool.tool_id,
        name: tool.name,
        version: tool.version,
        input_schema: tool.input_schema,
        output_schema: tool.output_schema,
        requires: tool.requires.unwrap_or_default(),
        estimated_time_ms: quantity(tool.estimated_time_ms)?,
        stateless: tool.stateless,
    })
}

fn limits_from(limits: LimitOptions) -> Result<Limits> {
    Ok(Limits {
        max_concurrent_requests: limits.max_concurrent_requests,
        max_tokens_per_request: limits.max_tokens_per_request,
        rate_limit_rpm: limits.rate_limit_rpm,
        max_batch_size: limits.max_batch_size,
        max_input_bytes: limits.max_input_bytes.as_ref().map(u64_from).transpose()?,
        max_output_bytes: limits.max_output_bytes.as_ref().map(u64_from).transpose()?,
    })
}

fn scope_from(scope: ScopeOptions) -> Result<ScopeFilter> {
    Ok(match scope.kind.as_str() {
        "any" => ScopeFilter::Any,
        "globalOnly" => ScopeFilter::GlobalOnly,
        "sameSubnet" => ScopeFilter::SameSubnet,
        "tenants" => ScopeFilter::Tenants(scope.names),
        "regions" => ScopeFilter::Regions(scope.names),
        _ => return Err(napi::Error::new(Status::InvalidArg, "no such scope")),
    })
}

fn all<F, T>(given: Option<Vec<F>>, from: impl Fn(F) -> Result<T>) -> Result<Vec<T>> {
    given.unwrap_or_default().into_iter().map(from).collect()
}

fn pairs(given: Option<Vec<Vec<String>>>) -> Result<Vec<NamedVersion>> {
    let pair = |pair: Vec<String>| {
        let pair: [String; 2] = pair.try_into().map_err(|_| napi::Error::new(Status::InvalidArg, "no pair"))?;
        Ok(pair.into())
    };
    all(given, pair)
}

fn quantity(given: Option<f64>) -> Result<Option<Quantity>> {
    let check = |value| {
        Quantity::new(value).ok_or_else(|| napi::Error::new(Status::InvalidArg, "an amount must be non-negative"))
    };
    given.map(check).transpose()
}

fn weight(given: Option<f64>) -> Result<Weight> {
    Weight::new(given.unwrap_or_default())
        .ok_or_else(|| napi::Error::new(Status::InvalidArg, "a weight must be finite"))
}

fn capabilities(env: &Env, mesh: u32) -> Result<Capabilities> {
    EnvState::of(env)?.layers.capabilities(mesh).ok_or_else(|| Failure::from(MeshError::ShutDown).throw(env))
}
