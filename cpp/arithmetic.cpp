#include "arithmetic.h"

#include "state.h"

namespace cachemir {

using lbcrypto::NativeInteger;

namespace {

/// That two operands have as many polynomials over as many limbs.
void check_same_shape(const Ciphertext& a, const Ciphertext& b) {
    const auto& x = a.state->value->GetElements();
    const auto& y = b.state->value->GetElements();
    if (x.size() != y.size() || x.at(0).GetNumOfElements() != y.at(0).GetNumOfElements()) {
        throw std::invalid_argument(std::to_string(x.size()) + " polynomials of " +
                                    std::to_string(x.at(0).GetNumOfElements()) + " limbs against " +
                                    std::to_string(y.size()) + " of " + std::to_string(y.at(0).GetNumOfElements()));
    }
}

void check_limbs(const Ciphertext& a, std::size_t limbs) {
    if (limb_count(a) != limbs) {
        throw std::invalid_argument("a ciphertext of " + std::to_string(limb_count(a)) + " limbs against " +
                                    std::to_string(limbs));
    }
}

std::vector<NativeInteger> integers(rust::Slice<const std::uint64_t> residues) {
    std::vector<NativeInteger> result;
    result.reserve(residues.size());
    for (const auto residue : residues) {
        result.emplace_back(residue);
    }
    return result;
}

/// `element` multiplied limb by limb.
DCRTPoly scaled(const DCRTPoly& element, const std::vector<NativeInteger>& factors) {
    DCRTPoly result(element);
    auto& limbs = result.GetAllElements();
    for (std::size_t i = 0; i < limbs.size(); ++i) {
        limbs[i] = limbs[i].Times(factors.at(i));
    }
    return result;
}

/// The polynomial of X^(N/2), in NTT form over the limbs of `like`.
DCRTPoly imaginary_unit(const DCRTPoly& like) {
    DCRTPoly result(like.GetParams(), Format::COEFFICIENT, true);
    for (auto& limb : result.GetAllElements()) {
        limb[result.GetRingDimension() / 2] = NativeInteger(1);
    }
    result.SetFormat(Format::EVALUATION);
    return result;
}

template <typename Operation>
std::shared_ptr<Ciphertext> zip(const Context& context, const Ciphertext& a, const Ciphertext& b,
                                Operation operation) {
    check_same_shape(a, b);
    const auto& x = a.state->value->GetElements();
    const auto& y = b.state->value->GetElements();
    std::vector<DCRTPoly> elements;
    elements.reserve(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
        elements.push_back(operation(x[i], y[i]));
    }
    return with_elements(*context.state, a, std::move(elements));
}

}  // namespace

std::shared_ptr<Ciphertext> add(const Context& context, const Ciphertext& a, const Ciphertext& b) {
    return zip(context, a, b, [](const DCRTPoly& x, const DCRTPoly& y) { return x.Plus(y); });
}

std::shared_ptr<Ciphertext> subtract(const Context& context, const Ciphertext& a, const Ciphertext& b) {
    return zip(context, a, b, [](const DCRTPoly& x, const DCRTPoly& y) { return x.Minus(y); });
}

std::shared_ptr<Ciphertext> negate(const Context& context, const Ciphertext& a) {
    std::vector<DCRTPoly> elements;
    for (const auto& element : a.state->value->GetElements()) {
        elements.push_back(element.Negate());
    }
    return with_elements(*context.state, a, std::move(elements));
}

std::shared_ptr<Ciphertext> add_polynomial(const Context& context, const Ciphertext& a, const Polynomial& p) {
    check_limbs(a, p.state->value.GetNumOfElements());
    auto elements = a.state->value->GetElements();
    elements.at(0) = elements.at(0).Plus(p.state->value);
    return with_elements(*context.state, a, std::move(elements));
}

std::shared_ptr<Ciphertext> multiply_polynomial(const Context& context, const Ciphertext& a, const Polynomial& p) {
    check_limbs(a, p.state->value.GetNumOfElements());
    std::vector<DCRTPoly> elements;
    for (const auto& element : a.state->value->GetElements()) {
        elements.push_back(element.Times(p.state->value));
    }
    return with_elements(*context.state, a, std::move(elements));
}

std::shared_ptr<Ciphertext> add_constant(const Context& context, const Ciphertext& a,
                                         rust::Slice<const std::uint64_t> real,
                                         rust::Slice<const std::uint64_t> imaginary) {
    auto elements = a.state->value->GetElements();
    if (!real.empty()) {
        check_limbs(a, real.size());
        auto& limbs = elements.at(0).GetAllElements();
        for (std::size_t i = 0; i < limbs.size(); ++i) {
            limbs[i] = limbs[i].Plus(NativeInteger(real[i]));
        }
    }
    if (!imaginary.empty()) {
        check_limbs(a, imaginary.size());
        elements.at(0) += scaled(imaginary_unit(elements.at(0)), integers(imaginary));
    }
    return with_elements(*context.state, a, std::move(elements));
}

std::shared_ptr<Ciphertext> multiply_constant(const Context& context, const Ciphertext& a,
                                              rust::Slice<const std::uint64_t> real,
                                              rust::Slice<const std::uint64_t> imaginary) {
    std::vector<DCRTPoly> elements;
    for (const auto& element : a.state->value->GetElements()) {
        DCRTPoly sum(element.GetParams(), Format::EVALUATION, true);
        if (!real.empty()) {
            check_limbs(a, real.size());
            sum += scaled(element, integers(real));
        }
        if (!imaginary.empty()) {
            check_limbs(a, imaginary.size());
            sum += scaled(element, integers(imaginary)).Times(imaginary_unit(element));
        }
        elements.push_back(std::move(sum));
    }
    return with_elements(*context.state, a, std::move(elements));
}

std::shared_ptr<Ciphertext> multiply_by_i(const Context& context, const Ciphertext& a) {
    const auto& elements = a.state->value->GetElements();
    const DCRTPoly unit = imaginary_unit(elements.at(0));
    std::vector<DCRTPoly> products;
    for (const auto& element : elements) {
        products.push_back(element.Times(unit));
    }
    return with_elements(*context.state, a, std::move(products));
}

std::shared_ptr<Ciphertext> tensor(const Context& context, const Ciphertext& a, const Ciphertext& b) {
    check_same_shape(a, b);
    return wrap(*context.state, context.state->value->EvalMultNoRelin(a.state->value, b.state->value));
}

std::shared_ptr<Ciphertext> relinearize(const Context& context, const Ciphertext& a) {
    return wrap(*context.state, context.state->value->Relinearize(a.state->value));
}

std::shared_ptr<Ciphertext> rescale(const Context& context, const Ciphertext& a) {
    if (limb_count(a) < 2) {
        throw std::invalid_argument("rescaling the last limb");
    }
    // The scheme's own function: the context's one does nothing under this scaling technique.
    lbcrypto::ConstCiphertext<DCRTPoly> value = a.state->value;
    return wrap(*context.state, context.state->value->GetScheme()->ModReduceInternal(value, 1));
}

std::shared_ptr<Ciphertext> keep_limbs(const Context& context, const Ciphertext& a, std::uint32_t limbs) {
    if (limbs == 0 || limbs > limb_count(a)) {
        throw std::invalid_argument(std::to_string(limbs) + " limbs of " + std::to_string(limb_count(a)));
    }
    auto elements = a.state->value->GetElements();
    for (auto& element : elements) {
        element.DropLastElements(limb_count(a) - limbs);
    }
    return with_elements(*context.state, a, std::move(elements));
}

std::uint32_t limb_count(const Ciphertext& a) {
    return static_cast<std::uint32_t>(a.state->value->GetElements().at(0).GetNumOfElements());
}

}  // namespace cachemir
