//! What can go wrong on a device.

use crate::precision::{self, Precision};

/// An error of a device. It sticks: results computed after it are not valid, and the next download returns it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceError {
    /// Memory ran out.
    OutOfMemory {
        /// Which device.
        device: String,
        /// Bytes that were asked for.
        asked: usize,
        /// Bytes in use at that time.
        used: usize,
    },
    /// The memory of a card ran out.
    OutOfDeviceMemory {
        /// Which device.
        device: String,
        /// Bytes that were asked for.
        asked: usize,
        /// Bytes that this program uses.
        used: usize,
        /// Bytes that are free on the card.
        free: usize,
    },
    /// There is no such device on this machine.
    Absent {
        /// Which device.
        device: String,
        /// What was looked for.
        reason: String,
    },
    /// A device that cannot be used: what it needs is missing or too old.
    Unusable {
        /// Which device.
        device: String,
        /// What is missing, and what to do.
        reason: String,
    },
    /// A device stopped working: what it computed since is lost.
    Failed {
        /// Which device.
        device: String,
        /// What it said.
        reason: String,
    },
    /// Cards of several processes that cannot exchange by themselves.
    Peers {
        /// Which device.
        device: String,
        /// What is missing, or what NCCL says.
        reason: String,
    },
    /// A copy of values that do not fill the tensor.
    Count {
        /// Numbers that the shape holds.
        expected: usize,
        /// Numbers that were given.
        found: usize,
    },
    /// A precision that the device does not multiply in.
    Precision {
        /// Which device.
        device: String,
        /// What was asked for.
        asked: Precision,
        /// What it has.
        has: Vec<Precision>,
    },
}

/// Bytes, in the unit that cards are sold by.
fn mebibytes(bytes: usize) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

impl std::fmt::Display for DeviceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeviceError::OutOfMemory { device, asked, used } => write!(
                f,
                "{device} is out of memory: {asked} bytes were asked for, {used} are in use; take a smaller batch or model"
            ),
            DeviceError::OutOfDeviceMemory { device, asked, used, free } => write!(
                f,
                "{device} is out of memory: {} were asked for, {} are free, {} are in use here; take a smaller batch, \
                 recompute blocks in training, or close what else uses the card",
                mebibytes(*asked),
                mebibytes(*free),
                mebibytes(*used)
            ),
            DeviceError::Absent { device, reason } => write!(f, "there is no {device}: {reason}"),
            DeviceError::Unusable { device, reason } => write!(f, "{device} cannot be used: {reason}"),
            DeviceError::Failed { device, reason } => write!(
                f,
                "{device} stopped working: {reason}; what it computed since the last results is lost; run again, and see \
                 the system's log if it comes back"
            ),
            DeviceError::Peers { device, reason } => {
                write!(f, "{device} does not exchange values with the cards of other processes: {reason}")
            }
            DeviceError::Count { expected, found } => {
                write!(f, "expected {expected} numbers for the tensor's shape, found {found}")
            }
            DeviceError::Precision { device, asked, has } => {
                write!(f, "{device} does not compute in `{asked}`, but in {}", precision::names(has))
            }
        }
    }
}

impl std::error::Error for DeviceError {}
