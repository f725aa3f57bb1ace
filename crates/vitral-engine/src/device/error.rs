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

impl std::fmt::Display for DeviceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            DeviceError::OutOfMemory { device, asked, used } => write!(
                f,
                "{device} is out of memory: {asked} bytes were asked for, {used} are in use; take a smaller batch or model"
            ),
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
