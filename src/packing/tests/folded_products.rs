//! One matrix folded by the halves of its outputs or inputs.

use proptest::prelude::*;

use super::{client, dense, matrix, vector};
use crate::contract::{CiphertextInfo, Client, CountingEvaluator, Evaluator, Level};
use crate::packing::{
    FoldedGeometry, FoldedProduct, Folding, Packed, ProductCounts, cheapest_product, folded_product,
    mixed_radix_product,
};

const FOLDINGS: [Folding; 3] = [Folding::Whole, Folding::Columns, Folding::Rows];

fn assert_near(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}: lengths");
    for (index, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((got - want).abs() < 1e-9, "{what}: feature {index} is {got}, wanted {want}");
    }
}

/// A product of random data at landing `landing`: values, level, other slots after the mask, and counts.
fn check(geometry: FoldedGeometry, landing: usize) {
    let (inputs, outputs) = geometry.features();
    let what = format!("{inputs} to {outputs}, {:?}, landing {landing}", geometry.folding());
    let (weights, x) = (matrix(1, inputs, outputs), vector(2, inputs));
    let product = FoldedProduct::new(geometry, &weights).unwrap();
    let slots = geometry.product().input().slots();
    let client = client(slots, 2);
    let evaluator = CountingEvaluator::new(client.dry_run());
    let input = client.encrypt(&product.input_slots(&x).unwrap(), Level(2)).unwrap();
    let prepared =
        product.product().prepare(&evaluator, &Packed::new(input, geometry.product().input())).unwrap();
    let landing = landing % geometry.product().output().room();
    let y = product.apply_prepared(&evaluator, &prepared, None, landing).unwrap();
    assert_eq!(y.ciphertext.level(), Level(1), "{what}");
    let want = dense(&x, weights.as_ref());
    let read =
        |y: &Packed<_>| product.output_features(&y.layout, &client.decrypt(&y.ciphertext).unwrap()).unwrap();
    assert_near(&read(&y), &want, &what);
    if landing == 0 {
        let counts = evaluator.take_counts().total();
        let counted = ProductCounts {
            plaintext_products: counts.plaintext_products,
            rotations: counts.rotations,
            rotations_hoisted: counts.rotations_hoisted,
            preprocessing_rotations: geometry.counts().preprocessing_rotations,
            conjugations: counts.conjugations,
        };
        assert_eq!(counted, geometry.counts(), "{what}");
        assert_eq!(counts.rescales, 1, "{what}");
    }
    if geometry.folding() != Folding::Columns {
        // Real up to the rounding of the simulator.
        let imaginary = y.mask(&evaluator, 1.0).unwrap();
        let largest =
            client.decrypt(&imaginary.ciphertext).unwrap().iter().map(|z| z.im.abs()).fold(0.0, f64::max);
        assert!(largest < 1e-9, "{what}: imaginary part {largest}");
    }
    let encoded = product.encode(&evaluator, Level(2)).unwrap();
    assert_eq!(encoded.level(), Level(2));
    let again = product.apply_prepared(&evaluator, &prepared, Some(&encoded), landing).unwrap();
    assert_near(&read(&again), &want, &what);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn folded_products_of_any_shape_equal_dense_algebra_at_the_predicted_cost(
        inputs in 1usize..90, outputs in 1usize..90, log_slots in 8u32..12, landing in 0usize..64,
        folding in proptest::sample::select(FOLDINGS.to_vec()),
    ) {
        let Ok(geometry) = folded_product(1 << log_slots, inputs, outputs, folding) else {
            prop_assume!(false);
            return Ok(());
        };
        check(geometry, landing);
    }

    /// x·W₁ by columns, times a real vector, through W₂ by rows: complex in between, real at both ends.
    #[test]
    fn a_product_by_columns_feeds_one_by_rows(
        log_ring in 2u32..5, m_residual in 1usize..4, m_inner in 1usize..5, log_block in 4u32..7,
    ) {
        let (ring, block) = (1usize << log_ring, 1usize << log_block);
        prop_assume!(m_residual * m_inner <= block);
        let slots = ring * block;
        let residual = crate::packing::VectorLayout::compact(slots, ring, m_residual).unwrap();
        let inner = crate::packing::VectorLayout::spread(slots, ring, m_inner).unwrap();
        let (features, wide) = (residual.dimension(), 2 * inner.dimension() - 1);
        let up = crate::packing::ProductGeometry::between(residual, inner).unwrap();
        let down = crate::packing::ProductGeometry::between(inner, residual).unwrap();
        let (first, second) = (matrix(1, features, wide), matrix(2, wide, features));
        let up = FoldedGeometry::new(up, Folding::Columns, features, wide).unwrap();
        let down = FoldedGeometry::new(down, Folding::Rows, wide, features).unwrap();
        let (up, down) = (FoldedProduct::new(up, &first).unwrap(), FoldedProduct::new(down, &second).unwrap());
        let client = client(slots, 3);
        let evaluator = client.dry_run();
        let x = vector(3, features);
        let input = client.encrypt(&up.input_slots(&x).unwrap(), Level(3)).unwrap();
        let hidden = up.apply(&evaluator, &Packed::new(input, residual)).unwrap();
        let hidden = hidden.mask(&evaluator, 0.5).unwrap();
        let y = down.apply(&evaluator, &hidden).unwrap();
        let got = down.output_features(&y.layout, &client.decrypt(&y.ciphertext).unwrap()).unwrap();
        let halved: Vec<f64> = dense(&x, first.as_ref()).iter().map(|x| 0.5 * x).collect();
        assert_near(&got, &dense(&halved, second.as_ref()), "columns, then rows");
    }
}

