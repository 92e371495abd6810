//! Packings on `native`, in small rings, to the precision the noise model predicts.
//!
//! A program runs twice: on the simulator with the chain of the native parameters and the noise of [`noise_model`] at
//! every operation, and on `native` itself with the keys that first run recorded. Both are compared with dense f64
//! algebra; the native errors must have the size the simulated ones have. The simulator neither rounds plaintexts nor
//! gives every level a noise of its own, and hoisted steps lose less on `native` than one by one: hence a tolerance of
//! [`TOLERANCE_BITS`] on the root mean square, both ways.

use std::sync::Arc;

use super::attention::{Case, shape};
use super::baselines::{causal_scores, causal_values, rows};
use super::{Compared, decrypt, dense, encrypt, matrix, vector};
use crate::backend::clear::{ClearClient, ClearEvaluator, ClearParameters};
use crate::backend::native::{NativeClient, noise_model, test_levelled};
use crate::ckks::Parameters;
use crate::contract::{Client, Complex64, Level};
use crate::packing::complex::{join, pair_terms, real_part_terms, split, twice_real_part};
use crate::packing::{
    FoldedProduct, Folding, Grouping, HeadLayout, LmHead, Order, OutputForm, Packed, Product,
    ProductGeometry, Rope, Term, VectorLayout, folded_product,
};
use crate::related_work::{Moai, Thor};

/// Between the root mean square of native errors and of simulated ones.
const TOLERANCE_BITS: f64 = 1.0;

/// Something to compute on any backend.
trait Program {
    fn run<C: Client>(&self, client: &C, evaluator: &C::Evaluator) -> Vec<Compared>;
}

/// log2 of the root mean square and of the largest error.
fn log2_errors(compared: &Compared) -> (f64, f64) {
    let (mut sum, mut worst, mut count) = (0.0, 0.0f64, 0.0);
    for error in compared.errors() {
        sum += error * error;
        worst = worst.max(error);
        count += 1.0;
    }
    ((sum / f64::max(count, 1.0)).sqrt().log2(), worst.log2())
}

/// Runs `program` in a ring of 2^`log2_n` with `levels` levels.
fn check(log2_n: u32, levels: usize, program: &impl Program) {
    let parameters = Arc::new(Parameters::new(test_levelled(log2_n, levels)).unwrap());
    let noise = noise_model(&parameters, 21).unwrap();
    let chain = parameters.chain().clone();
    let simulated =
        ClearParameters { slots: parameters.slots(), chain, bootstrapping: None, noise: Some(noise) };
    let dry_run = ClearEvaluator::dry_run(simulated.clone());
    let predicted = program.run(&ClearClient::new(simulated), &dry_run);
    let client = NativeClient::from_insecure_fixed_seed(parameters, 3).unwrap();
    let evaluator = client.evaluator(&dry_run.recorded()).unwrap();
    let measured = program.run(&client, &evaluator);
    assert_eq!(predicted.len(), measured.len());
    for (predicted, measured) in predicted.iter().zip(&measured) {
        let ((predicted, predicted_worst), (found, found_worst)) =
            (log2_errors(predicted), log2_errors(measured));
        let what = &measured.what;
        println!("{what}: error 2^{found:.1}, predicted 2^{predicted:.1}; worst 2^{found_worst:.1}");
        assert!(
            (found - predicted).abs() <= TOLERANCE_BITS,
            "{what}: error 2^{found:.2}, predicted 2^{predicted:.2}, allowed {TOLERANCE_BITS} bits apart"
        );
        assert!(
            found_worst <= predicted_worst + TOLERANCE_BITS + 1.0,
            "{what}: worst error 2^{found_worst:.2}, simulated 2^{predicted_worst:.2}"
        );
    }
}

/// One product and the mask after it.
struct OneProduct {
    input: VectorLayout,
    output_values: usize,
    form: OutputForm,
    landing: usize,
}

