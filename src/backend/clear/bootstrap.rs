//! What a bootstrap of the simulator accepts and what survives it: as on a real backend.
//!
//! Data: slot values in the clear. Where encrypted backends would return garbage without a word (values beyond the
//! bound, data that do not repeat, slots that should be zero), this one says so.

use crate::contract::{
    BootstrapRequest, BootstrapSummary, Complex64, Error, OccupiedSlots, Refreshed, Result,
};

/// Imaginary parts that pass for noise where slots are said to be real, as a share of the bound of a bootstrap.
const LARGEST_IMAGINARY_NOISE: f64 = 1.0 / 64.0;
/// What passes for noise where slots should be zero or repeat, as a share of the bound. It is added to the values of
/// others.
const LARGEST_NOISE: f64 = 1.0 / 4096.0;

/// That the parts of `values` lie within what `request` says of them.
///
/// # Errors
/// [`Error::OutOfInterval`] for values beyond the bound, imaginary parts of real ones, slots that should be zero, and
/// slots that should repeat; [`Error::Shape`] for slots that do not exist.
pub(super) fn check_values(
    values: &[Complex64],
    request: &BootstrapRequest,
    summary: &BootstrapSummary,
) -> Result<()> {
    let bound = summary.bound;
    let within = |site: &str, magnitude: f64, share: f64| {
        // An infinite bound lets everything pass: a dry run does not care for values.
        if magnitude <= bound * share {
            return Ok(());
        }
        Err(Error::OutOfInterval { site: site.to_owned(), magnitude, bound: bound * share })
    };
    within("bootstrap", largest_part(values.iter().copied()), 1.0)?;
    if request.refreshed.is_real() {
        let imaginary = largest(values.iter().map(|z| z.im));
        within("imaginary parts of a bootstrap of real slots", imaginary, LARGEST_IMAGINARY_NOISE)?;
    }
    match &request.refreshed {
        Refreshed::All { period, .. } => {
            let next = values.iter().skip((*period).max(1));
            let difference = largest_part(values.iter().zip(next).map(|(x, y)| x - y));
            within("slots that should repeat in a bootstrap", difference, LARGEST_NOISE)
        }
        Refreshed::Few(few) => {
            few.slots.check(values.len())?;
            let beside = largest_part(unoccupied(values, &few.slots).map(|(_, value)| value));
            within("slots beside the values of a bootstrap, which should be zero,", beside, LARGEST_NOISE)
        }
    }
}

/// Drops the imaginary parts of real values and fills the slots beside few values with junk: numbers up to the
/// magnitude that the summary predicts, drawn from the values themselves, so that equal inputs give equal results.
pub(super) fn drop_what_does_not_survive(
    values: &mut [Complex64],
    request: &BootstrapRequest,
    summary: &BootstrapSummary,
) {
    let real = request.refreshed.is_real();
    if real {
        values.iter_mut().for_each(|value| value.im = 0.0);
    }
    let (Refreshed::Few(few), Some(limits)) = (&request.refreshed, summary.few) else { return };
    let seed = few
        .slots
        .slots()
        .iter()
        .filter_map(|slot| values.get(*slot))
        .fold(few.slots.fingerprint() ^ request.level.0 as u64, |seed, value| {
            mixed(seed ^ value.re.to_bits()) ^ value.im.to_bits()
        });
    let beside: Vec<usize> = unoccupied(values, &few.slots).map(|(slot, _)| slot).collect();
    for slot in beside {
        let part = |turn: u64| {
            let uniform = mixed(seed ^ (2 * slot as u64 + turn)) as f64 / u64::MAX as f64;
            limits.junk * (std::f64::consts::TAU * uniform).sin()
        };
        if let Some(value) = values.get_mut(slot) {
            *value = Complex64::new(part(0), if real { 0.0 } else { part(1) });
        }
    }
}

/// The slots that hold no value, with what they hold.
fn unoccupied<'a>(
    values: &'a [Complex64],
    slots: &'a OccupiedSlots,
) -> impl Iterator<Item = (usize, Complex64)> + 'a {
    let mut occupied = slots.slots().iter().copied().peekable();
    values.iter().copied().enumerate().filter(move |(slot, _)| occupied.next_if_eq(slot).is_none())
}

fn largest_part(values: impl Iterator<Item = Complex64>) -> f64 {
    largest(values.flat_map(|z| [z.re, z.im]))
}

/// Largest magnitude; infinite when there is a NaN.
fn largest(parts: impl Iterator<Item = f64>) -> f64 {
    parts.map(|x| if x.is_nan() { f64::INFINITY } else { x.abs() }).fold(0.0, f64::max)
}

/// The finalizer of SplitMix64.
fn mixed(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}