/// Two real vectors that hold the halves of an input, as a feed-forward layer would have them, joined for nothing.
#[test]
fn halves_in_two_ciphertexts_join_for_a_product_by_rows() {
    let geometry = folded_product(1024, 48, 24, Folding::Rows).unwrap();
    let (weights, x) = (matrix(1, 48, 24), vector(2, 48));
    let product = FoldedProduct::new(geometry, &weights).unwrap();
    let client = client(1024, 1);
    let evaluator = CountingEvaluator::new(client.dry_run());
    let whole = product.input_slots(&x).unwrap();
    let layout = geometry.product().input();
    let part = |pick: fn(&crate::contract::Complex64) -> f64| {
        let slots: Vec<_> = whole.iter().map(|z| crate::contract::Complex64::new(pick(z), 0.0)).collect();
        Packed::new(client.encrypt(&slots, Level(1)).unwrap(), layout)
    };
    let joined = product.join_rows(&evaluator, &part(|z| z.re), &part(|z| z.im)).unwrap();
    assert_eq!(client.decrypt(&joined.ciphertext).unwrap(), whole);
    let counts = evaluator.take_counts().total();
    assert_eq!((counts.key_switches(), counts.plaintext_products, counts.rescales), (0, 0, 0));
    let y = product.apply(&evaluator, &joined).unwrap();
    let got = product.output_features(&y.layout, &client.decrypt(&y.ciphertext).unwrap()).unwrap();
    assert_near(&got, &dense(&x, weights.as_ref()), "joined halves");
    assert_eq!(evaluator.counts().total().conjugations, 1);
}

/// K/2 plaintexts of a product that needs K, where dimensions are powers of two; about that for the shapes of models.
#[test]
fn a_matrix_folded_by_columns_or_rows_costs_half_its_plaintexts() {
    let slots = 32768;
    for (inputs, outputs, whole, columns, rows) in [
        (4096, 4096, 512, 256, 256),
        (4096, 16384, 2048, 1024, 1024),
        (16384, 4096, 2048, 1024, 1024),
        (2048, 2048, 128, 64, 64),
        (1024, 4096, 128, 64, 64),
        (576, 576, 11, 6, 6),
        (576, 1536, 32, 16, 16),
        (1536, 576, 32, 16, 16),
        (768, 768, 19, 10, 10),
        (768, 3072, 86, 37, 43),
    ] {
        let count = |folding| {
            let geometry = folded_product(slots, inputs, outputs, folding).unwrap();
            (geometry.counts().plaintext_products, geometry.counts().conjugations)
        };
        assert_eq!(count(Folding::Whole), (whole, 0), "{inputs} to {outputs}");
        assert_eq!(count(Folding::Columns), (columns, 0), "{inputs} to {outputs} by columns");
        assert_eq!(count(Folding::Rows), (rows, 1), "{inputs} to {outputs} by rows");
        let chosen = cheapest_product(slots, inputs, outputs, &FOLDINGS).unwrap();
        assert_eq!(chosen.counts().plaintext_products, columns.min(rows), "{inputs} to {outputs}");
        let real = cheapest_product(slots, inputs, outputs, &[Folding::Whole]).unwrap();
        assert_eq!(*real.product(), mixed_radix_product(slots, inputs, outputs).unwrap());
    }
}

#[test]
fn folded_products_refuse_shapes_and_vectors_that_do_not_fit_with_their_numbers() {
    let text = folded_product(64, 200, 200, Folding::Rows).unwrap_err().to_string();
    assert!(text.contains("100 to 200"), "{text}");
    let text = cheapest_product(64, 500, 500, &FOLDINGS).unwrap_err().to_string();
    assert!(text.contains("250 to 500"), "{text}");
    let text = cheapest_product(64, 8, 8, &[]).unwrap_err().to_string();
    assert!(text.contains("0 ways"), "{text}");
    assert!(folded_product(64, 0, 8, Folding::Rows).is_err());
    let geometry = folded_product(1024, 30, 20, Folding::Rows).unwrap();
    let narrow = FoldedGeometry::new(*geometry.product(), Folding::Whole, 30, 20).unwrap_err().to_string();
    assert!(
        narrow.contains("30 and 20 places")
            && narrow.contains(&geometry.product().input().dimension().to_string()),
        "{narrow}"
    );
    let text = FoldedProduct::new(geometry, &matrix(1, 20, 30)).err().unwrap().to_string();
    assert!(text.contains("20 inputs and 30 outputs for 30 and 20"), "{text}");
    let product = FoldedProduct::new(geometry, &matrix(1, 30, 20)).unwrap();
    let text = product.input_slots(&vector(1, 29)).unwrap_err().to_string();
    assert!(text.contains("29 features, the product takes 30"), "{text}");
    let client = client(1024, 1);
    let evaluator = client.dry_run();
    let zero = |layout| Packed::new(client.encrypt(&[], Level(1)).unwrap(), layout);
    let layout = geometry.product().input();
    assert!(product.join_rows(&evaluator, &zero(layout.junk()), &zero(layout)).is_err());
    let columns = folded_product(1024, 30, 20, Folding::Columns).unwrap();
    let columns = FoldedProduct::new(columns, &matrix(1, 30, 20)).unwrap();
    let text = columns.join_rows(&evaluator, &zero(layout), &zero(layout)).unwrap_err().to_string();
    assert!(text.contains("Columns"), "{text}");
    assert_eq!(evaluator.slots(), 1024);
}
