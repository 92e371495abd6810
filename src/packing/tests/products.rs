//! Matrix products.

use proptest::prelude::*;

use super::{assert_close, client, decrypt, dense, encrypt, matrix, vector};
use crate::contract::{CiphertextInfo, Client, CountingEvaluator, Error, Level};
use crate::packing::{Order, OutputForm, Product, ProductGeometry, Term, VectorLayout};

/// Runs a product of random data from `input` to `output_values` per block and compares values, level, and counts.
fn check(input: VectorLayout, output_values: usize, form: OutputForm, landing: usize, babies: Option<usize>) {
    let mut geometry = ProductGeometry::new(input, output_values, form).unwrap();
    if let Some(babies) = babies {
        geometry = geometry.with_babies(babies);
    }
    let (inputs, outputs) = (input.dimension(), geometry.output().dimension());
    let (input_order, output_order) =
        (Order::plain(&input, inputs), Order::plain(&geometry.output(), outputs));
    let weights = matrix(1, inputs, outputs);
    let x = vector(2, inputs);
    let product =
        Product::new(geometry, vec![Term::new(weights.clone(), input_order.clone(), output_order.clone())])
            .unwrap();
    let client = client(input.slots(), 2);
    let evaluator = CountingEvaluator::new(client.dry_run());
    let packed = encrypt(&client, input, &input_order, &x, 2);
    let prepared = product.prepare(&evaluator, &packed).unwrap();
    let landing = landing % geometry.output().room();
    let y = product.apply_prepared(&evaluator, &prepared, None, landing).unwrap();
    assert_eq!(y.ciphertext.level(), Level(1));
    let what = format!("{input:?} -> {output_values} {form:?} at {landing}");
    assert_close(&decrypt(&client, &y, &output_order, outputs), &dense(&x, weights.as_ref()), 1e-9, &what);
    if landing == 0 {
        let (counts, predicted) = (evaluator.take_counts(), geometry.counts());
        let total = counts.total();
        assert_eq!(
            (total.plaintext_products, total.rotations, total.rotations_hoisted, total.rescales),
            (predicted.plaintext_products, predicted.rotations, predicted.rotations_hoisted, 1),
            "{what}"
        );
        let predicted: std::collections::BTreeSet<usize> = geometry
            .rotation_steps()
            .into_iter()
            .map(|step| crate::contract::normalize_step(step, input.slots()))
            .collect();
        assert_eq!(counts.rotation_steps, predicted, "{what}: keys");
    }
    // The masked output feeds the next product of the opposite direction.
    let masked = y.mask(&evaluator, 1.0).unwrap();
    let nonzero = client.decrypt(&masked.ciphertext).unwrap().iter().filter(|z| z.norm() > 0.0).count();
    assert!(nonzero <= outputs, "{what}: {nonzero} slots are not zero after the mask, {outputs} values");
    let encoded = product.encode(&evaluator, Level(2)).unwrap();
    let again = product.apply_prepared(&evaluator, &prepared, Some(&encoded), landing).unwrap();
    assert_close(
        &decrypt(&client, &again, &output_order, outputs),
        &dense(&x, weights.as_ref()),
        1e-9,
        &what,
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn spreading_products_equal_dense_algebra(
        log_ring in 1u32..6, log_block in 1u32..7, m_in in 1usize..6, m_out in 1usize..9,
        landing in 0usize..64, babies in proptest::option::of(1usize..9),
    ) {
        let (ring, block) = (1usize << log_ring, 1usize << log_block);
        prop_assume!(m_in <= block / m_out);
        let input = VectorLayout::compact(ring * block, ring, m_in).unwrap();
        check(input, m_out, OutputForm::Spread, landing, babies);
    }

    #[test]
    fn gathering_products_equal_dense_algebra(
        log_ring in 1u32..6, log_block in 1u32..7, m_in in 1usize..9, m_out in 1usize..6,
        landing in 0usize..64, babies in proptest::option::of(1usize..9),
    ) {
        let (ring, block) = (1usize << log_ring, 1usize << log_block);
        prop_assume!(m_out <= block / m_in);
        let input = VectorLayout::spread(ring * block, ring, m_in).unwrap();
        check(input, m_out, OutputForm::Compact, landing, babies);
    }
}

/// The reference's shapes: slots below, at and above the square of the dimension, one slot per value, and the ring
/// sizes of whole models.
#[test]
fn square_wide_and_tall_products_of_the_paper_equal_dense_algebra() {
    for (slots, dimension) in
        [(32, 8), (64, 16), (512, 64), (512, 32), (2048, 128), (64, 8), (256, 8), (64, 64)]
    {
        let input = VectorLayout::interleaved(slots, dimension).unwrap();
        for babies in [None, Some(1), Some(3)] {
            check(input, 1, OutputForm::Compact, 0, babies);
        }
    }
    for (slots, dimension, ratio) in
        [(64, 8, 2), (128, 8, 4), (512, 32, 4), (2048, 64, 4), (512, 32, 16), (4096, 16, 4)]
    {
        check(VectorLayout::interleaved(slots, dimension).unwrap(), ratio, OutputForm::Spread, 1, None);
        check(VectorLayout::spread(slots, dimension, ratio).unwrap(), 1, OutputForm::Compact, 3, None);
    }
}

#[test]
fn a_product_lands_at_every_offset_without_more_rotations() {
    let input = VectorLayout::interleaved(256, 32).unwrap();
    let geometry = ProductGeometry::new(input, 1, OutputForm::Compact).unwrap();
    assert_eq!(geometry.free_landing(), 8);
    for landing in 0..8 {
        check(input, 1, OutputForm::Compact, landing, None);
    }
}

#[test]
fn plaintext_counts_are_those_of_the_tables() {
    let slots = 32768;
    let count = |ring: usize, m_in: usize, m_out: usize| {
        let wide = ProductGeometry::new(
            VectorLayout::compact(slots, ring, m_in).unwrap(),
            m_out,
            OutputForm::Spread,
        );
        let tall = ProductGeometry::new(
            VectorLayout::spread(slots, ring, m_out).unwrap(),
            m_in,
            OutputForm::Compact,
        );
        (wide.unwrap().plaintexts(), tall.unwrap().plaintexts())
    };
    for (ring, m_in, m_out, plaintexts) in [
        (4096, 1, 1, 512),
        (4096, 1, 4, 2048),
        (2048, 1, 1, 128),
        (2048, 1, 4, 512),
        (1024, 1, 1, 32),
        (1024, 1, 4, 128),
        (64, 9, 9, 11),
        (64, 9, 24, 32),
        (256, 3, 3, 19),
        (256, 3, 12, 86),
    ] {
        assert_eq!(count(ring, m_in, m_out), (plaintexts, plaintexts), "{m_in}·{ring} to {m_out}·{ring}");
    }
}

#[test]
fn a_square_product_at_dimension_4096_needs_52_rotation_keys() {
    let input = VectorLayout::interleaved(32768, 4096).unwrap();
    let geometry = ProductGeometry::new(input, 1, OutputForm::Compact).unwrap();
    for babies in [16, geometry.split().babies] {
        let geometry = geometry.with_babies(babies);
        let keys: std::collections::BTreeSet<usize> = geometry
            .rotation_steps()
            .into_iter()
            .map(|s| crate::contract::normalize_step(s, 32768))
            .collect();
        assert_eq!(keys.len(), 52, "{babies} babies");
        let counts = geometry.counts();
        assert_eq!(counts.rotations + counts.rotations_hoisted, 52, "{babies} babies: {counts:?}");
    }
}

#[test]
fn junk_at_construction_or_at_use_and_impossible_shapes_are_refused() {
    let clean = VectorLayout::interleaved(64, 16).unwrap();
    let text = ProductGeometry::new(clean.junk(), 1, OutputForm::Compact).unwrap_err().to_string();
    assert!(text.contains("junk") && text.contains("16"), "{text}");
    let geometry = ProductGeometry::new(clean, 1, OutputForm::Compact).unwrap();
    let order = Order::plain(&clean, 16);
    let product =
        Product::new(geometry, vec![Term::new(matrix(1, 16, 16), order.clone(), order.clone())]).unwrap();
    let client = client(64, 2);
    let evaluator = client.dry_run();
    let x = encrypt(&client, clean, &order, &vector(1, 16), 2);
    let y = product.apply(&evaluator, &x).unwrap();
    assert!(matches!(product.apply(&evaluator, &y), Err(Error::Shape { .. })));
    product.apply(&evaluator, &y.mask(&evaluator, 1.0).unwrap()).map(|_| ()).unwrap_err(); // out of levels
    let text = ProductGeometry::new(clean, 5, OutputForm::Spread).unwrap_err().to_string();
    assert!(text.contains('5') && text.contains("4 slots"), "{text}");
    let small = matrix(1, 12, 16);
    assert!(Product::new(geometry, vec![Term::new(small, order.clone(), order)]).is_err());
}
