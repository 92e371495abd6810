// The opaque objects that cross the bridge. Each owns one OpenFHE object through a shared pointer to a type that only
// state.h completes, so that nobody outside this folder compiles OpenFHE's headers.
#pragma once

#include <cstdint>
#include <memory>

#include "rust/cxx.h"

namespace cachemir {

struct ContextState;
struct SecretKeyState;
struct PolynomialState;
struct CiphertextState;
struct DigitsState;

/// Parameters, moduli and precomputations. Knows no key.
class Context {
public:
    explicit Context(std::shared_ptr<ContextState> state) : state(std::move(state)) {}
    std::shared_ptr<ContextState> state;
};

/// The secret key. The client's side only.
class SecretKey {
public:
    explicit SecretKey(std::shared_ptr<SecretKeyState> state) : state(std::move(state)) {}
    std::shared_ptr<SecretKeyState> state;
};

/// An encoded plaintext: one polynomial in NTT form at some number of limbs.
class Polynomial {
public:
    explicit Polynomial(std::shared_ptr<const PolynomialState> state) : state(std::move(state)) {}
    std::shared_ptr<const PolynomialState> state;
};

/// A ciphertext of two polynomials, or of three before relinearization. Never changed after it was made.
class Ciphertext {
public:
    explicit Ciphertext(std::shared_ptr<const CiphertextState> state) : state(std::move(state)) {}
    std::shared_ptr<const CiphertextState> state;
};

/// The decomposition of a ciphertext that hoisted rotations share.
class Digits {
public:
    explicit Digits(std::shared_ptr<const DigitsState> state) : state(std::move(state)) {}
    std::shared_ptr<const DigitsState> state;
};

}  // namespace cachemir
