//! What a node can do.

use minicbor::decode::{Decoder, Error};
use minicbor::encode::{Encoder, Write};
use minicbor::{Decode, Encode};

/// Most elements of any list.
pub const MAX_ITEMS: usize = 256;
/// Most bytes that all lists of one set may take in memory, without what their strings say: all full ones that are in no other
/// list, and some thousand strings in those that are. An empty element takes one byte on the wire, and many here.
const MAX_LISTS: usize = 256 * 1024;

/// What a node can do. Nothing has to be said.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map, context_bound = "ListSpace")]
pub struct CapabilitySet {
    /// What it is made of.
    #[n(0)]
    pub hardware: Option<Hardware>,
    /// What runs on it.
    #[n(1)]
    pub software: Option<Software>,
    /// Models that it serves.
    #[cbor(n(2), with = "lists", skip_if = "Vec::is_empty")]
    pub models: Vec<Model>,
    /// Tools that it offers.
    #[cbor(n(3), with = "lists", skip_if = "Vec::is_empty")]
    pub tools: Vec<Tool>,
    /// Free words. Some of them say who is to see the node, see [`ScopeFilter`](super::ScopeFilter).
    #[cbor(n(4), with = "lists", skip_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// What it takes at most.
    #[n(5)]
    pub limits: Option<Limits>,
    /// Anything else, in order: keys and values.
    #[cbor(n(6), with = "lists", skip_if = "Vec::is_empty")]
    pub metadata: Vec<(String, String)>,
}

/// What a node is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map, context_bound = "ListSpace")]
pub struct Hardware {
    /// Cores.
    #[n(0)]
    pub cpu_cores: Option<u32>,
    /// Threads that run at once.
    #[n(1)]
    pub cpu_threads: Option<u32>,
    /// Main memory in GB.
    #[n(2)]
    pub memory_gb: Option<Quantity>,
    /// The first graphics processor.
    #[n(3)]
    pub gpu: Option<Gpu>,
    /// Further ones.
    #[cbor(n(4), with = "lists", skip_if = "Vec::is_empty")]
    pub additional_gpus: Vec<Gpu>,
    /// Storage in GB.
    #[n(5)]
    pub storage_gb: Option<u64>,
    /// Network in Gbit/s.
    #[n(6)]
    pub network_gbps: Option<Quantity>,
    /// Other accelerators.
    #[cbor(n(7), with = "lists", skip_if = "Vec::is_empty")]
    pub accelerators: Vec<Accelerator>,
}

/// A graphics processor.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Gpu {
    /// Who makes it.
    #[n(0)]
    pub vendor: Option<String>,
    /// Its name.
    #[n(1)]
    pub model: Option<String>,
    /// Its memory in GB.
    #[n(2)]
    pub vram_gb: Option<Quantity>,
    /// Compute units.
    #[n(3)]
    pub compute_units: Option<u32>,
    /// Tensor cores.
    #[n(4)]
    pub tensor_cores: Option<u32>,
    /// Half-precision TFLOPS, times ten.
    #[n(5)]
    pub fp16_tflops_x10: Option<u32>,
}

/// Another accelerator.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Accelerator {
    /// What it is.
    #[n(0)]
    pub kind: Option<String>,
    /// Its name.
    #[n(1)]
    pub model: Option<String>,
    /// Its memory in GB.
    #[n(2)]
    pub memory_gb: Option<Quantity>,
    /// TOPS, times ten.
    #[n(3)]
    pub tops_x10: Option<u32>,
}

/// A name and its version.
pub type NamedVersion = (String, String);

/// What runs on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map, context_bound = "ListSpace")]
pub struct Software {
    /// The operating system.
    #[n(0)]
    pub os: Option<String>,
    /// Its version.
    #[n(1)]
    pub os_version: Option<String>,
    /// Language runtimes.
    #[cbor(n(2), with = "lists", skip_if = "Vec::is_empty")]
    pub runtimes: Vec<NamedVersion>,
    /// Frameworks.
    #[cbor(n(3), with = "lists", skip_if = "Vec::is_empty")]
    pub frameworks: Vec<NamedVersion>,
    /// Drivers.
    #[cbor(n(4), with = "lists", skip_if = "Vec::is_empty")]
    pub drivers: Vec<NamedVersion>,
    /// CUDA.
    #[n(5)]
    pub cuda_version: Option<String>,
}

/// A model that a node serves.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map, context_bound = "ListSpace")]
pub struct Model {
    /// What filters name.
    #[n(0)]
    pub model_id: Option<String>,
    /// Its family.
    #[n(1)]
    pub family: Option<String>,
    /// Billions of parameters, times ten.
    #[n(2)]
    pub parameters_b_x10: Option<u32>,
    /// Tokens of context.
    #[n(3)]
    pub context_length: Option<u32>,
    /// How it is quantised.
    #[n(4)]
    pub quantization: Option<String>,
    /// What it takes and gives: text, images and so on.
    #[cbor(n(5), with = "lists", skip_if = "Vec::is_empty")]
    pub modalities: Vec<String>,
    /// Its speed.
    #[n(6)]
    pub tokens_per_sec: Option<Quantity>,
    /// Whether it can answer at once.
    #[n(7)]
    pub loaded: Option<bool>,
}

