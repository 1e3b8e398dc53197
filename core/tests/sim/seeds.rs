//! Which seeds run: a few fixed ones by default, many by `npm run sim -- --seeds N`, a single one to look at a failure.

use std::ops::Range;

/// `SIM_SEED=7` runs that seed alone; `SIM_SEEDS=1000` runs a thousand from the first usual one, and `SIM_FROM=5000` from
/// there; otherwise the usual ones run.
pub(crate) fn chosen(usual: Range<u64>) -> Range<u64> {
    if let Some(only) = number("SIM_SEED") {
        return only..only + 1;
    }
    match number("SIM_SEEDS") {
        Some(count) => {
            let first = number("SIM_FROM").unwrap_or(usual.start);
            first..first + count
        }
        None => usual,
    }
}

/// Whether somebody looks at one seed.
pub(crate) fn is_single() -> bool {
    number("SIM_SEED").is_some()
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable} must be a whole number, got {value:?}")))
}
