#include "residues.h"

#include "state.h"

namespace cachemir {

using lbcrypto::NativeInteger;
using lbcrypto::NativeVector;

rust::Vec<std::uint64_t> export_ciphertext(const Context& context, const Ciphertext& a) {
    const auto& elements = a.state->value->GetElements();
    if (elements.size() != 2) {
        throw std::invalid_argument(std::to_string(elements.size()) + " polynomials instead of 2");
    }
    const std::uint32_t n = context.state->value->GetRingDimension();
    rust::Vec<std::uint64_t> residues;
    residues.reserve(2 * std::size_t{n} * elements[0].GetNumOfElements());
    for (const auto& element : elements) {
        for (const auto& limb : element.GetAllElements()) {
            for (std::uint32_t k = 0; k < n; ++k) {
                residues.push_back(limb[k].ConvertToInt<std::uint64_t>());
            }
        }
    }
    return residues;
}

std::shared_ptr<Ciphertext> import_ciphertext(const Context& context, rust::Str tag, std::uint32_t limbs,
                                              rust::Slice<const std::uint64_t> residues) {
    const std::uint32_t n = context.state->value->GetRingDimension();
    const auto parameters = limb_parameters(*context.state, limbs);
    if (residues.size() != 2 * std::size_t{n} * limbs) {
        throw std::invalid_argument(std::to_string(residues.size()) + " residues for " + std::to_string(limbs) +
                                    " limbs");
    }
    std::size_t position = 0;
    std::vector<DCRTPoly> elements;
    for (int half = 0; half < 2; ++half) {
        DCRTPoly element(parameters, Format::EVALUATION, true);
        for (std::uint32_t i = 0; i < limbs; ++i) {
            const NativeInteger modulus = parameters->GetParams()[i]->GetModulus();
            NativeVector values(n, modulus);
            for (std::uint32_t k = 0; k < n; ++k, ++position) {
                const NativeInteger value(residues[position]);
                if (value >= modulus) {
                    throw std::out_of_range("residue " + std::to_string(residues[position]) + " at position " +
                                            std::to_string(position) + " is not below its modulus");
                }
                values[k] = value;
            }
            auto limb = element.GetElementAtIndex(i);
            limb.SetValues(std::move(values), Format::EVALUATION);
            element.SetElementAtIndex(i, std::move(limb));
        }
        elements.push_back(std::move(element));
    }
    auto result = std::make_shared<lbcrypto::CiphertextImpl<DCRTPoly>>(context.state->value, std::string(tag),
                                                                       lbcrypto::CKKS_PACKED_ENCODING);
    result->SetElements(std::move(elements));
    return wrap(*context.state, std::move(result));
}

}  // namespace cachemir