impl Program for OneProduct {
    fn run<C: Client>(&self, client: &C, evaluator: &C::Evaluator) -> Vec<Compared> {
        let geometry = ProductGeometry::new(self.input, self.output_values, self.form).unwrap();
        let (inputs, outputs) = (self.input.dimension(), geometry.output().dimension());
        let (order_in, order_out) =
            (Order::plain(&self.input, inputs), Order::plain(&geometry.output(), outputs));
        let (weights, x) = (matrix(1, inputs, outputs), vector(2, inputs));
        let term = Term::new(weights.clone(), order_in.clone(), order_out.clone());
        let product = Product::new(geometry, vec![term]).unwrap();
        let packed = encrypt(client, self.input, &order_in, &x, 2);
        let prepared = product.prepare(evaluator, &packed).unwrap();
        let y = product.apply_prepared(evaluator, &prepared, None, self.landing).unwrap();
        let want = dense(&x, weights.as_ref());
        let what = format!("{inputs} to {outputs} features, {} plaintexts", geometry.plaintexts());
        let masked = y.mask(evaluator, 1.0).unwrap();
        let all: Vec<Complex64> = order_out.pack(&masked.layout, &want).unwrap();
        vec![
            Compared::real(what.clone(), decrypt(client, &y, &order_out, outputs), &want),
            Compared::new(format!("{what}, masked"), client.decrypt(&masked.ciphertext).unwrap(), all),
        ]
    }
}

#[test]
fn square_wide_tall_and_mixed_radix_products_are_as_precise_as_predicted() {
    let slots = 1024;
    let interleaved = |dimension| VectorLayout::interleaved(slots, dimension).unwrap();
    for (input, output_values, form, landing) in [
        (interleaved(64), 1, OutputForm::Compact, 0),
        (interleaved(16), 1, OutputForm::Compact, 5),
        (interleaved(32), 4, OutputForm::Spread, 1),
        (VectorLayout::spread(slots, 32, 4).unwrap(), 1, OutputForm::Compact, 3),
        (VectorLayout::compact(slots, 16, 3).unwrap(), 5, OutputForm::Spread, 0),
        (VectorLayout::spread(slots, 16, 5).unwrap(), 3, OutputForm::Compact, 2),
        (VectorLayout::compact(slots, 16, 9).unwrap(), 7, OutputForm::Spread, 0),
    ] {
        check(11, 2, &OneProduct { input, output_values, form, landing });
    }
}

/// Two matrices in one product, and the rows of one in two halves.
struct Folded;

impl Program for Folded {
    fn run<C: Client>(&self, client: &C, evaluator: &C::Evaluator) -> Vec<Compared> {
        let input = VectorLayout::compact(client.slots(), 16, 3).unwrap();
        let geometry = ProductGeometry::new(input, 4, OutputForm::Spread).unwrap();
        let (inputs, outputs) = (input.dimension(), geometry.output().dimension());
        let (order_in, order_out) = (Order::plain(&input, inputs), Order::plain(&geometry.output(), outputs));
        let (a, b, x) = (matrix(1, inputs, outputs), matrix(2, inputs, outputs), vector(5, 2 * inputs));
        let term = |weights: &Arc<dyn crate::packing::Weights>| {
            Term::new(weights.clone(), order_in.clone(), order_out.clone())
        };
        let low = encrypt(client, input, &order_in, &x[..inputs], 1);
        let high = encrypt(client, input, &order_in, &x[inputs..], 1);
        let pair = Product::new(geometry, pair_terms(term(&a), term(&b))).unwrap();
        let [first, second] = split(evaluator, &pair.apply(evaluator, &low).unwrap()).unwrap();
        let halves = Product::new(geometry, real_part_terms(term(&a), term(&b))).unwrap();
        let joined = join(evaluator, &low, &high).unwrap();
        let sum = twice_real_part(evaluator, &halves.apply(evaluator, &joined).unwrap()).unwrap();
        let read = |y: &Packed<_>| decrypt(client, y, &order_out, outputs);
        let of_low = (dense(&x[..inputs], a.as_ref()), dense(&x[..inputs], b.as_ref()));
        let of_high = dense(&x[inputs..], b.as_ref());
        let sum_wanted: Vec<f64> = of_low.0.iter().zip(&of_high).map(|(x, y)| x + y).collect();
        vec![
            Compared::real("first of two matrices", read(&first), &of_low.0),
            Compared::real("second of two matrices", read(&second), &of_low.1),
            Compared::real("rows in two halves", read(&sum), &sum_wanted),
        ]
    }
}

