//! What a bootstrap costs: by the level it ends at, and by how many values ride in it.

use super::graph::Value;
use crate::contract::{Error, Level, Result};

/// Cost of packing several real values into the lanes of one ciphertext around a bootstrap (spec section 8).
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct LaneCosts {
    /// Seconds of packing and unpacking, for each ciphertext that rides.
    pub seconds: f64,
    /// Levels that unpacking takes (its masks): the bootstrap must end that much higher.
    pub depth: usize,
}

/// Costs and limits of bootstrapping.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct BootstrapCosts {
    /// `seconds[ℓ]`: one ciphertext bootstrapped to level ℓ; `None` where it cannot end.
    pub seconds: Vec<Option<f64>>,
    /// Lowest level at which a ciphertext may enter.
    pub minimum_input_level: Level,
    /// Seconds added when two real ciphertexts share one bootstrap as a + i·b; `None` when that is not done.
    pub pairing_seconds: Option<f64>,
    /// Packing of more than two; `None` when that is not done.
    pub lanes: Option<LaneCosts>,
    /// Share of these seconds that a bootstrap of real slots alone takes; 1 when it saves nothing.
    pub real_share: f64,
}

/// What bootstrapping a group of values together amounts to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupCost {
    /// Seconds, packing included.
    pub seconds: f64,
    /// Ciphertexts bootstrapped.
    pub bootstraps: usize,
}

impl BootstrapCosts {
    /// Bootstraps that take `seconds` whatever level up to `output_level` they end at, from level 0 on, one value at a
    /// time.
    #[must_use]
    pub fn constant(seconds: f64, output_level: Level) -> Self {
        Self {
            seconds: vec![Some(seconds); output_level.0 + 1],
            minimum_input_level: Level(0),
            pairing_seconds: None,
            lanes: None,
            real_share: 1.0,
        }
    }

    /// With two real values sharing a bootstrap for `seconds` more.
    #[must_use]
    pub fn with_pairing(mut self, seconds: f64) -> Self {
        self.pairing_seconds = Some(seconds);
        self
    }

    /// Highest level a bootstrap reaches.
    ///
    /// # Errors
    /// [`Error::Plan`] when it reaches none.
    pub fn output_level(&self) -> Result<Level> {
        self.seconds.iter().rposition(Option::is_some).map(Level).ok_or_else(|| Error::Plan {
            why: "the bootstrap costs name no output level".to_owned(),
            remedy: "give the seconds of a bootstrap to at least one level".to_owned(),
        })
    }

    /// That costs are finite and not negative.
    ///
    /// # Errors
    /// [`Error::Plan`] naming the level.
    pub fn check(&self) -> Result<()> {
        self.output_level()?;
        let extra = [self.pairing_seconds, self.lanes.map(|lanes| lanes.seconds), Some(self.real_share)];
        let all = self.seconds.iter().copied().chain(extra).flatten();
        match all.into_iter().find(|seconds| !(seconds.is_finite() && *seconds >= 0.0)) {
            Some(seconds) => Err(Error::Plan {
                why: format!("a bootstrap is said to take {seconds} s"),
                remedy: "give finite costs".to_owned(),
            }),
            None => Ok(()),
        }
    }

    /// Most values that one bootstrap may serve.
    #[must_use]
    pub fn largest_group(&self) -> usize {
        match (self.pairing_seconds, self.lanes) {
            (_, Some(_)) => 4,
            (Some(_), None) => 2,
            (None, None) => 1,
        }
    }

    /// Cheapest way to bring all of `values` to `level` in one go; `None` when there is no way.
    ///
    /// A value alone takes one bootstrap a ciphertext, a cheaper one when it is real. Real values may share: two
    /// ciphertexts as a + i·b, or as many as their layout has lanes.
    #[must_use]
    pub fn group(&self, values: &[&Value], level: Level) -> Option<GroupCost> {
        if values.iter().any(|value| !value.may_bootstrap) {
            return None;
        }
        let ciphertexts: usize = values.iter().map(|value| value.ciphertexts).sum();
        let lanes = values.iter().map(|value| value.lanes).min().unwrap_or(1);
        let at = |level: usize| self.seconds.get(level).copied().flatten();
        let cost = |bootstraps: usize, each: f64, extra: f64| GroupCost {
            seconds: bootstraps as f64 * each + extra,
            bootstraps,
        };
        let share = if lanes >= 2 { self.real_share } else { 1.0 };
        let alone =
            at(level.0).filter(|_| values.len() == 1).map(|each| cost(ciphertexts, share * each, 0.0));
        let paired = self.pairing_seconds.filter(|_| lanes >= 2 && ciphertexts >= 2).and_then(|extra| {
            at(level.0).map(|each| cost(ciphertexts.div_ceil(2), each, (ciphertexts / 2) as f64 * extra))
        });
        let packed = self.lanes.filter(|_| lanes >= 2 && ciphertexts >= 2).and_then(|lane| {
            let each = at(level.0 + lane.depth)?;
            Some(cost(ciphertexts.div_ceil(lanes), each, ciphertexts as f64 * lane.seconds))
        });
        [alone, paired, packed].into_iter().flatten().min_by(|a, b| a.seconds.total_cmp(&b.seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(ciphertexts: usize, lanes: usize) -> Value {
        Value { name: "v".to_owned(), ciphertexts, lanes, may_bootstrap: true }
    }

    #[test]
    fn real_values_share_a_bootstrap_and_complex_ones_do_not() {
        let costs = BootstrapCosts::constant(10.0, Level(3)).with_pairing(0.5);
        let (real, complex) = (value(1, 2), value(1, 1));
        assert_eq!(costs.group(&[&real, &real], Level(3)), Some(GroupCost { seconds: 10.5, bootstraps: 1 }));
        assert_eq!(costs.group(&[&real, &complex], Level(3)), None);
        assert_eq!(
            costs.group(&[&value(4, 2)], Level(2)),
            Some(GroupCost { seconds: 21.0, bootstraps: 2 }),
            "ciphertexts of one value pair too"
        );
        assert_eq!(costs.group(&[&real], Level(4)), None);
    }

    #[test]
    fn a_real_value_alone_takes_its_share() {
        let costs = BootstrapCosts { real_share: 0.6, ..BootstrapCosts::constant(10.0, Level(5)) };
        let seconds = |value: &Value| costs.group(&[value], Level(3)).map(|cost| cost.seconds);
        assert_eq!((seconds(&value(1, 2)), seconds(&value(2, 1))), (Some(6.0), Some(20.0)));
        let paired = costs.clone().with_pairing(0.5);
        let two = [&value(1, 2), &value(1, 2)];
        assert_eq!(paired.group(&two, Level(3)), Some(GroupCost { seconds: 10.5, bootstraps: 1 }));
        assert!(BootstrapCosts { real_share: f64::NAN, ..costs }.check().is_err());
    }

    #[test]
    fn packing_into_lanes_ends_one_level_higher() {
        let mut costs = BootstrapCosts::constant(10.0, Level(3));
        costs.lanes = Some(LaneCosts { seconds: 1.0, depth: 1 });
        let many = value(1, 16);
        assert_eq!(
            costs.group(&[&many, &many, &many], Level(2)),
            Some(GroupCost { seconds: 13.0, bootstraps: 1 })
        );
        assert_eq!(costs.group(&[&many, &many, &many], Level(3)), None);
    }
}
