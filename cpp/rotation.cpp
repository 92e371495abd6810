#include "rotation.h"

#include "state.h"

namespace cachemir {

using Implementation = lbcrypto::CryptoContextImpl<DCRTPoly>;

std::shared_ptr<Ciphertext> rotate(const Context& context, const Ciphertext& a, std::uint32_t step) {
    const auto keys = Implementation::GetEvalAutomorphismKeyMapPtr(a.state->value->GetKeyTag());
    lbcrypto::ConstCiphertext<DCRTPoly> value = a.state->value;
    return wrap(*context.state, context.state->value->GetScheme()->EvalAtIndex(value, step, *keys));
}

std::unique_ptr<Digits> decompose(const Context& context, const Ciphertext& a) {
    auto digits = context.state->value->EvalFastRotationPrecompute(a.state->value);
    return std::make_unique<Digits>(std::make_shared<DigitsState>(DigitsState{std::move(digits)}));
}

std::shared_ptr<Ciphertext> rotate_hoisted(const Context& context, const Ciphertext& a, const Digits& digits,
                                           std::uint32_t step) {
    const auto& cc = context.state->value;
    return wrap(*context.state,
                cc->EvalFastRotation(a.state->value, step, 2 * cc->GetRingDimension(), digits.state->value));
}

std::shared_ptr<Ciphertext> conjugate(const Context& context, const Ciphertext& a) {
    const auto& cc = context.state->value;
    const std::uint32_t element = 2 * cc->GetRingDimension() - 1;
    const auto keys = Implementation::GetEvalAutomorphismKeyMapPtr(a.state->value->GetKeyTag());
    auto result = a.state->value->Clone();
    cc->GetScheme()->KeySwitchInPlace(result, keys->at(element));
    for (auto& polynomial : result->GetElements()) {
        polynomial = polynomial.AutomorphismTransform(element);
    }
    return wrap(*context.state, std::move(result));
}

}  // namespace cachemir
