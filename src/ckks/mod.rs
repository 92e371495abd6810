//! Levelled RNS-CKKS.
