//! Complex folding, bundles and the language-model head.

use proptest::prelude::*;

use super::{assert_close, client, decrypt, dense, encrypt, matrix, vector};
use crate::contract::{Client, Complex64, CountingEvaluator, Level};
use crate::packing::complex::{join, pair_terms, real_part_terms, split, twice_real_part};
use crate::packing::{
    Bundle, LmHead, Order, OutputForm, Packed, Product, ProductGeometry, Term, VectorLayout,
};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn two_matrices_and_the_halves_of_one_cost_half_the_plaintexts(
        log_ring in 2u32..5, log_block in 3u32..6, m_in in 1usize..4, m_out in 1usize..4,
    ) {
        let (ring, block) = (1usize << log_ring, 1usize << log_block);
        prop_assume!(m_in <= block / m_out);
        let input = VectorLayout::compact(ring * block, ring, m_in).unwrap();
        let geometry = ProductGeometry::new(input, m_out, OutputForm::Spread).unwrap();
        let output = geometry.output();
        let (inputs, outputs) = (input.dimension(), output.dimension());
        let (order_in, order_out) = (Order::plain(&input, inputs), Order::plain(&output, outputs));
        let client = client(ring * block, 2);
        let evaluator = CountingEvaluator::new(client.dry_run());
        let x = vector(5, inputs);
        let packed = encrypt(&client, input, &order_in, &x, 2);

        // Two matrices of one input.
        let (a, b) = (matrix(1, inputs, outputs), matrix(2, inputs, outputs));
        let term = |w: &std::sync::Arc<dyn crate::packing::Weights>| {
            Term::new(w.clone(), order_in.clone(), order_out.clone())
        };
        let product = Product::new(geometry, pair_terms(term(&a), term(&b))).unwrap();
        let [first, second] = split(&evaluator, &product.apply(&evaluator, &packed).unwrap()).unwrap();
        assert_close(&decrypt(&client, &first, &order_out, outputs), &dense(&x, a.as_ref()), 1e-9, "first");
        assert_close(&decrypt(&client, &second, &order_out, outputs), &dense(&x, b.as_ref()), 1e-9, "second");
        let counts = evaluator.take_counts().total();
        prop_assert_eq!((counts.plaintext_products, counts.conjugations), (geometry.plaintexts(), 1));

        // One matrix of twice the outputs: its halves are the two matrices.
        let tall = matrix(3, inputs, 2 * outputs);
        let half = |first: usize| {
            Term::new(tall.clone(), order_in.clone(), Order::range(&output, first, 2 * outputs))
        };
        let product = Product::new(geometry, pair_terms(half(0), half(outputs))).unwrap();
        let [low, high] = split(&evaluator, &product.apply(&evaluator, &packed).unwrap()).unwrap();
        let want = dense(&x, tall.as_ref());
        assert_close(&decrypt(&client, &low, &order_out, outputs), &want[..outputs], 1e-9, "low outputs");
        assert_close(&decrypt(&client, &high, &order_out, outputs), &want[outputs..], 1e-9, "high outputs");

        // One matrix of twice the inputs: the input is complex.
        let wide = matrix(4, 2 * inputs, outputs);
        let rows = |first: usize| {
            Term::new(wide.clone(), Order::range(&input, first, 2 * inputs), order_out.clone())
        };
        let product = Product::new(geometry, real_part_terms(rows(0), rows(inputs))).unwrap();
        let both = vector(6, 2 * inputs);
        let part = |values: &[f64]| encrypt(&client, input, &order_in, values, 2);
        let z = join(&evaluator, &part(&both[..inputs]), &part(&both[inputs..])).unwrap();
        let y = twice_real_part(&evaluator, &product.apply(&evaluator, &z).unwrap()).unwrap();
        let want = dense(&both, wide.as_ref());
        assert_close(&decrypt(&client, &y, &order_out, outputs), &want, 1e-9, "rows");
    }

    #[test]
    fn bundles_return_their_vectors(
        log_ring in 1u32..5, log_block in 2u32..6, m in 1usize..4, vectors in 1usize..9, spread in any::<bool>(),
    ) {
        let (ring, block) = (1usize << log_ring, 1usize << log_block);
        prop_assume!(m <= block);
        let layout = if spread {
            VectorLayout::spread(ring * block, ring, m).unwrap()
        } else {
            VectorLayout::compact(ring * block, ring, m).unwrap()
        };
        if vectors > Bundle::capacity(&layout) {
            prop_assert!(Bundle::new(layout, vectors).is_err());
            return Ok(());
        }
        let bundle = Bundle::new(layout, vectors).unwrap();
        let client = client(ring * block, 1);
        let evaluator = CountingEvaluator::new(client.dry_run());
        let order = Order::plain(&layout, layout.dimension());
        let data: Vec<Vec<f64>> = (0..vectors as u64).map(|v| vector(v, layout.dimension())).collect();
        let packed: Vec<_> = data.iter().map(|x| encrypt(&client, layout, &order, x, 1)).collect();
        let one = bundle.pack(&evaluator, &packed).unwrap();
        prop_assert_eq!(evaluator.take_counts().total().rotations, vectors.div_ceil(2) - 1);
        let back = bundle.unpack(&evaluator, &one, 3.0).unwrap();
        let counts = evaluator.take_counts().total();
        prop_assert_eq!(counts.conjugations, 1);
        prop_assert_eq!(counts.rotations_hoisted, vectors.div_ceil(2) - 1 + (vectors / 2).saturating_sub(1));
        prop_assert_eq!(back.len(), vectors);
        for (x, back) in data.iter().zip(&back) {
            let want: Vec<f64> = x.iter().map(|x| 3.0 * x).collect();
            assert_close(&decrypt(&client, back, &order, x.len()), &want, 1e-9, "unpacked");
            let nonzero = client.decrypt(&back.ciphertext).unwrap().iter().filter(|z| z.norm() > 1e-9).count();
            prop_assert!(nonzero <= x.len(), "{nonzero} slots are not zero");
        }
    }
}