/// A tool that a node offers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map, context_bound = "ListSpace")]
pub struct Tool {
    /// What filters name.
    #[n(0)]
    pub tool_id: Option<String>,
    /// Its name.
    #[n(1)]
    pub name: Option<String>,
    /// Its version.
    #[n(2)]
    pub version: Option<String>,
    /// What goes in.
    #[n(3)]
    pub input_schema: Option<String>,
    /// What comes out.
    #[n(4)]
    pub output_schema: Option<String>,
    /// What it needs.
    #[cbor(n(5), with = "lists", skip_if = "Vec::is_empty")]
    pub requires: Vec<String>,
    /// How long it takes, in milliseconds.
    #[n(6)]
    pub estimated_time_ms: Option<Quantity>,
    /// Whether it keeps nothing between two uses.
    #[n(7)]
    pub stateless: Option<bool>,
}

/// What a node takes at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Limits {
    /// Requests at once.
    #[n(0)]
    pub max_concurrent_requests: Option<u32>,
    /// Tokens of one request.
    #[n(1)]
    pub max_tokens_per_request: Option<u32>,
    /// Requests in a minute.
    #[n(2)]
    pub rate_limit_rpm: Option<u32>,
    /// Requests in a batch.
    #[n(3)]
    pub max_batch_size: Option<u32>,
    /// Bytes that go in.
    #[n(4)]
    pub max_input_bytes: Option<u64>,
    /// Bytes that come out.
    #[n(5)]
    pub max_output_bytes: Option<u64>,
}

/// Memory for lists while a set is read.
pub trait ListSpace {
    /// Takes so many bytes of it; false when there are not so many left.
    fn take(&mut self, bytes: usize) -> bool;
}

/// As much as the lists of one set may take.
#[derive(Debug)]
pub(super) struct OneSet(usize);

impl Default for OneSet {
    fn default() -> Self {
        Self(MAX_LISTS)
    }
}

impl ListSpace for OneSet {
    fn take(&mut self, bytes: usize) -> bool {
        let left = self.0.checked_sub(bytes);
        self.0 = left.unwrap_or(0);
        left.is_some()
    }
}

/// For what no peer sends.
impl ListSpace for () {
    fn take(&mut self, _: usize) -> bool {
        true
    }
}

/// A measured amount: finite and not negative, so that any two can be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quantity(f64);

impl Eq for Quantity {}

impl Quantity {
    /// Takes a number that is one.
    pub fn new(value: f64) -> Option<Self> {
        // Of the two zeros, the positive one.
        (value.is_finite() && value >= 0.0).then_some(Self(value + 0.0))
    }

    /// The number.
    pub const fn get(self) -> f64 {
        self.0
    }
}

impl<C> Encode<C> for Quantity {
    fn encode<W: Write>(&self, e: &mut Encoder<W>, _: &mut C) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.f64(self.0)?.ok()
    }
}

impl<'b, C> Decode<'b, C> for Quantity {
    fn decode(d: &mut Decoder<'b>, _: &mut C) -> Result<Self, Error> {
        Self::new(d.f64()?).ok_or_else(|| Error::message("an amount that is no amount"))
    }
}

impl CapabilitySet {
    /// All graphics processors.
    pub fn gpus(&self) -> impl Iterator<Item = &Gpu> {
        self.hardware.iter().flat_map(|hardware| hardware.gpu.iter().chain(&hardware.additional_gpus))
    }

    /// Main memory in GB.
    pub fn memory_gb(&self) -> f64 {
        self.hardware.as_ref().and_then(|hardware| hardware.memory_gb).unwrap_or_default().get()
    }

    /// The memory of all graphics processors together, in GB.
    pub fn vram_gb(&self) -> f64 {
        self.gpus().filter_map(|gpu| gpu.vram_gb).map(Quantity::get).sum::<f64>().min(f64::MAX)
    }
}

pub(super) mod items {
    //! `#[cbor(with = "items")]`: a list whose length is checked before anything is allocated for it.

    use minicbor::decode::{Decoder, Error};
    use minicbor::encode::{Encoder, Write};
    use minicbor::{Decode, Encode};

    use super::MAX_ITEMS;
    use crate::wire::codec::bounded_count;

    pub(in crate::capability) fn encode<C, T: Encode<C>, W: Write>(
        items: &[T],
        e: &mut Encoder<W>,
        ctx: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.array(items.len() as u64)?;
        items.iter().try_for_each(|item| item.encode(e, ctx))
    }

    pub(in crate::capability) fn decode<'b, C, T: Decode<'b, C>>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<Vec<T>, Error> {
        let count = bounded_count(d, MAX_ITEMS as u64, "capabilities")?;
        (0..count).map(|_| T::decode(d, ctx)).collect()
    }
}

mod lists {
    //! `#[cbor(with = "lists")]`: the same for a list inside of a set, which has so much memory for all of them.

    use minicbor::Decode;
    use minicbor::decode::{Decoder, Error};

    pub(super) use super::items::encode;
    use super::{ListSpace, MAX_ITEMS};
    use crate::wire::codec::bounded_count;

    pub(super) fn decode<'b, C: ListSpace, T: Decode<'b, C>>(
        d: &mut Decoder<'b>,
        ctx: &mut C,
    ) -> Result<Vec<T>, Error> {
        let count = bounded_count(d, MAX_ITEMS as u64, "capabilities")?;
        let count = usize::try_from(count).map_err(|_| Error::message("a list longer than memory"))?;
        if !ctx.take(count * size_of::<T>()) {
            return Err(Error::message("capabilities of more elements than are kept"));
        }
        let mut items = Vec::with_capacity(count);
        for _ in 0..count {
            items.push(T::decode(d, ctx)?);
        }
        Ok(items)
    }
}

#[cfg(test)]
#[path = "set_tests.rs"]
mod tests;
