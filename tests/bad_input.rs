//! Hostile and mistaken input: an error that names the numbers, no panic, no allocation on the word of a length.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "test code: what fails, fails the test"
)]

use std::process::Command;
use std::sync::Arc;

use cachemir::Error;
use cachemir::backend::native::{NativeClient, NativeEvaluator, n16_levelled, test_levelled};
use cachemir::ckks::container::{Fingerprint, Kind, write_container};
use cachemir::ckks::{Parameters, ParametersLiteral, Security, Stretch};
use cachemir::contract::{
    CiphertextInfo, Client, Complex64, Evaluator, KeyRequest, Level, LevelChain, Scale,
};

const LOG2_N: u32 = 6;

fn native() -> (NativeClient, NativeEvaluator) {
    let parameters = Arc::new(Parameters::new(test_levelled(LOG2_N, 3)).unwrap());
    let client = NativeClient::from_insecure_fixed_seed(parameters, 5).unwrap();
    let evaluator = client.evaluator(&KeyRequest::new()).unwrap();
    (client, evaluator)
}

/// Sections of a ciphertext at level 1 as the native backend writes them: level and scale, c_0, c_1.
fn sections() -> [Vec<u8>; 3] {
    let (client, evaluator) = native();
    let ciphertext = client.encrypt(&[Complex64::new(0.25, 0.5)], Level(1)).unwrap();
    let bytes = evaluator.ciphertext_to_bytes(&ciphertext).unwrap();
    let container = cachemir::ckks::container::Container::parse(&bytes).unwrap();
    let sections: Vec<Vec<u8>> = container.sections.iter().map(|section| section.to_vec()).collect();
    sections.try_into().unwrap()
}

/// What a forger sends: any sections, with a checksum that fits.
fn read_forged(sections: &[&[u8]]) -> Result<<NativeEvaluator as Evaluator>::Ciphertext, Error> {
    let (_, evaluator) = native();
    let fingerprint = *evaluator.parameters().fingerprint();
    evaluator.ciphertext_from_bytes(&write_container(Kind::Ciphertext, fingerprint, sections).unwrap())
}

fn assert_refused(what: &str, sections: &[&[u8]]) {
    match read_forged(sections) {
        Err(Error::Format { .. } | Error::LevelOutOfRange { .. }) => {}
        Err(other) => panic!("{what}: unexpected kind of error: {other}"),
        Ok(ciphertext) => {
            panic!("{what}: accepted at level {}, scale {}", ciphertext.level(), ciphertext.scale())
        }
    }
}

#[test]
fn an_honest_container_is_read_back() {
    let [head, c0, c1] = sections();
    assert_eq!(read_forged(&[&head, &c0, &c1]).unwrap().level(), Level(1));
}

#[test]
fn forged_levels_and_scales_are_refused() {
    let [head, c0, c1] = sections();
    for level in [0, 2, 4, 1 << 32, u64::MAX] {
        let mut forged = head.clone();
        forged[..8].copy_from_slice(&u64::to_le_bytes(level));
        assert_refused(&format!("level {level}"), &[&forged, &c0, &c1]);
    }
    for scale in [0.0, -1.0, 1e-300, f64::NAN, f64::INFINITY, 1e300] {
        let mut forged = head.clone();
        forged[8..].copy_from_slice(&f64::to_le_bytes(scale));
        assert_refused(&format!("scale {scale}"), &[&forged, &c0, &c1]);
    }
}

