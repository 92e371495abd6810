//! Memory of the machine and of this process, and processor time, where the system tells (Linux).

use crate::contract::{Error, Result};

#[cfg(target_os = "linux")]
mod system {
    use procfs::process::{LimitValue, Process};
    use procfs::{Current, Meminfo};

    pub fn physical_memory_bytes() -> Option<u64> {
        Meminfo::current().ok().map(|memory| memory.mem_total)
    }

    pub fn available_memory_bytes() -> Option<u64> {
        let machine = Meminfo::current().ok().and_then(|memory| memory.mem_available);
        [machine, address_space_left(), control_group_left()].into_iter().flatten().min()
    }

    /// What a limit of the address space (`ulimit -v`) leaves.
    fn address_space_left() -> Option<u64> {
        let process = Process::myself().ok()?;
        match process.limits().ok()?.max_address_space.soft_limit {
            LimitValue::Unlimited => None,
            LimitValue::Value(limit) => Some(limit.saturating_sub(process.stat().ok()?.vsize)),
        }
    }

    /// What the control group (version 2, as in containers) leaves, file caches that can be given up aside.
    fn control_group_left() -> Option<u64> {
        let groups = std::fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
        let folder = std::path::Path::new("/sys/fs/cgroup").join(own.trim_start_matches('/'));
        let read = |name: &str| std::fs::read_to_string(folder.join(name)).ok();
        super::group_left(&read("memory.max")?, &read("memory.current")?, &read("memory.stat")?)
    }

    pub fn peak_memory_bytes() -> Option<u64> {
        Process::myself().ok()?.status().ok()?.vmhwm.map(|kibibytes| kibibytes * 1024)
    }

    pub fn processor_seconds() -> Option<f64> {
        let mut nanoseconds = 0;
        for thread in Process::myself().ok()?.tasks().ok()? {
            nanoseconds += thread.ok()?.schedstat().ok()?.sum_exec_runtime;
        }
        Some(nanoseconds as f64 * 1e-9)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    pub fn physical_memory_bytes() -> Option<u64> {
        None
    }

    pub fn available_memory_bytes() -> Option<u64> {
        None
    }

    pub fn peak_memory_bytes() -> Option<u64> {
        None
    }

    pub fn processor_seconds() -> Option<f64> {
        None
    }
}

/// Bytes of physical memory, where the system tells.
pub(super) fn physical_memory_bytes() -> Option<u64> {
    system::physical_memory_bytes()
}

/// Seconds that all living threads of this process have spent computing so far, where the system tells. Unlike elapsed
/// time it hardly depends on what else the machine does.
pub(super) fn processor_seconds() -> Option<f64> {
    system::processor_seconds()
}

/// Bytes of memory that new work can have now, where the system tells: what the machine has left, or less where the
/// address space of this process (`ulimit -v`) or its control group is limited.
#[must_use]
pub fn available_memory_bytes() -> Option<u64> {
    system::available_memory_bytes()
}

/// Largest resident memory of this process so far in bytes, where the system tells.
#[must_use]
pub fn peak_memory_bytes() -> Option<u64> {
    system::peak_memory_bytes()
}

/// That `needed_bytes` of memory can be had now, before `operation` starts. Passes where the system does not tell.
///
/// # Errors
/// [`Error::Memory`] with both figures.
pub fn check_memory(operation: &'static str, needed_bytes: u64) -> Result<()> {
    match available_memory_bytes() {
        Some(available_bytes) if available_bytes < needed_bytes => {
            Err(Error::Memory { operation, needed_bytes, available_bytes })
        }
        _ => Ok(()),
    }
}

/// Bytes left in a control group, from the texts of memory.max ("max" for no limit), memory.current and memory.stat.
#[cfg(any(target_os = "linux", test))]
fn group_left(limit: &str, used: &str, statistics: &str) -> Option<u64> {
    let limit: u64 = limit.trim().parse().ok()?;
    let used: u64 = used.trim().parse().ok()?;
    let caches: u64 = match statistics.lines().find_map(|line| line.strip_prefix("inactive_file ")) {
        Some(bytes) => bytes.trim().parse().ok()?,
        // Nothing can be given up.
        None => 0,
    };
    Some(limit.saturating_sub(used.saturating_sub(caches)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_control_group_leaves_its_limit_less_what_cannot_be_given_up() {
        assert_eq!(group_left("1000\n", "900\n", "anon 500\ninactive_file 300\n"), Some(400));
        assert_eq!(group_left("1000\n", "1200\n", ""), Some(0));
        assert_eq!(group_left("max\n", "900\n", ""), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn figures_of_this_process_lie_within_those_of_the_machine() {
        let (physical, available) = (physical_memory_bytes().unwrap(), available_memory_bytes().unwrap());
        let peak = peak_memory_bytes().unwrap();
        assert!(peak > 1 << 20 && peak < physical, "peak {peak} of {physical}");
        assert!(available > 0 && available <= physical, "{available} of {physical}");
        check_memory("nothing", 0).unwrap();
        let error = check_memory("too much", u64::MAX).unwrap_err().to_string();
        assert!(error.contains(&u64::MAX.to_string()), "{error}");

        let before = processor_seconds().unwrap();
        let mut sum = 0u64;
        while processor_seconds().unwrap() < before + 0.02 {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
    }
}
