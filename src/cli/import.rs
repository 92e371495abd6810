//! `cachemir import`: a Hugging Face directory from a GGUF file.

use std::path::PathBuf;

use crate::model::import::import_gguf;
use clap::Args;

use crate::measure::peak_memory_bytes;

/// Flags of `import`.
#[derive(Args)]
pub struct Import {
    /// A Llama in GGUF: F32, F16, BF16, Q8_0, Q4_0 or Q4_1 tensors, byte-level BPE tokenizer.
    #[arg(long, value_name = "FILE")]
    gguf: PathBuf,
    /// Directory to write config.json, model.safetensors and tokenizer.json to.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

impl Import {
    /// Writes the directory and says what went into it.
    pub fn run(self) -> anyhow::Result<()> {
        let summary = import_gguf(&self.gguf, &self.directory)?;
        let config = &summary.config;
        println!(
            "wrote {} tensors, {:.1} M parameters, to {}",
            summary.tensors,
            summary.parameters as f64 / 1e6,
            self.directory.display()
        );
        println!(
            "layers {}, hidden {}, heads {} ({} key/value) of {}, intermediate {}, vocabulary {}",
            config.num_hidden_layers,
            config.hidden_size,
            config.num_attention_heads,
            config.num_key_value_heads,
            config.head_dim,
            config.intermediate_size,
            config.vocab_size
        );
        if let Some(bytes) = peak_memory_bytes() {
            println!("peak memory {:.1} GiB", bytes as f64 / f64::from(1u32 << 30));
        }
        Ok(())
    }
}
