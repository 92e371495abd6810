//! Configurations as they come.

use super::*;

fn minimal(extra: &str) -> String {
    format!(
        r#"{{"model_type":"llama","hidden_size":64,"intermediate_size":160,"num_hidden_layers":2,"num_attention_heads":4,"vocab_size":512{extra}}}"#
    )
}

fn parse(text: &str) -> Result<LlamaConfig> {
    LlamaConfig::parse(text.as_bytes(), "config.json")
}

#[test]
fn absent_keys_take_the_defaults_of_the_family() {
    let config = parse(&minimal("")).unwrap();
    assert_eq!((config.num_key_value_heads, config.head_dim), (4, 16));
    assert_eq!(config.rope_theta, 10_000.0);
    assert_eq!(config.rope_scaling, RopeScaling::None);
    assert!(config.eos_token_ids.is_empty() && !config.tie_word_embeddings);
}

#[test]
fn end_of_text_may_be_a_number_or_a_list() {
    assert_eq!(parse(&minimal(r#","eos_token_id":2"#)).unwrap().eos_token_ids, [2]);
    assert_eq!(parse(&minimal(r#","eos_token_id":[2,7]"#)).unwrap().eos_token_ids, [2, 7]);
}

#[test]
fn llama3_scaling_divides_long_wavelengths_and_keeps_short_ones() {
    let config = parse(&minimal(
        r#","head_dim":64,"rope_theta":500000.0,"rope_scaling":{"rope_type":"llama3","factor":8.0,"low_freq_factor":1.0,"high_freq_factor":4.0,"original_max_position_embeddings":8192}"#,
    ))
    .unwrap();
    let plain = LlamaConfig { rope_scaling: RopeScaling::None, ..config.clone() };
    let (scaled, unscaled) = (config.rope_frequencies(), plain.rope_frequencies());
    assert_eq!(scaled[0], unscaled[0]);
    assert!((scaled[31] - unscaled[31] / 8.0).abs() < 1e-15, "{} {}", scaled[31], unscaled[31]);
    assert!(scaled.windows(2).all(|pair| pair[1] < pair[0]), "{scaled:?}");
}

#[test]
fn rope_settings_are_read_from_every_place_they_stand_in() {
    let linear = RopeScaling::Linear { factor: 2.0 };
    for (extra, theta, scaling) in [
        (r#","rope_scaling":{"type":"linear","rope_type":"linear","factor":2.0}"#, 1e4, linear),
        (
            r#","rope_scaling":null,"rope_parameters":{"rope_type":"linear","factor":2,"rope_theta":5e5}"#,
            5e5,
            linear,
        ),
        (
            r#","rope_scaling":{"type":"linear","factor":2},"rope_parameters":{"rope_type":"linear","factor":2.0,"rope_theta":5e5}"#,
            5e5,
            linear,
        ),
        (r#","rope_theta":500000,"rope_parameters":{"rope_theta":5e5}"#, 5e5, RopeScaling::None),
        (r#","rope_theta":"1e6","rope_scaling":false"#, 1e6, RopeScaling::None),
        (r#","rope_theta":1e6,"rope_scaling":[]"#, 1e6, RopeScaling::None),
        (r#","unused":[0.0, Infinity, -Infinity, NaN]"#, 1e4, RopeScaling::None),
    ] {
        let config = parse(&minimal(extra)).unwrap();
        assert_eq!((config.rope_theta, config.rope_scaling), (theta, scaling), "{extra}");
    }
}

#[test]
fn mistral_without_a_window_is_the_same_computation() {
    let mistral = |extra: &str| parse(&minimal(extra).replace("\"llama\"", "\"mistral\""));
    assert_eq!(mistral(r#","sliding_window":null,"num_key_value_heads":2"#).unwrap().num_key_value_heads, 2);
    assert!(
        mistral(r#","sliding_window":4096,"max_position_embeddings":4096,"num_key_value_heads":2"#).is_ok()
    );
    // The defaults of a Mistral: a window of 4096, eight key and value heads.
    let message = mistral(r#","num_key_value_heads":2"#).unwrap_err().to_string();
    assert!(message.contains("sliding_window = 4096") && message.contains("131072"), "{message}");
    let message = mistral(r#","sliding_window":null"#).unwrap_err().to_string();
    assert!(message.contains("num_key_value_heads = 8"), "{message}");
}

#[test]
fn end_tokens_of_both_files_are_joined() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), minimal(r#","eos_token_id":1"#)).unwrap();
    let path = folder.path().join("generation_config.json");
    std::fs::write(&path, r#"{"eos_token_id":[1, 9.0, 3]}"#).unwrap();
    assert_eq!(LlamaConfig::read(folder.path()).unwrap().eos_token_ids, [1, 9, 3]);
    std::fs::write(&path, r#"{"eos_token_id":[-7]}"#).unwrap();
    let message = LlamaConfig::read(folder.path()).unwrap_err().to_string();
    assert!(message.contains("generation_config.json") && message.contains("-7"), "{message}");
}

#[test]
fn written_configuration_reads_back_equal() {
    let config = parse(&minimal(
        r#","eos_token_id":[2,7],"bos_token_id":1,"num_key_value_heads":2,"tie_word_embeddings":true,"rope_scaling":{"type":"linear","factor":4.0}"#,
    ))
    .unwrap();
    assert_eq!(parse(&config.to_json().to_string()).unwrap(), config);
}

#[test]
fn what_is_not_computed_is_refused_by_name() {
    for (extra, word) in [
        (r#","attention_bias":true"#, "attention_bias"),
        (r#","hidden_act":"gelu""#, "gelu"),
        (r#","head_dim":15"#, "head_dim = 15"),
        (r#","num_key_value_heads":3"#, "num_key_value_heads = 3"),
        (r#","num_key_value_heads":0"#, "num_key_value_heads = 0"),
        (r#","rope_scaling":{"rope_type":"yarn"}"#, "yarn"),
        (r#","rms_norm_eps":0.0"#, "rms_norm_eps"),
        (r#","max_position_embeddings":99999999999"#, "99999999999"),
        (r#","quantization_config":{"bits":4}"#, "quantization_config"),
    ] {
        let message = parse(&minimal(extra)).unwrap_err().to_string();
        assert!(message.contains(word), "{extra}: {message}");
    }
    for (extra, word) in [
        (
            r#","rope_parameters":{"rope_type":"default","partial_rotary_factor":0.5}"#,
            "partial_rotary_factor",
        ),
        (r#","rope_scaling":{"rope_type":"linear"}"#, "rope_scaling.factor is missing"),
        (r#","rope_scaling":{"rope_type":"linear","type":"llama3","factor":2}"#, "differ"),
        (
            r#","rope_theta":1e4,"rope_parameters":{"rope_theta":5e5}"#,
            "rope_theta = 10000 and rope_parameters",
        ),
        (r#","rope_scaling":{"type":"linear","factor":2},"rope_parameters":{}"#, ""),
        (r#","rope_scaling":{"type":"linear","factor":2},"rope_parameters":{"type":"default"}"#, "says"),
        (r#","rope_scaling":"linear""#, "an object is wanted"),
        (r#","rope_theta":Infinity"#, "rope_theta is Infinity"),
        (r#","hidden_size":64.5"#, "64.5"),
        (r#","eos_token_id":[1.5]"#, "eos_token_id is 1.5"),
        (r#","tie_word_embeddings":"yes""#, "true or false"),
        (r#","residual_multiplier":0.22"#, "residual_multiplier"),
        (r#","num_local_experts":8"#, "num_local_experts"),
        (r#","layer_types":["full_attention","sliding_attention"]"#, "layer_types"),
        (r#","sliding_window":512"#, "sliding_window = 512"),
    ] {
        match parse(&minimal(extra)) {
            Err(error) => {
                assert!(!word.is_empty() && error.to_string().contains(word), "{extra}: {error}")
            }
            Ok(_) => assert!(word.is_empty(), "{extra} was read"),
        }
    }
    let message = parse(&minimal("").replace("\"llama\"", "\"gpt2\"")).unwrap_err().to_string();
    assert!(message.contains("gpt2"), "{message}");
    assert!(parse("{}").is_err() && parse("[").is_err());
}
