//! How far the arguments of every function, and the values at every bootstrap, reach into the interval they were
//! built for.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::circuits::approximation::Interval;

use crate::model::block_functions::NormPlace;

/// How far the arguments of one site reached.
#[derive(Clone, Debug, Serialize)]
pub struct SiteHeadroom {
    /// Layer and name.
    pub site: String,
    /// Lower end of the interval the site was built for.
    pub low: f64,
    /// Upper end of the interval the site was built for.
    pub high: f64,
    /// Smallest argument met.
    pub seen_low: f64,
    /// Largest argument met.
    pub seen_high: f64,
    /// Largest |unit variable| (of a denominator, its share of the upper bound): above 1 an argument was outside.
    pub headroom: f64,
    /// Arguments outside.
    pub outside: usize,
}

/// A function's argument, or a value that is bootstrapped, of a layer (and head).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Site {
    Norm(NormPlace),
    Scores(usize, usize),
    Denominator(usize, usize),
    Numerator(usize, usize),
    Residual(usize),
    MiddleResidual(usize),
    Up(usize),
    Silu(usize),
}

impl Site {
    /// Where the site stands in a pass through the model.
    fn order(self) -> (usize, usize, Self) {
        match self {
            Self::Norm(NormPlace::Input(layer)) => (layer, 0, self),
            Self::Scores(layer, _) => (layer, 1, self),
            Self::Denominator(layer, _) => (layer, 2, self),
            Self::Numerator(layer, _) => (layer, 3, self),
            Self::MiddleResidual(layer) => (layer, 4, self),
            Self::Norm(NormPlace::PostAttention(layer)) => (layer, 5, self),
            Self::Up(layer) => (layer, 6, self),
            Self::Silu(layer) => (layer, 7, self),
            Self::Residual(layer) => (layer, 8, self),
            Self::Norm(NormPlace::Final) => (usize::MAX, 0, self),
        }
    }
}

impl std::fmt::Display for Site {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Norm(NormPlace::Input(layer)) => write!(formatter, "layer {layer} norm 1"),
            Self::Norm(NormPlace::PostAttention(layer)) => write!(formatter, "layer {layer} norm 2"),
            Self::Norm(NormPlace::Final) => write!(formatter, "final norm"),
            Self::Scores(layer, head) => write!(formatter, "layer {layer} head {head} scores"),
            Self::Denominator(layer, head) => write!(formatter, "layer {layer} head {head} denominator"),
            Self::Numerator(layer, head) => write!(formatter, "layer {layer} head {head} numerator"),
            Self::Residual(layer) => write!(formatter, "layer {layer} residual"),
            Self::MiddleResidual(layer) => write!(formatter, "layer {layer} middle residual"),
            Self::Up(layer) => write!(formatter, "layer {layer} up"),
            Self::Silu(layer) => write!(formatter, "layer {layer} SiLU"),
        }
    }
}

/// Watches the sites of one model.
#[derive(Default)]
pub(crate) struct Headroom {
    sites: BTreeMap<Site, SiteHeadroom>,
}

impl Headroom {
    /// What every site met so far, in the order of the model.
    pub(crate) fn sites(&self) -> Vec<SiteHeadroom> {
        let mut sites: Vec<(&Site, &SiteHeadroom)> = self.sites.iter().collect();
        sites.sort_by_key(|(site, _)| site.order());
        sites.into_iter().map(|(_, seen)| seen.clone()).collect()
    }

    /// Takes in `arguments` of the site, which was built for `interval`.
    pub(crate) fn watch(&mut self, site: Site, interval: Interval, arguments: impl Iterator<Item = f64>) {
        let entry = self.sites.entry(site).or_insert_with(|| SiteHeadroom {
            site: site.to_string(),
            low: interval.low,
            high: interval.high,
            seen_low: f64::INFINITY,
            seen_high: f64::NEG_INFINITY,
            headroom: 0.0,
            outside: 0,
        });
        for argument in arguments {
            entry.seen_low = entry.seen_low.min(argument);
            entry.seen_high = entry.seen_high.max(argument);
            // `contains` is false for NaN too.
            entry.outside += usize::from(!interval.contains(argument));
            // A denominator is bounded above alone: below its interval the quotient is too small, harmlessly.
            let reach = match site {
                Site::Denominator(..) => argument / interval.high,
                _ => interval.to_unit(argument).abs(),
            };
            entry.headroom = entry.headroom.max(reach);
        }
    }

    /// Takes in `values`, each divided by its bound, of a site that is bootstrapped within ±1.
    pub(crate) fn watch_shares(&mut self, site: Site, values: impl Iterator<Item = f64>) {
        self.watch(site, Interval { low: -1.0, high: 1.0 }, values);
    }
}
