//! What makes one node better than another.

use super::filter::CapabilityFilter;
use super::set::{CapabilitySet, Quantity};
use crate::identity::NodeId;

/// How much something counts: 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Weight(f64);

impl Weight {
    /// Takes any finite number, to the nearest that is a weight.
    pub fn new(value: f64) -> Option<Self> {
        value.is_finite().then(|| Self(value.clamp(0.0, 1.0)))
    }
}

/// What a node must offer, and what is preferred among those that do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct CapabilityRequirement {
    /// What it must offer.
    pub filter: CapabilityFilter,
    /// Main memory.
    pub prefer_more_memory: Weight,
    /// The memory of all graphics processors.
    pub prefer_more_vram: Weight,
    /// Tokens per second of the fastest model, of those that the filter names if it names any.
    pub prefer_faster_inference: Weight,
    /// How many of these models are loaded.
    pub prefer_loaded_models: Weight,
}

impl CapabilityRequirement {
    /// Those that the filter admits, the best first, with their scores; equals in the order of their ids. A score is 1 and, for
    /// each preference, its weight times the share that the node has of what the best one offers.
    pub fn rank<'a>(&self, nodes: impl Iterator<Item = (NodeId, &'a CapabilitySet)>) -> Vec<(NodeId, f64)> {
        let admitted = nodes.filter(|(_, set)| self.filter.matches(set));
        let measured: Vec<_> = admitted.map(|(node, set)| (node, self.measures(set))).collect();
        let most = |at: usize| measured.iter().map(|(_, measures)| measures[at]).fold(0.0, f64::max);
        let most = [most(0), most(1), most(2), most(3)];
        let weights =
            [self.prefer_more_memory, self.prefer_more_vram, self.prefer_faster_inference, self.prefer_loaded_models];
        let share = |measure: f64, most: f64| if most > 0.0 { measure / most } else { 0.0 };
        let score = |measures: [f64; 4]| {
            let parts = weights.iter().zip(measures.into_iter().zip(most));
            1.0 + parts.map(|(weight, (measure, most))| weight.0 * share(measure, most)).sum::<f64>()
        };
        let mut ranked: Vec<_> = measured.iter().map(|&(node, measures)| (node, score(measures))).collect();
        ranked.sort_by(|(one, left), (other, right)| right.total_cmp(left).then(one.cmp(other)));
        ranked
    }

    fn measures(&self, set: &CapabilitySet) -> [f64; 4] {
        let speeds = self.filter.models_of(set).filter_map(|model| model.tokens_per_sec).map(Quantity::get);
        let loaded = self.filter.models_of(set).filter(|model| model.loaded == Some(true)).count();
        // At most as many as a list may have.
        let loaded = f64::from(u32::try_from(loaded).unwrap_or(u32::MAX));
        [set.memory_gb(), set.vram_gb(), speeds.fold(0.0, f64::max), loaded]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::{Gpu, Hardware, Model};

    fn weight(value: f64) -> Weight {
        Weight::new(value).expect("finite")
    }

    fn node(memory: f64, vram: f64) -> CapabilitySet {
        let gpu = Gpu { vram_gb: Quantity::new(vram), ..Gpu::default() };
        let hardware = Hardware { memory_gb: Quantity::new(memory), gpu: Some(gpu), ..Hardware::default() };
        CapabilitySet { hardware: Some(hardware), ..CapabilitySet::default() }
    }

    fn serving(models: &[(&str, f64, bool)]) -> CapabilitySet {
        let models = models.iter().map(|&(id, speed, loaded)| Model {
            model_id: Some(id.to_owned()),
            tokens_per_sec: Quantity::new(speed),
            loaded: Some(loaded),
            ..Model::default()
        });
        CapabilitySet { models: models.collect(), ..CapabilitySet::default() }
    }

    fn ranked(requirement: &CapabilityRequirement, sets: &[(u64, CapabilitySet)]) -> Vec<(u64, f64)> {
        let nodes = sets.iter().map(|(id, set)| (NodeId::new(*id), set));
        requirement.rank(nodes).into_iter().map(|(node, score)| (node.get(), score)).collect()
    }

    #[test]
    #[allow(clippy::float_cmp)] // halves and wholes
    fn scores_are_one_and_the_weighted_shares_of_the_best() {
        let sets = [(1, node(32.0, 80.0)), (2, node(64.0, 0.0)), (3, node(16.0, 40.0))];
        let requirement = CapabilityRequirement {
            filter: CapabilityFilter { min_memory_gb: Quantity::new(32.0), ..CapabilityFilter::EMPTY },
            prefer_more_memory: weight(1.0),
            ..CapabilityRequirement::default()
        };
        assert_eq!(ranked(&requirement, &sets), [(2, 2.0), (1, 1.5)], "who does not offer enough has no score");
        let requirement = CapabilityRequirement { prefer_more_vram: weight(1.0), ..requirement };
        assert_eq!(ranked(&requirement, &sets), [(1, 2.5), (2, 2.0)]);
        let nothing = CapabilityRequirement::default();
        assert_eq!(ranked(&nothing, &sets), [(1, 1.0), (2, 1.0), (3, 1.0)], "ties go to the lowest node id");
    }

    #[test]
    #[allow(clippy::float_cmp)] // halves and wholes
    fn only_the_models_that_are_asked_for_count() {
        let sets = [
            (1, serving(&[("a", 50.0, false), ("b", 400.0, true)])),
            (2, serving(&[("a", 100.0, false)])),
            (3, serving(&[("a", 25.0, true)])),
        ];
        let named = CapabilityFilter { require_models: vec!["a".to_owned()], ..CapabilityFilter::EMPTY };
        let fast = CapabilityRequirement {
            filter: named,
            prefer_faster_inference: weight(1.0),
            ..CapabilityRequirement::default()
        };
        assert_eq!(ranked(&fast, &sets), [(2, 2.0), (1, 1.5), (3, 1.25)]);
        let loaded = CapabilityRequirement { prefer_loaded_models: weight(1.0), ..fast };
        assert_eq!(ranked(&loaded, &sets), [(3, 2.25), (2, 2.0), (1, 1.5)]);
    }

    #[test]
    fn weights_are_clamped_and_finite() {
        assert_eq!(Weight::new(7.0), Weight::new(1.0));
        assert_eq!(Weight::new(-7.0), Weight::new(0.0));
        assert_eq!(Weight::new(f64::NAN), None);
        assert_eq!(Weight::new(f64::INFINITY), None);
    }
}
