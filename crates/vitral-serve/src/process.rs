//! Prometheus' usual metrics of a process, read from Linux's `/proc`.
//!
//! The collector that comes with the metrics library brings a parser of everything in `/proc`, which takes half a minute to
//! build; these are seven numbers.

use std::fs;

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, Opts};

/// `sysconf(_SC_CLK_TCK)`, which Linux has kept at 100 on all processors for programs.
const TICKS: f64 = 100.0;

/// The numbers, in the order of [`Process::read`].
const GAUGES: [(&str, &str); 7] = [
    ("process_cpu_seconds_total", "Total user and system CPU time spent in seconds."),
    ("process_threads", "Number of threads in the process."),
    ("process_virtual_memory_bytes", "Virtual memory size in bytes."),
    ("process_resident_memory_bytes", "Resident memory size in bytes."),
    ("process_start_time_seconds", "Start time of the process since unix epoch in seconds."),
    ("process_open_fds", "Number of open file descriptors."),
    ("process_max_fds", "Maximum number of open file descriptors."),
];

/// The collector.
pub(crate) struct Process {
    gauges: Vec<Gauge>,
}

impl Process {
    pub(crate) fn new() -> prometheus::Result<Self> {
        let gauges = GAUGES.iter().map(|&(name, help)| Gauge::with_opts(Opts::new(name, help)));
        Ok(Process { gauges: gauges.collect::<prometheus::Result<_>>()? })
    }

    /// What the system says now; a number that cannot be read is absent.
    fn read() -> [Option<f64>; 7] {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let (stat, status, limits) = (text("/proc/self/stat"), text("/proc/self/status"), text("/proc/self/limits"));
        // The program's name, in parentheses, may hold anything; numbers follow it from the third field on.
        let fields: Vec<&str> =
            stat.rsplit_once(')').map(|(_, rest)| rest.split_whitespace().collect()).unwrap_or_default();
        let field = |number: usize| fields.get(number - 3).and_then(|field| field.parse::<f64>().ok());
        let resident = after(&status, "VmRSS:").map(|kibibytes| kibibytes * 1024.0);
        let booted = || after(&text("/proc/stat"), "btime");
        [
            field(14).zip(field(15)).map(|(user, system)| (user + system) / TICKS),
            field(20),
            field(23),
            resident,
            field(22).zip(booted()).map(|(ticks, booted)| booted + ticks / TICKS),
            fs::read_dir("/proc/self/fd").ok().map(|open| open.count() as f64),
            after(&limits, "Max open files"),
        ]
    }
}

/// The number after a word at the beginning of a line.
fn after(text: &str, word: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(word))?;
    rest.split_whitespace().next()?.parse().ok()
}

impl Collector for Process {
    fn desc(&self) -> Vec<&Desc> {
        self.gauges.iter().flat_map(Collector::desc).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let read = self.gauges.iter().zip(Self::read());
        let known = read.filter_map(|(gauge, value)| value.map(|value| (gauge, value)));
        known
            .flat_map(|(gauge, value)| {
                gauge.set(value);
                gauge.collect()
            })
            .collect()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_there_and_plausible() {
        let read = Process::read().map(|value| value.expect("readable"));
        let [cpu, threads, virtual_size, resident, started, open, most] = read;
        assert!(cpu >= 0.0 && threads >= 1.0 && open >= 3.0 && most >= open, "{read:?}");
        assert!(resident > 1e5 && resident <= virtual_size, "{read:?}");
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("after 1970");
        let age = now.as_secs_f64() - started;
        assert!((-2.0..86_400.0).contains(&age), "{age} s");
    }
}
