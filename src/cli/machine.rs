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

/// Bytes of memory available to new work now, where the system tells: what the machine has left, or a limit of this process
/// or its control group.
pub fn available_memory_bytes() -> Option<u64> {
    let limits = [meminfo("MemAvailable:"), address_space_left(), control_group_left()];
    limits.into_iter().flatten().min()
}

/// What a limit of the address space (`ulimit -v`) leaves.
fn address_space_left() -> Option<u64> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let used = kilobytes(&std::fs::read_to_string("/proc/self/status").ok()?, "VmSize:")?;
    Some(address_space_limit(&limits)?.saturating_sub(used))
}

/// The soft limit in /proc/self/limits; `None` for "unlimited".
fn address_space_limit(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max address space"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What the control group (version 2, as in containers) leaves, file caches that can be given up aside.
fn control_group_left() -> Option<u64> {
    let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = std::path::Path::new("/sys/fs/cgroup").join(own.trim_start_matches('/'));
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
    group_left(&read("memory.max")?, &read("memory.current")?, &read("memory.stat")?)
}

/// From the texts of memory.max ("max" for no limit), memory.current and memory.stat.
fn group_left(limit: &str, used: &str, statistics: &str) -> Option<u64> {
    let limit: u64 = limit.trim().parse().ok()?;
    let used: u64 = used.trim().parse().ok()?;
    let caches = statistics.lines().find_map(|line| line.strip_prefix("inactive_file "));
    let caches: u64 = caches.and_then(|bytes| bytes.trim().parse().ok()).unwrap_or(0);
    Some(limit.saturating_sub(used.saturating_sub(caches)))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_of_the_process_and_its_group_are_read() {
        let limits = |value: &str| {
            format!("Limit  Soft  Hard\nMax address space         {value}   unlimited   bytes\n")
        };
        assert_eq!(address_space_limit(&limits("3072000000")), Some(3_072_000_000));
        assert_eq!(address_space_limit(&limits("unlimited")), None);
        assert_eq!(group_left("1000\n", "900\n", "anon 500\ninactive_file 300\n"), Some(400));
        assert_eq!(group_left("1000\n", "1200\n", ""), Some(0));
        assert_eq!(group_left("max\n", "900\n", ""), None);
    }
}
