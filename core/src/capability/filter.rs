//! What a node must offer.

use minicbor::{Decode, Encode};

use super::set::{CapabilitySet, Model, Quantity, items};

/// What a node must offer. Thresholds are inclusive; an empty filter admits everyone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CapabilityFilter {
    /// All of these tags.
    #[cbor(n(0), with = "items", skip_if = "Vec::is_empty")]
    pub require_tags: Vec<String>,
    /// Any of these models.
    #[cbor(n(1), with = "items", skip_if = "Vec::is_empty")]
    pub require_models: Vec<String>,
    /// Any of these tools.
    #[cbor(n(2), with = "items", skip_if = "Vec::is_empty")]
    pub require_tools: Vec<String>,
    /// Main memory.
    #[n(3)]
    pub min_memory_gb: Option<Quantity>,
    /// A graphics processor.
    #[n(4)]
    pub require_gpu: bool,
    /// One of this vendor, in whatever case.
    #[n(5)]
    pub gpu_vendor: Option<String>,
    /// The memory of all of them together.
    #[n(6)]
    pub min_vram_gb: Option<Quantity>,
    /// Context of any model.
    #[n(7)]
    pub min_context_length: Option<u32>,
    /// Every one of these, by some model.
    #[cbor(n(8), with = "items", skip_if = "Vec::is_empty")]
    pub require_modalities: Vec<String>,
}

impl CapabilityFilter {
    /// Asks for nothing.
    pub const EMPTY: Self = Self {
        require_tags: Vec::new(),
        require_models: Vec::new(),
        require_tools: Vec::new(),
        min_memory_gb: None,
        require_gpu: false,
        gpu_vendor: None,
        min_vram_gb: None,
        min_context_length: None,
        require_modalities: Vec::new(),
    };

    /// Whether it asks for nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::EMPTY
    }

    /// Whether a set has all that is asked for.
    pub fn matches(&self, set: &CapabilitySet) -> bool {
        let by_some_model = |modality: &String| set.models.iter().any(|model| model.modalities.contains(modality));
        self.require_tags.iter().all(|tag| set.tags.contains(tag))
            && any_of(&self.require_models, set.models.iter().map(|model| model.model_id.as_deref()))
            && any_of(&self.require_tools, set.tools.iter().map(|tool| tool.tool_id.as_deref()))
            && self.min_memory_gb.is_none_or(|least| set.memory_gb() >= least.get())
            && (!self.require_gpu || set.gpus().next().is_some())
            && self.gpu_vendor.as_ref().is_none_or(|wanted| {
                set.gpus().filter_map(|gpu| gpu.vendor.as_ref()).any(|vendor| vendor.eq_ignore_ascii_case(wanted))
            })
            && self.min_vram_gb.is_none_or(|least| set.vram_gb() >= least.get())
            && self
                .min_context_length
                .is_none_or(|least| set.models.iter().any(|model| model.context_length >= Some(least)))
            && self.require_modalities.iter().all(by_some_model)
    }

    /// The models that it is about: those that it names, else all.
    pub(super) fn models_of<'a>(&'a self, set: &'a CapabilitySet) -> impl Iterator<Item = &'a Model> {
        set.models.iter().filter(|model| any_of(&self.require_models, std::iter::once(model.model_id.as_deref())))
    }
}

/// Whether one of those offered is wanted; when none is asked for, all is well.
fn any_of<'a>(wanted: &[String], mut offered: impl Iterator<Item = Option<&'a str>>) -> bool {
    wanted.is_empty() || offered.any(|one| one.is_some_and(|one| wanted.iter().any(|wanted| wanted == one)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::{Gpu, Hardware, Tool};

    fn gb(value: f64) -> Option<Quantity> {
        Quantity::new(value)
    }

    fn texts(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn rich() -> CapabilitySet {
        let model = |id: &str, context, modalities: &[&str]| Model {
            model_id: Some(id.to_owned()),
            context_length: Some(context),
            modalities: texts(modalities),
            ..Model::default()
        };
        let gpu = |vram| Gpu { vendor: Some("NVIDIA".to_owned()), vram_gb: gb(vram), ..Gpu::default() };
        CapabilitySet {
            hardware: Some(Hardware {
                memory_gb: gb(64.0),
                gpu: Some(gpu(16.0)),
                additional_gpus: vec![gpu(8.0)],
                ..Hardware::default()
            }),
            models: vec![model("a", 4096, &["text"]), model("b", 1024, &["image"])],
            tools: vec![Tool { tool_id: Some("search".to_owned()), ..Tool::default() }],
            tags: texts(&["x", "y"]),
            ..CapabilitySet::default()
        }
    }

    #[test]
    fn an_empty_filter_admits_everyone() {
        assert!(CapabilityFilter::EMPTY.is_empty());
        assert!(CapabilityFilter::EMPTY.matches(&CapabilitySet::default()));
        assert_eq!(CapabilityFilter::EMPTY, CapabilityFilter::default());
    }

    #[test]
    fn every_field_is_looked_at_and_thresholds_are_inclusive() {
        let set = rich();
        let none = CapabilityFilter::EMPTY;
        let admitted = [
            CapabilityFilter { require_tags: texts(&["x", "y"]), ..none.clone() },
            CapabilityFilter { require_models: texts(&["z", "b"]), ..none.clone() },
            CapabilityFilter { require_tools: texts(&["z", "search"]), ..none.clone() },
            CapabilityFilter { min_memory_gb: gb(64.0), ..none.clone() },
            CapabilityFilter { require_gpu: true, ..none.clone() },
            CapabilityFilter { gpu_vendor: Some("nvidia".to_owned()), ..none.clone() },
            CapabilityFilter { min_vram_gb: gb(24.0), ..none.clone() },
            CapabilityFilter { min_context_length: Some(4096), ..none.clone() },
            CapabilityFilter { require_modalities: texts(&["text", "image"]), ..none.clone() },
        ];
        for filter in &admitted {
            assert!(filter.matches(&set), "{filter:?}");
            assert!(!filter.matches(&CapabilitySet::default()), "{filter:?}");
            assert!(!filter.is_empty());
        }
        let refused = [
            CapabilityFilter { require_tags: texts(&["x", "z"]), ..none.clone() },
            CapabilityFilter { require_models: texts(&["z"]), ..none.clone() },
            CapabilityFilter { require_tools: texts(&["z"]), ..none.clone() },
            CapabilityFilter { min_memory_gb: gb(64.5), ..none.clone() },
            CapabilityFilter { gpu_vendor: Some("amd".to_owned()), ..none.clone() },
            CapabilityFilter { min_vram_gb: gb(24.5), ..none.clone() },
            CapabilityFilter { min_context_length: Some(4097), ..none.clone() },
            CapabilityFilter { require_modalities: texts(&["text", "sound"]), ..none },
        ];
        for filter in &refused {
            assert!(!filter.matches(&set), "{filter:?}");
        }
    }
}
