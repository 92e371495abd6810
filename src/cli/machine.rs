//! What the machine offers.

use serde::Serialize;

/// Cores, SIMD and memory, as every JSON report names them.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Hardware threads this process may use.
    pub cores: usize,
    /// SIMD extensions found at run time, best first.
    pub simd: Vec<&'static str>,
    /// Physical memory.
    pub memory_bytes: u64,
}

impl Machine {
    /// Looks at this machine.
    pub fn detect() -> Self {
        Self {
            cores: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            simd: simd(),
            memory_bytes: meminfo("MemTotal:").unwrap_or(0),
        }
    }
}

#[cfg(target_arch = "x86_64")]
fn simd() -> Vec<&'static str> {
    let mut found = Vec::new();
    if std::is_x86_feature_detected!("avx512ifma") {
        found.push("avx512ifma");
    }
    if std::is_x86_feature_detected!("avx512f") {
        found.push("avx512f");
    }
    if std::is_x86_feature_detected!("avx2") {
        found.push("avx2");
    }
    if std::is_x86_feature_detected!("fma") {
        found.push("fma");
    }
    found
}

#[cfg(not(target_arch = "x86_64"))]
fn simd() -> Vec<&'static str> {
    Vec::new()
}

/// Bytes of memory available to new work now, where the system tells.
pub fn available_memory_bytes() -> Option<u64> {
    meminfo("MemAvailable:")
}

/// Largest resident memory of this process so far, where the system tells.
pub fn peak_memory_bytes() -> Option<u64> {
    kilobytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Seconds all threads of this process have spent computing so far, where the system tells. Unlike elapsed time it hardly
/// depends on what else the machine does.
pub fn cpu_seconds() -> Option<f64> {
    let mut nanoseconds = 0u64;
    for thread in std::fs::read_dir("/proc/self/task").ok()? {
        let text = std::fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
        nanoseconds += text.split_whitespace().next()?.parse::<u64>().ok()?;
    }
    Some(nanoseconds as f64 * 1e-9)
}

fn meminfo(key: &str) -> Option<u64> {
    kilobytes(&std::fs::read_to_string("/proc/meminfo").ok()?, key)
}

fn kilobytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(key))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