#[test]
fn complex_folding_is_as_precise_as_predicted() {
    check(11, 1, &Folded);
}

/// One matrix in a folded product, landing at an offset.
struct FoldedMatrix {
    inputs: usize,
    outputs: usize,
    folding: Folding,
}

impl Program for FoldedMatrix {
    fn run<C: Client>(&self, client: &C, evaluator: &C::Evaluator) -> Vec<Compared> {
        let Self { inputs, outputs, folding } = *self;
        let geometry = folded_product(client.slots(), inputs, outputs, folding).unwrap();
        let (weights, x) = (matrix(1, inputs, outputs), vector(2, inputs));
        let product = FoldedProduct::new(geometry, &weights).unwrap();
        let input = client.encrypt(&product.input_slots(&x).unwrap(), Level(2)).unwrap();
        let prepared =
            product.product().prepare(evaluator, &Packed::new(input, geometry.product().input())).unwrap();
        let y = product.apply_prepared(evaluator, &prepared, None, 1).unwrap();
        let features = product.output_features(&y.layout, &client.decrypt(&y.ciphertext).unwrap()).unwrap();
        let features = features.into_iter().map(|x| Complex64::new(x, 0.0)).collect();
        let want = dense(&x, weights.as_ref());
        vec![Compared::real(format!("{inputs} to {outputs} features, {folding:?}"), features, &want)]
    }
}

#[test]
fn matrices_folded_by_columns_and_rows_are_as_precise_as_predicted() {
    for (inputs, outputs, folding) in [
        (64, 64, Folding::Columns),
        (64, 64, Folding::Rows),
        (48, 112, Folding::Columns),
        (48, 112, Folding::Rows),
        (111, 47, Folding::Columns),
        (111, 47, Folding::Rows),
    ] {
        check(11, 2, &FoldedMatrix { inputs, outputs, folding });
    }
}

/// Rotary embedding of complex heads at an offset: of a query, and of a key, which is conjugated.
struct ComplexRotary;

impl Program for ComplexRotary {
    fn run<C: Client>(&self, client: &C, evaluator: &C::Evaluator) -> Vec<Compared> {
        let heads = HeadLayout::complex(client.slots(), 3, 16, 16, 1).unwrap();
        let (rope, x) = (Rope::new(16, 10_000.0, 512), vector(9, 48));
        let at = |features: &[f64]| {
            let features = features.to_vec();
            move |head: usize, j: usize| features[16 * head + j]
        };
        let layout = heads.vector().at_offset(2).unwrap();
        let encrypt =
            |slots: Vec<Complex64>| Packed::new(client.encrypt(&slots, Level(1)).unwrap(), layout.junk());
        let query = encrypt(heads.values(2, at(&x)));
        let key = encrypt(heads.key_values(2, at(&x)));
        let query = rope.apply(evaluator, &heads, &query, 300, 0.25).unwrap();
        let key = rope.apply_key(evaluator, &heads, &key, 300, 0.25).unwrap();
        let want: Vec<f64> = rope.apply_clear(&x, 300).unwrap().iter().map(|x| 0.25 * x).collect();
        let read = |y: &Packed<_>| client.decrypt(&y.ciphertext).unwrap();
        vec![
            Compared::new("complex rotary embedding of a query", read(&query), heads.values(2, at(&want))),
            Compared::new("complex rotary embedding of a key", read(&key), heads.key_values(2, at(&want))),
        ]
    }
}

#[test]
fn complex_rotary_embedding_is_as_precise_as_predicted() {
    check(11, 1, &ComplexRotary);
}

/// Rotary embedding at an offset.
struct Rotary;

