//! Two tokens of the tiny model on real ciphertexts, in the small ring that claims no security: bootstraps, encrypted KV
//! cache and all, against the exact f32 model; and the second again from a checkpoint after the first, with everything else
//! dropped and new evaluation keys.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "tests state what must hold; a failure to get there is a failure"
)]

use std::path::Path;

use cachemir::backend::native::NativeClient;
use cachemir::bootstrapping::BootstrapParameters;
use cachemir::calibration::ranges::DecoderRanges;
use cachemir::calibration::table::CalibrationTargets;
use cachemir::contract::{BootstrapSummary, Client, Level};
use cachemir::decoder::Decoder;
use cachemir::decoder::hidden_codec::HiddenCodec;
use cachemir::decoder::keys::plan_keys;
use cachemir::decoder::placement::{PlacementScheme, TokensOfCache, place_decoder};
use cachemir::decoder::plan::{Accuracy, DecoderPlan};
use cachemir::generation::checkpoint::{
    CHECKPOINT_FILE, CheckpointHeader, key_fingerprint, plan_digest, read_checkpoint, write_checkpoint,
};
use cachemir::generation::client::GenerationClient;
use cachemir::generation::sampling::Sampling;
use cachemir::generation::server::GenerationServer;
use cachemir::generation::session::{GenerationRequest, Session};
use cachemir::model::block_functions::ExactFunctions;
use cachemir::model::prepared::{PreparedModel, TextPart, built_in};
use cachemir::model::weights::Weights;
use cachemir::placement::CostFile;
use cachemir::setup::calibrate::calibrate;

const TOKENS: usize = 2;
/// Largest difference of a logit that the encrypted run may show.
const LOGIT_ERROR: f32 = 0.05;

