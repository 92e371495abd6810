// What the opaque objects hold. The only header of this folder that includes OpenFHE.
#pragma once

#include <memory>
#include <vector>

#include "objects.h"
#include "openfhe.h"

namespace cachemir {

using lbcrypto::DCRTPoly;

struct ContextState {
    lbcrypto::CryptoContext<DCRTPoly> value;
};

struct SecretKeyState {
    lbcrypto::PrivateKey<DCRTPoly> value;
};

struct PolynomialState {
    DCRTPoly value;
};

struct CiphertextState {
    lbcrypto::Ciphertext<DCRTPoly> value;
};

struct DigitsState {
    std::shared_ptr<std::vector<DCRTPoly>> value;
};

/// The CKKS parameters of a context.
std::shared_ptr<lbcrypto::CryptoParametersCKKSRNS> ckks_parameters(const ContextState& context);

/// Number of primes of the whole chain.
std::size_t chain_limbs(const ContextState& context);

/// The moduli of a ciphertext with `limbs` primes.
std::shared_ptr<DCRTPoly::Params> limb_parameters(const ContextState& context, std::size_t limbs);

/// Wraps a result. Level and scale are kept on the Rust side: here the level only mirrors the number of limbs, and the
/// noise degree is always 1, so that OpenFHE's automatic rescaling never finds anything to do.
std::shared_ptr<Ciphertext> wrap(const ContextState& context, lbcrypto::Ciphertext<DCRTPoly> value);

/// A ciphertext like `a` with other polynomials.
std::shared_ptr<Ciphertext> with_elements(const ContextState& context, const Ciphertext& a,
                                          std::vector<DCRTPoly> elements);

}  // namespace cachemir
