//! Picking the next token from logits.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha20Rng;

use crate::contract::{Error, Result};

/// How tokens are picked: greedily at temperature 0, otherwise at random among the `top_k` likeliest that make up
/// `top_p` of the probability.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Sampling {
    /// 0 for greedy; larger is more random.
    pub temperature: f64,
    /// Only the likeliest so many; 0 for all.
    pub top_k: usize,
    /// Only the likeliest that together have this probability; 1 for all.
    pub top_p: f64,
    /// Equal seeds pick equal tokens from equal logits.
    pub seed: u64,
}

impl Sampling {
    /// Always the likeliest token.
    #[must_use]
    pub fn greedy() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }

    /// That the numbers make sense.
    ///
    /// # Errors
    /// [`Error::Shape`] naming the one that does not.
    pub fn check(&self) -> Result<()> {
        let temperature = self.temperature.is_finite() && self.temperature >= 0.0;
        if temperature && self.top_p > 0.0 && self.top_p <= 1.0 {
            return Ok(());
        }
        Err(Error::Shape {
            operation: "sampling",
            what: format!("temperature {} and top-p {}", self.temperature, self.top_p),
            remedy: "use a temperature of at least 0 and a top-p in (0, 1]".to_owned(),
        })
    }

    /// Token for `position` of the sequence. The randomness depends on seed and position only, so a run that was
    /// interrupted picks what it would have picked.
    ///
    /// # Errors
    /// [`Error::BadValue`] for a logit that is not finite; [`Error::Shape`] without logits.
    pub fn pick(&self, logits: &[f32], position: usize) -> Result<u32> {
        if let Some((index, value)) = logits.iter().enumerate().find(|(_, value)| !value.is_finite()) {
            return Err(Error::BadValue {
                operation: "sampling",
                index,
                value: value.to_string(),
                bound: f64::from(f32::MAX),
            });
        }
        let mut ranked: Vec<(usize, f64)> = logits.iter().copied().map(f64::from).enumerate().collect();
        // Ties go to the lower token, as in the greedy reference.
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let Some(&(best, top)) = ranked.first() else {
            return Err(Error::Shape {
                operation: "sampling",
                what: "0 logits".to_owned(),
                remedy: "use a model with a vocabulary".to_owned(),
            });
        };
        let token = |index: usize| u32::try_from(index).map_err(|e| Error::Internal(e.to_string()));
        if self.temperature == 0.0 {
            return token(best);
        }
        if self.top_k > 0 {
            ranked.truncate(self.top_k);
        }
        for (_, weight) in &mut ranked {
            *weight = ((*weight - top) / self.temperature).exp();
        }
        let total: f64 = ranked.iter().map(|(_, weight)| weight).sum();
        let mut kept = 0.0;
        let count = ranked.iter().take_while(|(_, weight)| {
            let open = kept < self.top_p * total;
            kept += weight;
            open
        });
        let count = count.count().max(1);
        ranked.truncate(count);
        let mut random = ChaCha20Rng::seed_from_u64(self.seed);
        random.set_stream(position as u64);
        let kept: f64 = ranked.iter().map(|(_, weight)| weight).sum();
        let mut left = random.random::<f64>() * kept;
        for (index, weight) in &ranked {
            left -= weight;
            if left < 0.0 {
                return token(*index);
            }
        }
        token(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOGITS: [f32; 5] = [0.0, 3.0, 1.0, 3.0, -2.0];

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(Sampling::greedy().pick(&LOGITS, 7).unwrap(), 1);
    }

    #[test]
    fn sampling_is_reproducible_and_follows_the_distribution() {
        let sampling = Sampling { temperature: 1.0, top_k: 0, top_p: 1.0, seed: 5 };
        let draws: Vec<u32> = (0..4000).map(|position| sampling.pick(&LOGITS, position).unwrap()).collect();
        assert_eq!(draws[17], sampling.pick(&LOGITS, 17).unwrap());
        let share = |token| draws.iter().filter(|draw| **draw == token).count() as f64 / 4000.0;
        let total: f64 = LOGITS.iter().map(|x| f64::from(*x).exp()).sum();
        for (token, logit) in LOGITS.iter().enumerate() {
            let want = f64::from(*logit).exp() / total;
            assert!(
                (share(token as u32) - want).abs() < 0.03,
                "token {token}: {} of {want}",
                share(token as u32)
            );
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let top_k = Sampling { temperature: 2.0, top_k: 2, top_p: 1.0, seed: 1 };
        let top_p = Sampling { temperature: 1.0, top_k: 0, top_p: 0.6, seed: 1 };
        for position in 0..200 {
            assert!([1, 3].contains(&top_k.pick(&LOGITS, position).unwrap()));
            assert!([1, 3].contains(&top_p.pick(&LOGITS, position).unwrap()));
        }
    }

    #[test]
    fn bad_logits_and_bad_settings_are_refused() {
        assert!(Sampling::greedy().pick(&[0.0, f32::NAN], 0).is_err());
        assert!(Sampling::greedy().pick(&[], 0).is_err());
        assert!(Sampling { temperature: -1.0, ..Sampling::greedy() }.check().is_err());
        assert!(Sampling { top_p: 0.0, ..Sampling::greedy() }.check().is_err());
    }
}
