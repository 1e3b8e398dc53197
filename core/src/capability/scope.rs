//! Which part of the mesh a search looks at.
//!
//! A node says with tags who is to find it: `scope:tenant:<id>` and `scope:region:<id>`, any number of them, and
//! `scope:subnet-local`. A node without any is global.

use super::set::CapabilitySet;

const TENANT: &str = "scope:tenant:";
const REGION: &str = "scope:region:";
const SUBNET_LOCAL: &str = "scope:subnet-local";

/// Which part of the mesh a search looks at. In none of them, nodes tagged `scope:subnet-local` are found from outside of
/// their subnet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScopeFilter {
    /// All of it.
    Any,
    /// Nodes without scope tags.
    GlobalOnly,
    /// This node, and those known to be in the same configured subnet.
    SameSubnet,
    /// Nodes of any of these tenants, and global ones.
    Tenants(Vec<String>),
    /// Nodes of any of these regions, and global ones.
    Regions(Vec<String>),
}

impl ScopeFilter {
    /// Whether a node may be found. `near` tells that it is this one, or in the same configured subnet.
    pub fn admits(&self, set: &CapabilitySet, near: bool) -> bool {
        let local = set.tags.iter().any(|tag| tag == SUBNET_LOCAL);
        if local && !near {
            return false;
        }
        let tags = |prefix: &'static str| set.tags.iter().filter_map(move |tag| tag.strip_prefix(prefix));
        let unbound = tags(TENANT).chain(tags(REGION)).next().is_none();
        let among = |prefix, wanted: &[String]| tags(prefix).any(|tag| wanted.iter().any(|wanted| wanted == tag));
        match self {
            Self::Any => true,
            Self::GlobalOnly => unbound && !local,
            Self::SameSubnet => near,
            Self::Tenants(tenants) => unbound || among(TENANT, tenants),
            Self::Regions(regions) => unbound || among(REGION, regions),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_decide_by_tags_and_subnet() {
        let set = |tags: &[&str]| CapabilitySet {
            tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
            ..CapabilitySet::default()
        };
        let one = |word: &str| vec![word.to_owned()];
        let filters = [
            ScopeFilter::Any,
            ScopeFilter::GlobalOnly,
            ScopeFilter::SameSubnet,
            ScopeFilter::Tenants(one("a")),
            ScopeFilter::Regions(one("eu")),
        ];
        let untagged = set(&["gpu"]);
        let (tenant, region) = (set(&["scope:tenant:a", "scope:tenant:b"]), set(&["scope:region:eu"]));
        let (both, other) = (set(&["scope:tenant:a", "scope:region:us"]), set(&["scope:tenant:c"]));
        let local = set(&["scope:subnet-local"]);
        let table: [(&CapabilitySet, bool, [bool; 5]); 8] = [
            (&untagged, false, [true, true, false, true, true]),
            (&untagged, true, [true, true, true, true, true]),
            (&tenant, false, [true, false, false, true, false]),
            (&region, true, [true, false, true, false, true]),
            (&both, false, [true, false, false, true, false]),
            (&other, false, [true, false, false, false, false]),
            (&local, false, [false, false, false, false, false]),
            (&local, true, [true, false, true, true, true]),
        ];
        for (set, near, expected) in table {
            for (filter, expected) in filters.iter().zip(expected) {
                assert_eq!(filter.admits(set, near), expected, "{filter:?} {set:?} near: {near}");
            }
        }
    }
}