impl Program for Rotary {
    fn run<C: Client>(&self, client: &C, evaluator: &C::Evaluator) -> Vec<Compared> {
        let heads = HeadLayout::new(client.slots(), 3, 16, 32, 1).unwrap();
        let (rope, x) = (Rope::new(16, 10_000.0, 512), vector(9, 48));
        let order = heads.order(|head, j| Some(head * 16 + j));
        let layout = heads.vector().at_offset(2).unwrap();
        let packed = encrypt(client, layout, &order, &x, 1);
        let junk = Packed::new(packed.ciphertext, layout.junk());
        let y = rope.apply(evaluator, &heads, &junk, 300, 0.25).unwrap();
        let want: Vec<f64> = rope.apply_clear(&x, 300).unwrap().iter().map(|x| 0.25 * x).collect();
        vec![Compared::real("rotary embedding", decrypt(client, &y, &order, 48), &want)]
    }
}

#[test]
fn rotary_embedding_is_as_precise_as_predicted() {
    check(11, 1, &Rotary);
}

impl Program for Case {
    fn run<C: Client>(&self, client: &C, evaluator: &C::Evaluator) -> Vec<Compared> {
        Case::run(self, client, evaluator)
    }
}

/// Appends, Q·Kᵀ, P·V, output, up, gate and down, with grouped queries, in 256 slots: 8 tokens in a K ciphertext when
/// duplicated.
#[test]
fn blocks_with_grouped_queries_and_a_cache_are_as_precise_as_predicted() {
    for (grouping, tokens, public) in [
        (Grouping::Duplicated, 19, 0),
        (Grouping::Compact, 19, 0),
        (Grouping::Duplicated, 21, 10),
        (Grouping::Complex, 19, 0),
        (Grouping::CompactComplex, 19, 0),
        (Grouping::Complex, 21, 10),
    ] {
        let shape = shape(32, 64, 4, 2, 8);
        check(9, Case::LEVELS, &Case { slots: 256, shape, grouping, tokens, maximum: 40, public });
    }
}

#[test]
fn a_block_of_three_heads_is_as_precise_as_predicted() {
    let shape = shape(24, 40, 3, 3, 8);
    for (grouping, tokens) in [(Grouping::Duplicated, 5), (Grouping::Complex, 14)] {
        check(10, Case::LEVELS, &Case { slots: 512, shape, grouping, tokens, maximum: 30, public: 0 });
    }
}

/// Logits of a vocabulary that is no multiple of anything.
struct Logits;

impl Program for Logits {
    fn run<C: Client>(&self, client: &C, evaluator: &C::Evaluator) -> Vec<Compared> {
        let layout = VectorLayout::compact(client.slots(), 16, 3).unwrap();
        let order = Order::plain(&layout, 48);
        let (weights, x) = (matrix(7, 48, 1501), vector(8, 48));
        let head = LmHead::new(layout, &order, &weights).unwrap();
        let logits = head.apply(evaluator, &encrypt(client, layout, &order, &x, 1)).unwrap();
        let decrypted: Vec<Vec<Complex64>> = logits.iter().map(|c| client.decrypt(c).unwrap()).collect();
        let logits = head.logits(&decrypted).unwrap();
        let logits = logits.into_iter().map(|logit| Complex64::new(logit, 0.0)).collect();
        vec![Compared::real("1501 logits", logits, &dense(&x, weights.as_ref()))]
    }
}

#[test]
fn logits_are_as_precise_as_predicted() {
    check(11, 1, &Logits);
}

/// A product, scores and weighted values in MOAI's columns.
struct Columns;

