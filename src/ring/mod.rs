//! The polynomial ring: primes, NTT, RNS polynomials, base conversion, samplers.