#[test]
fn forged_polynomials_are_refused() {
    let [head, c0, c1] = sections();
    assert_refused("no sections", &[]);
    assert_refused("one section", &[&head]);
    assert_refused("two sections", &[&head, &c0]);
    assert_refused("four sections", &[&head, &c0, &c1, &c1]);
    assert_refused("short header", &[&head[..15], &c0, &c1]);
    assert_refused("short polynomial", &[&head, &c0[..c0.len() - 8], &c1]);
    assert_refused("odd length", &[&head, &c0, &c1[..c1.len() - 1]]);
    assert_refused("long polynomial", &[&head, &[c0.as_slice(), &[0; 8]].concat(), &c1]);
    assert_refused("empty polynomial", &[&head, &c0, &[]]);
    // A residue that is not reduced, first and last of each limb.
    let words = c0.len() / 8;
    for word in [0, words / 2 - 1, words / 2, words - 1] {
        let mut forged = c0.clone();
        forged[8 * word..8 * word + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_refused(&format!("residue {word} of {words} is 2^64 − 1"), &[&head, &forged, &c1]);
        assert_refused("the same in the second half", &[&head, &c0, &forged]);
    }
}

#[test]
fn ciphertexts_of_other_parameters_name_both_fingerprints() {
    let [head, c0, c1] = sections();
    let (_, evaluator) = native();
    let bytes = write_container(Kind::Ciphertext, Fingerprint::of(b"others"), &[&head, &c0, &c1]).unwrap();
    let error = evaluator.ciphertext_from_bytes(&bytes).unwrap_err();
    assert!(matches!(error, Error::ParameterMismatch { .. }), "{error}");
    assert!(error.to_string().contains(&Fingerprint::of(b"others").to_string()), "{error}");
}

#[test]
fn parameters_that_make_no_scheme_are_refused_with_their_numbers() {
    let honest = || test_levelled(LOG2_N, 3);
    let stretch = |levels, log2_scale, primes_per_level| Stretch { levels, log2_scale, primes_per_level };
    let literals: Vec<(&str, ParametersLiteral)> = vec![
        ("no ring", ParametersLiteral { log2_n: 0, ..honest() }),
        ("a ring of 2^40", ParametersLiteral { log2_n: 40, ..honest() }),
        ("a ring of 2^64", ParametersLiteral { log2_n: 64, ..honest() }),
        ("no base", ParametersLiteral { base_bits: vec![], ..honest() }),
        ("no levels at all", ParametersLiteral { stretches: vec![], ..honest() }),
        ("no special primes", ParametersLiteral { special_primes: 0, ..honest() }),
        ("primes of 80 bits", ParametersLiteral { base_bits: vec![80.0], ..honest() }),
        ("primes of NaN bits", ParametersLiteral { special_bits: f64::NAN, ..honest() }),
        ("primes of 2 bits", ParametersLiteral { special_bits: 2.0, ..honest() }),
        ("scales of 70 bits", ParametersLiteral { stretches: vec![stretch(2, 70.0, 1)], ..honest() }),
        ("levels without primes", ParametersLiteral { stretches: vec![stretch(2, 41.0, 0)], ..honest() }),
        ("special primes below a digit", ParametersLiteral { special_bits: 30.0, ..honest() }),
    ];
    for (what, literal) in literals {
        match Parameters::new(literal) {
            Err(Error::Parameters { .. } | Error::ScaleOutOfRange { .. }) => {}
            Err(other) => panic!("{what}: unexpected kind of error: {other}"),
            Ok(_) => panic!("{what}: accepted"),
        }
    }
}

#[test]
fn insecure_parameters_must_be_asked_for_by_name() {
    let insecure = ParametersLiteral { security: Security::Classical128, ..test_levelled(12, 6) };
    let error = Parameters::new(insecure).unwrap_err();
    assert!(matches!(error, Error::Insecure { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("2^12") && text.contains("limit"), "{text}");
}

#[test]
fn chains_that_disagree_in_length_are_refused() {
    let error = LevelChain::with_scales(1e15, vec![1e12; 3], vec![Scale(1e12); 3]).unwrap_err();
    assert!(error.to_string().contains("3 scales for 3 moduli"), "{error}");
}

/// Runs the program; it must fail with a short message on stderr that contains every given word.
/// Less memory than a run needs, by a limit of the process, is refused before keys are made.
#[cfg(target_os = "linux")]
#[test]
fn too_little_memory_is_refused_with_both_numbers() {
    let program = env!("CARGO_BIN_EXE_cachemir");
    let output = Command::new("sh")
        .args([
            "-c",
            "ulimit -v 480000 && exec \"$0\" generate --preset test --prompt O --max-new-tokens 1",
            program,
        ])
        .output()
        .unwrap();
    let message = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "{message}");
    assert!(message.contains("memory") && message.contains("available"), "{message}");
    assert!(!message.contains("rotation keys, about"), "refused before the run is announced: {message}");
}

fn assert_program_refuses(arguments: &[&str], words: &[&str]) {
    let output = Command::new(env!("CARGO_BIN_EXE_cachemir")).args(arguments).output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "cachemir {arguments:?} succeeded");
    assert!(!text.contains("panicked"), "cachemir {arguments:?} panicked: {text}");
    for word in words {
        assert!(text.contains(word), "cachemir {arguments:?}: `{word}` is missing from: {text}");
    }
}

#[test]
fn the_command_line_refuses_with_a_remedy() {
    assert_program_refuses(&[], &["Usage"]);
    assert_program_refuses(&["no-such-verb"], &["no-such-verb"]);
    assert_program_refuses(&["doctor", "--json", "/no/such/folder/x.json"], &["/no/such/folder"]);
    assert_program_refuses(&["params", "--json", "/no/such/folder/x.json"], &["/no/such/folder"]);
    assert_program_refuses(&["bench", "ops", "--preset", "none"], &["none", "n16"]);
    assert_program_refuses(&["bench", "ops", "--log2-n", "12"], &["--limbs"]);
    let bare = ["bench", "ops", "--log2-n", "10", "--limbs", "3", "--digits"];
    assert_program_refuses(&[&bare[..], &["9"]].concat(), &["3 limbs in 9 digits"]);
    assert_program_refuses(&[&bare[..], &["0"]].concat(), &["3 limbs in 0 digits"]);
    assert_program_refuses(&["bench", "ops", "--preset", "test", "--levels", "77"], &["level 77"]);
    assert_program_refuses(&["bench", "ops", "--preset", "test", "--rounds", "0"], &["--rounds"]);
    assert_program_refuses(&["bench", "ops", "--preset", "test", "--threads", "0"], &["--threads"]);
}

#[test]
fn operations_are_timed_down_to_level_one() {
    let arguments = "bench ops --log2-n 9 --limbs 3 --digits 2 --levels all --rounds 1 --threads 1";
    let output = Command::new(env!("CARGO_BIN_EXE_cachemir")).args(arguments.split(' ')).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    // The scale of the preset for N = 2^16, whose square must leave room at level 1 too.
    let literal = ParametersLiteral { log2_n: 9, security: Security::InsecureForTests, ..n16_levelled() };
    let chain = Parameters::new(literal).unwrap().chain().clone();
    for level in 1..=chain.max_level().0 {
        let (scale, modulus) =
            (chain.canonical_scale(Level(level)).unwrap(), chain.log2_modulus(Level(level)).unwrap());
        assert!(2.0 * scale.log2() < modulus, "level {level}: scale {scale}, modulus 2^{modulus:.2}");
    }
}

#[test]
fn verification_fails_loudly_and_a_damaged_checkpoint_before_any_key_is_made() {
    let generate = ["generate", "--preset", "test", "--max-new-tokens", "1", "--prompt", "O"];
    let with = |more: &[&'static str]| [&generate[..], more].concat();
    let reports = tempfile::tempdir().unwrap();
    let (json, html) = (reports.path().join("report.json"), reports.path().join("report.html"));
    let output = Command::new(env!("CARGO_BIN_EXE_cachemir"))
        .args(with(&["--backend", "clear", "--verify", "--head", "server"]))
        .args(["--json".as_ref(), json.as_os_str(), "--html".as_ref(), html.as_os_str()])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(report["positions"].as_array().map(Vec::len), Some(1), "{report}");
    assert!(report["positions"][0]["logit_rms_error"].as_f64().unwrap() < 0.05, "{report}");
    assert_eq!((&report["head"], &report["mode"]), (&"server".into(), &"free_running".into()));
    let page = std::fs::read_to_string(&html).unwrap();
    assert!(page.contains("Against the exact model") && page.contains("<circle"), "{page}");
    // Bootstraps wrong by 2^-11 make logits that are wrong by more than is allowed.
    assert_program_refuses(
        &with(&["--backend", "clear", "--verify", "--noise-bits", "11"]),
        &["verification failed", "logit error", "0.05"],
    );
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().to_str().unwrap();
    let native = [&generate[..], &["--backend", "native", "--checkpoint", directory]].concat();
    std::fs::write(folder.path().join("generation.checkpoint"), b"CMGEN001").unwrap();
    assert_program_refuses(&native, &["secret.key", "put the key back"]);
    assert!(!folder.path().join("secret.key").exists(), "no new key beside a checkpoint");
    std::fs::write(folder.path().join("secret.key"), b"not a key").unwrap();
    assert_program_refuses(&native, &["secret.key", "container"]);
    std::fs::remove_file(folder.path().join("secret.key")).unwrap();
    let clear = [&generate[..], &["--backend", "clear", "--checkpoint", directory]].concat();
    assert_program_refuses(&clear, &["checkpoint", "8 bytes"]);
}

/// Waves are compared behind their last tokens; bootstraps wrong by 2^-4 take a value out of its interval, and what
/// was compared before is still written.
#[test]
fn a_comparison_counts_waves_and_keeps_what_it_has_when_it_ends_early() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("eval.json");
    let path = file.to_str().unwrap();
    let eval = ["eval", "--backend", "clear", "--preset", "test", "--positions", "8", "--json", path];
    let report = || -> serde_json::Value { serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap() };
    let run = Command::new(env!("CARGO_BIN_EXE_cachemir")).args(eval).args(["--wave", "4"]).output().unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    let whole = report();
    assert_eq!((&whole["wave"], &whole["positions"]), (&4.into(), &2.into()), "{whole}");
    assert!(whole["stopped"].is_null() && whole["top1"] == 1.0, "{whole}");
    assert_program_refuses(&[&eval[..], &["--noise-bits", "4"]].concat(), &["ended early", "bound"]);
    let stopped = report();
    assert!(stopped["stopped"].as_str().is_some_and(|why| why.contains("at position")), "{stopped}");
    assert_eq!(stopped["out_of_interval"].as_array().map(Vec::len), Some(1), "{stopped}");
}

#[test]
fn a_calibration_of_an_older_version_is_refused_with_the_verb_that_makes_it_anew() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("calibration.json");
    let eval = ["eval", "--backend", "twin", "--positions", "4", "--calibration", path.to_str().unwrap()];
    std::fs::write(&path, br#"{"format_version":2,"model":"x","targets":{},"layers":[]}"#).unwrap();
    assert_program_refuses(&eval, &["format 2", "reads 3", "cachemir calibrate"]);
    std::fs::write(&path, b"[1, 2").unwrap();
    assert_program_refuses(&eval, &["not a calibration", "cachemir calibrate"]);
}

#[test]
fn a_run_that_encrypts_nothing_says_so_in_its_report() {
    let folder = tempfile::tempdir().unwrap();
    let (file, table) = (folder.path().join("report.json"), folder.path().join("calibration.json"));
    let (file, table) = (file.to_str().unwrap(), table.to_str().unwrap());
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/models/tiny-shakespeare-llama");
    let run = |arguments: &[&str]| -> serde_json::Value {
        let output = Command::new(env!("CARGO_BIN_EXE_cachemir"))
            .args(arguments)
            .args(["--preset", "n16", "--json", file])
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
    };
    let calibrate = run(&["calibrate", "--model", model, "--output", table, "--context", "40"]);
    assert_eq!((&calibrate["insecure"], &calibrate["out_of_interval"]), (&true.into(), &0.into()));
    let levels = calibrate["function_levels"].as_array().unwrap();
    assert_eq!(levels.len(), 2);
    assert!(levels.iter().all(|layer| layer["silu"].as_u64().is_some_and(|levels| levels > 0)), "{levels:?}");
    let twin = run(&["eval", "--backend", "twin", "--calibration", table, "--positions", "30"]);
    assert_eq!((&twin["insecure"], &twin["backend"]), (&true.into(), &"twin".into()));
    assert_eq!((&twin["positions"], &twin["top1"]), (&30.into(), &1.0.into()));
    // The decoder itself, on the simulator, is what runs unless another is named.
    let decoder = run(&["eval", "--calibration", table, "--positions", "3"]);
    assert_eq!((&decoder["insecure"], &decoder["backend"]), (&true.into(), &"clear".into()));
    assert_eq!(decoder["out_of_interval"], serde_json::json!([]));
}

#[test]
fn the_command_line_writes_the_reports_it_promises() {
    let folder = tempfile::tempdir().unwrap();
    for (name, arguments, key) in [
        ("params", &["params"][..], "presets"),
        ("ops", &["bench", "ops", "--preset", "test", "--rounds", "1", "--levels", "2"], "rows"),
    ] {
        let file = folder.path().join(format!("{name}.json"));
        let output = Command::new(env!("CARGO_BIN_EXE_cachemir"))
            .args(arguments)
            .arg("--json")
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        for common in ["command", "version", "commit", "machine", "backend", "preset", "insecure"] {
            assert!(!report[common].is_null(), "{name}: `{common}` is missing");
        }
        assert!(report[key].as_array().is_some_and(|list| !list.is_empty()), "{name}: `{key}` is empty");
    }
    let params: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("params.json")).unwrap()).unwrap();
    for preset in params["presets"].as_array().unwrap().iter().filter(|preset| preset["secure"] == true) {
        for key in preset["keys"].as_array().unwrap() {
            let margin = key["margin_bits"].as_f64();
            assert!(margin.is_some_and(|margin| margin >= 0.0), "{preset}: negative margin of {key}");
        }
    }
}