#[test]
fn logits_of_vocabularies_of_any_size_equal_dense_algebra() {
    for (slots, ring, values, vocabulary) in [
        (1024, 64, 1, 3000),
        (2048, 64, 1, 512),
        (2048, 32, 2, 511),
        (2048, 16, 9, 5000),
        (1024, 8, 3, 1),
        (64, 16, 4, 200),
    ] {
        let layout = VectorLayout::compact(slots, ring, values).unwrap();
        let hidden = layout.dimension() - 1;
        let order = Order::plain(&layout, hidden);
        let weights = matrix(7, hidden, vocabulary);
        let head = LmHead::new(layout, &order, &weights).unwrap();
        let client = client(slots, 1);
        let evaluator = CountingEvaluator::new(client.dry_run());
        let x = vector(8, hidden);
        let encrypted = head.apply(&evaluator, &encrypt(&client, layout, &order, &x, 1)).unwrap();
        let decrypted: Vec<Vec<Complex64>> = encrypted.iter().map(|c| client.decrypt(c).unwrap()).collect();
        let logits: Vec<Complex64> =
            head.logits(&decrypted).unwrap().into_iter().map(|logit| Complex64::new(logit, 0.0)).collect();
        let what = format!("{vocabulary} logits from {values}·{ring} in {slots} slots");
        assert_close(&logits, &dense(&x, weights.as_ref()), 1e-9, &what);
        assert_eq!(
            evaluator.counts().total().plaintext_products,
            head.products().iter().map(|product| product.geometry().plaintexts()).sum::<usize>(),
            "{what}"
        );
        assert!(head.logits(&[]).is_err());
    }
}

#[test]
fn a_head_over_the_vocabulary_of_smollm2_takes_half_of_hidden_times_vocabulary_over_slots() {
    let layout = VectorLayout::compact(32768, 64, 9).unwrap();
    let weights: std::sync::Arc<dyn crate::packing::Weights> =
        std::sync::Arc::new(crate::packing::FnWeights::new(576, 49152, |_, _| 0.0));
    let head = LmHead::new(layout, &Order::plain(&layout, 576), &weights).unwrap();
    let plaintexts: usize = head.products().iter().map(|product| product.geometry().plaintexts()).sum();
    // Ideal: 576·49152/(2·32768) = 432.
    assert_eq!((head.products().len(), plaintexts), (7, 448));
}

#[test]
fn bundles_refuse_junk_and_wrong_numbers() {
    let layout = VectorLayout::interleaved(64, 16).unwrap();
    assert!(Bundle::new(layout.junk(), 2).is_err());
    let text = Bundle::new(layout, 9).unwrap_err().to_string();
    assert!(text.contains("9 vectors") && text.contains('8'), "{text}");
    let client = client(64, 1);
    let junk = Packed::new(client.encrypt(&[], Level(1)).unwrap(), layout.junk());
    let bundle = Bundle::new(layout, 1).unwrap();
    assert!(bundle.pack(&client.dry_run(), &[junk]).is_err());
    assert!(bundle.pack(&client.dry_run(), &[]).is_err());
}
