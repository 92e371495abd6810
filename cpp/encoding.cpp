#include "encoding.h"

#include <cmath>
#include <complex>

#include "math/dftransform.h"
#include "state.h"

namespace cachemir {

using lbcrypto::DiscreteFourierTransform;
using lbcrypto::NativeInteger;
using lbcrypto::NativeVector;

namespace {

/// Residue of a rounded coefficient. `reduced` is exact: |coefficient| < 2^126.
std::uint64_t residue(__int128 coefficient, std::uint64_t modulus) {
    const __int128 reduced = coefficient % static_cast<__int128>(modulus);
    return static_cast<std::uint64_t>(reduced < 0 ? reduced + static_cast<__int128>(modulus) : reduced);
}

}  // namespace

std::shared_ptr<Polynomial> encode(const Context& context, rust::Slice<const double> values, double scale,
                                   std::uint32_t limbs) {
    const std::size_t n = context.state->value->GetRingDimension();
    const std::size_t slots = n / 2;
    if (values.size() % 2 != 0 || values.size() / 2 > slots) {
        throw std::invalid_argument(std::to_string(values.size()) + " numbers for " + std::to_string(slots) + " slots");
    }
    std::vector<std::complex<double>> points(slots);
    for (std::size_t i = 0; i < values.size() / 2; ++i) {
        points[i] = {values[2 * i], values[2 * i + 1]};
    }
    DiscreteFourierTransform::FFTSpecialInv(points, static_cast<std::uint32_t>(2 * n));

    std::vector<__int128> coefficients(n);
    const auto round = [scale](double value) {
        const double scaled = value * scale;
        if (!(std::abs(scaled) < 0x1p126)) {
            throw std::range_error("a coefficient of " + std::to_string(scaled) + " does not fit 126 bits");
        }
        return static_cast<__int128>(std::nearbyint(scaled));
    };
    for (std::size_t i = 0; i < slots; ++i) {
        coefficients[i] = round(points[i].real());
        coefficients[i + slots] = round(points[i].imag());
    }

    const auto parameters = limb_parameters(*context.state, limbs);
    DCRTPoly polynomial(parameters, Format::COEFFICIENT, true);
    for (std::uint32_t i = 0; i < limbs; ++i) {
        const NativeInteger modulus = parameters->GetParams()[i]->GetModulus();
        const auto q = modulus.ConvertToInt<std::uint64_t>();
        NativeVector limb(static_cast<std::uint32_t>(n), modulus);
        for (std::size_t k = 0; k < n; ++k) {
            limb[k] = NativeInteger(residue(coefficients[k], q));
        }
        auto element = polynomial.GetElementAtIndex(i);
        element.SetValues(std::move(limb), Format::COEFFICIENT);
        polynomial.SetElementAtIndex(i, std::move(element));
    }
    polynomial.SetFormat(Format::EVALUATION);
    return std::make_shared<Polynomial>(std::make_shared<PolynomialState>(PolynomialState{std::move(polynomial)}));
}

std::shared_ptr<Ciphertext> encrypt(const Context& context, const SecretKey& key, const Polynomial& plaintext) {
    auto result = context.state->value->GetScheme()->Encrypt(plaintext.state->value, key.state->value);
    result->SetEncodingType(lbcrypto::CKKS_PACKED_ENCODING);
    return wrap(*context.state, std::move(result));
}

rust::Vec<double> decrypt(const Context& context, const SecretKey& key, const Ciphertext& a, double scale) {
    const std::size_t n = context.state->value->GetRingDimension();
    const std::size_t slots = n / 2;
    lbcrypto::Ciphertext<DCRTPoly> value = a.state->value->Clone();
    // The low limbs hold the message whole: as many as leave 60 bits above the scale, which no f64 value exceeds
    // meaningfully. Reconstruction costs time quadratic in the limbs.
    const auto& primes = ckks_parameters(*context.state)->GetElementParams()->GetParams();
    std::size_t limbs = 0;
    double log2_modulus = 0;
    const std::size_t available = value->GetElements().at(0).GetNumOfElements();
    while (limbs < available && log2_modulus < std::log2(scale) + 60) {
        log2_modulus += std::log2(primes[limbs]->GetModulus().ConvertToDouble());
        ++limbs;
    }
    if (limbs < available) {
        for (auto& element : value->GetElements()) {
            element.DropLastElements(available - limbs);
        }
        value->SetLevel(value->GetLevel() + available - limbs);
    }

    lbcrypto::Poly message;
    lbcrypto::ConstCiphertext<DCRTPoly> constant = value;
    const auto outcome = context.state->value->GetScheme()->Decrypt(constant, key.state->value, &message);
    if (!outcome.isValid) {
        throw std::runtime_error("decryption failed");
    }
    message.SetFormat(Format::COEFFICIENT);
    const auto& modulus = message.GetModulus();
    const auto half = modulus >> 1;
    const auto centred = [&](std::size_t index) {
        const auto& coefficient = message[static_cast<std::uint32_t>(index)];
        return (coefficient > half ? -(modulus - coefficient).ConvertToDouble() : coefficient.ConvertToDouble()) / scale;
    };
    std::vector<std::complex<double>> points(slots);
    for (std::size_t i = 0; i < slots; ++i) {
        points[i] = {centred(i), centred(i + slots)};
    }
    DiscreteFourierTransform::FFTSpecial(points, static_cast<std::uint32_t>(2 * n));
    rust::Vec<double> result;
    result.reserve(2 * slots);
    for (const auto& point : points) {
        result.push_back(point.real());
        result.push_back(point.imag());
    }
    return result;
}

}  // namespace cachemir
