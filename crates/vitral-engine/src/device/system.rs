//! What the operating system says about memory.

/// Bytes that can still be allocated, and bytes in all; `None` where the system does not say.
pub(super) fn memory() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let field = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(1024 * line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?)
    };
    Some((field("MemAvailable:")? + field("SwapFree:").unwrap_or(0), field("MemTotal:")?))
}

#[cfg(test)]
mod tests {
    #[test]
    fn less_is_free_than_there_is() {
        if let Some((free, total)) = super::memory() {
            assert!(free > 0 && total > 0);
        }
        let device = crate::Device::cpu(1);
        device.check_memory(1).expect("a byte");
        if cfg!(target_os = "linux") {
            let error = device.check_memory(u64::MAX).expect_err("more than any machine has").to_string();
            assert!(error.contains("out of memory"), "{error}");
        }
    }
}
