//! What the machine offers: cores, SIMD, memory.

use serde::Serialize;

/// Cores, SIMD extensions and memory, as every JSON report names them.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Hardware threads this process may use.
    pub cores: usize,
    /// SIMD extensions found at run time, best first; empty where only portable kernels run.
    pub simd: Vec<&'static str>,
    /// Physical memory; `None` where the system does not tell.
    pub memory_bytes: Option<u64>,
}

impl Machine {
    /// Looks at this machine.
    #[must_use]
    pub fn detect() -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            simd: simd(),
            memory_bytes: super::memory::physical_memory_bytes(),
        }
    }

    /// The SIMD extensions in words.
    #[must_use]
    pub fn simd_text(&self) -> String {
        if self.simd.is_empty() { "portable kernels".to_owned() } else { self.simd.join(", ") }
    }
}

#[cfg(target_arch = "x86_64")]
fn simd() -> Vec<&'static str> {
    let found = [
        ("avx512ifma", std::is_x86_feature_detected!("avx512ifma")),
        ("avx512f", std::is_x86_feature_detected!("avx512f")),
        ("avx2", std::is_x86_feature_detected!("avx2")),
        ("fma", std::is_x86_feature_detected!("fma")),
    ];
    found.into_iter().filter(|(_, there)| *there).map(|(name, _)| name).collect()
}

#[cfg(not(target_arch = "x86_64"))]
fn simd() -> Vec<&'static str> {
    Vec::new()
}
