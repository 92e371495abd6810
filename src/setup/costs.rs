//! Costs built into the crate, for placing bootstraps where nothing was measured on this machine.

use super::{Backend, Preset};
use crate::contract::Result;
use crate::placement::CostFile;

/// Costs of the native backend at N = 2^16 on two cores; the file says where and how they were measured. Made anew by
/// `cachemir bench modules --shape llama-3-8b --preset n16 --every 4 --rounds 1 -o FILE`.
const N16: &str = include_str!("built_in_costs/n16.json");

/// Whether the costs built in were measured under this preset on this backend. For any other their seconds say nothing;
/// which operations are dear beside which is much the same, so they still place bootstraps.
#[must_use]
pub fn are_measured_for(backend: Backend, preset: Preset) -> bool {
    (backend, preset) == (Backend::Native, Preset::N16)
}

/// The costs built in, as they were measured: native, N = 2^16.
///
/// # Errors
/// [`crate::Error::Format`] when the file in the crate is damaged.
pub fn built_in() -> Result<CostFile> {
    CostFile::parse(N16)
}

/// The costs built in, to place bootstraps on `backend` under `preset`: marked in their provenance where they are those
/// of another preset or backend, so that nobody takes the seconds predicted from them for a prediction.
///
/// # Errors
/// [`crate::Error::Format`] when the file in the crate is damaged.
pub fn built_in_for(backend: Backend, preset: Preset) -> Result<CostFile> {
    let mut costs = built_in()?;
    if !are_measured_for(backend, preset) {
        costs.provenance = format!(
            "NOT of preset {preset} on {backend}, so that seconds predicted are not seconds: {}",
            costs.provenance
        );
    }
    Ok(costs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_of_another_preset_or_backend_are_marked_as_such() {
        let own = built_in_for(Backend::Native, Preset::N16).unwrap();
        assert!(own.provenance.contains("native") && !own.provenance.contains("NOT"), "{}", own.provenance);
        for (backend, preset) in [(Backend::Clear, Preset::N16), (Backend::Native, Preset::Test)] {
            let other = built_in_for(backend, preset).unwrap();
            assert!(other.provenance.starts_with("NOT of preset"), "{}", other.provenance);
            assert_eq!(other.bootstraps, own.bootstraps);
        }
    }

    #[test]
    fn the_costs_built_in_price_every_operation() {
        let file = built_in().unwrap();
        assert_eq!(file.bootstrap_costs().unwrap().output_level().unwrap().0, 16);
        assert_eq!(file.minimum_input_level.0, 3);
        file.operation_costs().unwrap();
    }
}