impl Program for Columns {
    fn run<C: Client>(&self, client: &C, evaluator: &C::Evaluator) -> Vec<Compared> {
        let (tokens, features) = (8, 4);
        let moai = Moai::new(client.slots(), tokens).unwrap();
        let [x, q, k, v] = [1, 2, 3, 4].map(|seed| rows(seed, tokens, features));
        let encrypt = |rows: &[Vec<f64>], level| -> Vec<_> {
            moai.pack(rows).iter().map(|slots| client.encrypt(slots, Level(level)).unwrap()).collect()
        };
        // Columns of all tokens, one after another.
        let read = |columns: &[_]| -> Vec<Complex64> {
            let columns = columns.iter().map(|column| moai.read(&client.decrypt(column).unwrap()));
            columns.flatten().map(|x| Complex64::new(x, 0.0)).collect()
        };
        let weights = matrix(2, features, 5);
        let product = moai.product(evaluator, &encrypt(&x, 1), weights.as_ref()).unwrap();
        let projected: Vec<Vec<f64>> = x.iter().map(|row| dense(row, weights.as_ref())).collect();
        let want = |rows: &[Vec<f64>], columns: usize| -> Vec<f64> {
            (0..columns)
                .flat_map(|c| rows.iter().map(move |row| row.get(c).copied().unwrap_or(0.0)))
                .collect()
        };
        let scores = moai.scores(evaluator, &encrypt(&q, 3), &encrypt(&k, 3), 0.5).unwrap();
        let weighted = moai.weighted_values(evaluator, &scores, &encrypt(&v, 1)).unwrap();
        let halved: Vec<Vec<f64>> = causal_scores(&q, &k, 0..features)
            .iter()
            .map(|row| row.iter().map(|s| 0.5 * s).collect())
            .collect();
        let values = causal_values(&halved, &v, 0..features);
        vec![
            Compared::real("product of columns", read(&product), &want(&projected, 5)),
            Compared::real("scores of columns", read(&scores), &want(&halved, tokens)),
            Compared::real("weighted columns", read(&weighted), &want(&values, features)),
        ]
    }
}

#[test]
fn the_column_packing_is_as_precise_as_predicted() {
    check(9, 3, &Columns);
}

/// A product, scores and weighted values in THOR's diagonals.
struct Diagonals;

impl Program for Diagonals {
    fn run<C: Client>(&self, client: &C, evaluator: &C::Evaluator) -> Vec<Compared> {
        let (tokens, head_dim, heads, outputs) = (8, 4, 2, 24);
        let features = head_dim * heads;
        let thor = Thor::new(client.slots(), tokens, head_dim).unwrap();
        let [x, q, k, v] = [1, 2, 3, 4].map(|seed| rows(seed, tokens, features));
        let encrypt = |rows: &[Vec<f64>], level| -> Vec<_> {
            thor.pack(rows).iter().map(|slots| client.encrypt(slots, Level(level)).unwrap()).collect()
        };
        let read = |ciphertexts: &[_], features| -> Vec<Complex64> {
            let slots: Vec<_> = ciphertexts.iter().map(|c| client.decrypt(c).unwrap()).collect();
            let rows = thor.unpack(&slots, features);
            rows.into_iter().flatten().map(|x| Complex64::new(x, 0.0)).collect()
        };
        let weights = matrix(2, features, outputs);
        let product = thor.product(evaluator, &encrypt(&x, 1), weights.as_ref()).unwrap();
        let projected: Vec<f64> = x.iter().flat_map(|row| dense(row, weights.as_ref())).collect();
        let scores = thor.scores(evaluator, &encrypt(&q, 3), &encrypt(&k, 3), 0.5).unwrap();
        let weighted = thor.weighted_values(evaluator, &scores, &encrypt(&v, 1)).unwrap();
        let mut values = vec![vec![0.0; features]; tokens];
        for head in 0..heads {
            let range = head * head_dim..(head + 1) * head_dim;
            let halved: Vec<Vec<f64>> = causal_scores(&q, &k, range.clone())
                .iter()
                .map(|row| row.iter().map(|s| 0.5 * s).collect())
                .collect();
            for (row, of_head) in values.iter_mut().zip(causal_values(&halved, &v, range.clone())) {
                row[range.clone()].copy_from_slice(&of_head);
            }
        }
        let values: Vec<f64> = values.into_iter().flatten().collect();
        vec![
            Compared::real("product of diagonals", read(&product, outputs), &projected),
            Compared::real("weighted diagonals", read(&weighted, features), &values),
        ]
    }
}

#[test]
fn the_diagonal_packing_is_as_precise_as_predicted() {
    check(8, 3, &Diagonals);
}