#[test]
fn free_running_tokens_under_encryption_are_those_of_the_exact_model_also_after_an_interruption() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/tiny-shakespeare-llama");
    let prepared = PreparedModel::read(&directory).unwrap();
    let config = prepared.model.config();
    let texts = |part| prepared.private_tokens(&built_in(part, false), 128, 0).unwrap();
    let targets = CalibrationTargets { denominator_top: 2.5, ..CalibrationTargets::default() };
    let (calibration, held_out) = (texts(TextPart::Calibration), texts(TextPart::HeldOut));
    let table = calibrate(&prepared, &calibration, &held_out, &targets, &mut |_, _, _| {}).unwrap().table;
    let ranges = DecoderRanges::from_calibration(&table, config, &prepared.prefix_cache).unwrap();

    let parameters = BootstrapParameters::test(12, 13);
    let bootstrap = BootstrapSummary {
        output_level: Level(parameters.output_level()),
        minimum_input_level: Level(parameters.minimum_input_level()),
        bound: 1.0,
    };
    let functions = DecoderPlan::new(config, &ranges, Accuracy::default(), bootstrap).unwrap();
    let client = NativeClient::with_bootstrapping(parameters.clone(), Some(7)).unwrap();
    let secret = client.secret_to_bytes().unwrap();
    let prompt = prepared.frame.message(&prepared.tokenizer, "O").unwrap();
    let prefix = prepared.frame.prefix.clone();
    let context = prefix.len() + prompt.len() + TOKENS;
    let weights = Weights::open(&directory, config).unwrap();
    let (slots, chain) = (client.slots(), client.ckks().parameters().chain());
    let scheme = PlacementScheme { backend: "native", preset: "test", slots, chain, bootstrap };
    let costs = CostFile::parse(include_str!("../src/cli/built_in_costs/n16.json")).unwrap();
    let tokens = TokensOfCache { cached: context - 1, context };
    let placement = place_decoder(config, &functions, &scheme, &costs, tokens).unwrap();
    let plan = functions.placed(&placement.plan).unwrap();
    let codec = HiddenCodec::new(config, &plan, client.slots(), context).unwrap();
    let decoder = Decoder::new(&weights, plan, client.slots(), context).unwrap();
    let keys = plan_keys(&decoder, client.ckks().parameters().chain(), bootstrap, 1).unwrap();

    let client = GenerationClient::new(client, codec.clone(), &prepared.model);
    let evaluator = client.evaluation_keys(&keys.request).unwrap();
    let mut state = decoder.new_state();
    decoder.append_public_prefix(&evaluator, &mut state, &prepared.prefix_cache).unwrap();
    let server = GenerationServer::new(&decoder, evaluator, state);
    let request = GenerationRequest {
        prefix,
        prompt: prompt.clone(),
        max_new_tokens: TOKENS,
        sampling: Sampling::greedy(),
        eos: config.eos_token_ids.clone(),
    };
    let mut session = Session::new(client, server, request.clone(), Vec::new()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut header = CheckpointHeader {
        scheme: "native".to_owned(),
        key: key_fingerprint(&secret),
        plan: plan_digest(&decoder).unwrap(),
        context,
        request: request.clone(),
        generated: Vec::new(),
    };

    let (mut pending, mut cache) = (prompt, prepared.prefix_cache.clone());
    while let Some(step) = session.next_token(&mut |_, _, _| {}).unwrap() {
        let hidden = prepared.model.forward(&pending, &mut cache, &mut ExactFunctions).unwrap();
        let logits = prepared.model.logits(&hidden);
        let exact = logits.row(logits.nrows() - 1).to_vec();
        let worst = exact.iter().zip(&step.logits).map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
        println!("token {}: logits wrong by at most {worst}, {:.1?}", step.token, step.elapsed);
        assert!(worst <= LOGIT_ERROR, "logits wrong by {worst}");
        let mut sorted = exact.clone();
        sorted.sort_by(f32::total_cmp);
        let gap = sorted.iter().rev().take(2).fold(0.0, |gap, logit| logit - gap).abs();
        if gap > 2.0 * worst {
            assert_eq!(step.token, Sampling::greedy().pick(&exact, 0).unwrap(), "gap {gap}");
        }
        pending = vec![step.token];
        if header.generated.is_empty() {
            header.generated = session.generated().to_vec();
            let server = session.server();
            write_checkpoint(folder.path(), server.evaluator(), &header, server.state()).unwrap();
        }
    }
    assert_eq!(session.generated().len(), TOKENS);
    let uninterrupted = session.generated().to_vec();
    drop(session);

    // A checkpoint that was cut off, a key that was, and the key of another are told before any key is made.
    let path = folder.path().join(CHECKPOINT_FILE);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(read_checkpoint(folder.path()).unwrap_err().to_string().contains("checksum"));
    std::fs::write(&path, &whole).unwrap();
    let (saved, caches) = read_checkpoint(folder.path()).unwrap().unwrap();
    let foreign = NativeClient::with_bootstrapping(parameters.clone(), Some(8)).unwrap();
    let key = key_fingerprint(&foreign.secret_to_bytes().unwrap());
    let error = saved.require(&CheckpointHeader { key, ..header.clone() }).unwrap_err().to_string();
    assert!(error.contains("secret key"), "{error}");
    assert!(NativeClient::with_stored_secret(parameters.clone(), &secret[..secret.len() - 1]).is_err());

    // What is left of the first run is the checkpoint and the secret key.
    let client = NativeClient::with_stored_secret(parameters, &secret).unwrap();
    saved.require(&header).unwrap();
    assert_eq!(saved.generated, uninterrupted[..1]);
    let client = GenerationClient::new(client, codec, &prepared.model);
    let evaluator = client.evaluation_keys(&keys.request).unwrap();
    let state = decoder.state_from_bytes(&evaluator, &caches).unwrap();
    let server = GenerationServer::new(&decoder, evaluator, state);
    let mut resumed = Session::new(client, server, request, saved.generated).unwrap();
    while let Some(step) = resumed.next_token(&mut |_, _, _| {}).unwrap() {
        println!("token {} after the interruption, {:.1?}", step.token, step.elapsed);
    }
    assert_eq!(resumed.generated(), uninterrupted);
}
