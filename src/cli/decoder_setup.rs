//! The encrypted decoder's plan for a run: functions out of the calibration, bootstraps out of a placement.

use std::path::Path;

use crate::calibration::ranges::DecoderRanges;
use crate::calibration::table::CalibrationTable;
use crate::decoder::head::HeadSide;
use crate::decoder::placement::{DecoderPlacement, PlacementScheme, TokensOfCache, place_decoder};
use crate::decoder::plan::{Accuracy, DecoderPlan};
use crate::model::prepared::PreparedModel;
use crate::placement::{CostFile, Plan};

use super::costs::built_in;
use super::scheme::Scheme;

/// What a decoder's plan is made from.
pub struct DecoderSetup<'a> {
    /// The model.
    pub prepared: &'a PreparedModel,
    /// Its ranges.
    pub calibration: &'a CalibrationTable,
    /// The scheme.
    pub scheme: &'a Scheme,
    /// Name of its preset.
    pub preset: &'a str,
    /// Tokens the caches are laid out for.
    pub context: usize,
    /// Which side applies the output head.
    pub head: HeadSide,
}

impl DecoderSetup<'_> {
    fn placement_scheme(&self) -> PlacementScheme<'_> {
        PlacementScheme {
            backend: self.scheme.name,
            preset: self.preset,
            slots: self.scheme.slots,
            chain: &self.scheme.chain,
            bootstrap: self.scheme.bootstrap,
        }
    }

    /// The functions, with bootstraps placed by hand.
    pub fn functions(&self) -> anyhow::Result<DecoderPlan> {
        let config = self.prepared.model.config();
        let prefix = &self.prepared.prefix_cache;
        let ranges = DecoderRanges::from_calibration(self.calibration, config, prefix)?;
        let functions = DecoderPlan::new(config, &ranges, Accuracy::default(), self.scheme.bootstrap)?;
        Ok(functions.with_head(self.head)?)
    }

    /// The cheapest placement under the costs of `file`, for the last token of the context.
    pub fn place(&self, functions: &DecoderPlan, file: &CostFile) -> anyhow::Result<DecoderPlacement> {
        let tokens = TokensOfCache { cached: self.context.saturating_sub(1), context: self.context };
        Ok(place_decoder(self.prepared.model.config(), functions, &self.placement_scheme(), file, tokens)?)
    }

    /// The plan to run by: that of the file `given`, which must be for this model, preset and backend, or the cheapest one
    /// on the costs built in.
    pub fn plan(&self, given: Option<&Path>) -> anyhow::Result<DecoderPlan> {
        let functions = self.functions()?;
        let plan = match given {
            Some(path) => {
                let plan = Plan::read(path)?;
                plan.check(&self.placement_scheme().target(self.prepared.model.config(), &functions)?)?;
                plan
            }
            None => self.place(&functions, &built_in()?)?.plan,
        };
        Ok(functions.placed(&plan)?)
    }
}
