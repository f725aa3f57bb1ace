//! The choice of a device by a word, as in `--device`.

use std::num::NonZero;
use std::path::Path;
use std::str::FromStr;

use vitral_engine::{Cpu, Device, DeviceError, Precision};

/// A device as somebody asks for it: `auto`, `cpu`, `cuda`, `cuda:1` or `reference`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceChoice {
    /// A GPU where there is one, else the CPU.
    #[default]
    Auto,
    /// The CPU.
    Cpu,
    /// Plain loops in double precision.
    Reference,
    /// A GPU, by its number.
    Cuda(usize),
}

/// A device that was asked for.
#[derive(Clone, Debug)]
pub struct Opened {
    /// The device.
    pub device: Device,
    /// What there is to say about the choice.
    pub note: Option<String>,
    /// Threads for what is done beside the device: reading, decoding, preprocessing.
    pub threads: NonZero<usize>,
}

/// A device that cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChoiceError {
    /// The GPU that was asked for.
    #[error("`--device cuda`: {0}")]
    Cuda(DeviceError),
    /// The instruction set in `VITRAL_ISA`.
    #[error("`VITRAL_ISA` is `{found}`; expected an instruction set that this CPU has: `{has}`")]
    InstructionSet {
        /// What was asked for.
        found: String,
        /// What the CPU has.
        has: String,
    },
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(DeviceChoice::Auto),
            "cpu" => Ok(DeviceChoice::Cpu),
            "reference" => Ok(DeviceChoice::Reference),
            "cuda" => Ok(DeviceChoice::Cuda(0)),
            _ => {
                let number = text.strip_prefix("cuda:").and_then(|number| number.parse().ok());
                number.map(DeviceChoice::Cuda).ok_or_else(|| "expected auto, cpu, cuda, cuda:N or reference".to_owned())
            }
        }
    }
}

impl DeviceChoice {
    /// Opens the device, with this many threads (0 is one for each core) and with the instruction set in `VITRAL_ISA`.
    /// NVIDIA's libraries are looked for in `cuda` first. A GPU computes in bfloat16 unless another precision is chosen.
    ///
    /// # Errors
    /// If a GPU was asked for by name and cannot be used, or the CPU does not have the instruction set.
    pub fn open(self, threads: usize, cuda: Option<&Path>) -> Result<Opened, ChoiceError> {
        let (cpu, unused) = cpu(threads)?;
        let threads = NonZero::new(cpu.threads()).unwrap_or(NonZero::<usize>::MIN);
        let gpu = |number| -> Result<Device, DeviceError> {
            // Training and inference are as accurate in bfloat16, and many times faster.
            Device::cuda(number, cuda)?.with_precision(Precision::Bf16)
        };
        let (device, note) = match self {
            DeviceChoice::Cpu => (cpu.into(), unused),
            DeviceChoice::Reference => (Device::reference(), None),
            DeviceChoice::Cuda(number) => (gpu(number).map_err(ChoiceError::Cuda)?, None),
            DeviceChoice::Auto => match gpu(0) {
                Ok(device) => {
                    let note = format!("using {}, in {}", device.described(), device.precision());
                    (device, Some(note))
                }
                Err(DeviceError::Absent { .. }) => (cpu.into(), unused),
                // There is a card, so somebody wants it used.
                Err(fault) => (cpu.into(), Some(format!("using the CPU: {fault}"))),
            },
        };
        Ok(Opened { device, note, threads })
    }
}

/// The CPU, with the instruction set in `VITRAL_ISA`, or with the best available and a line about what of it is not used.
fn cpu(threads: usize) -> Result<(Cpu, Option<String>), ChoiceError> {
    let Some(name) = std::env::var_os("VITRAL_ISA").filter(|name| !name.is_empty()) else {
        return Ok((Cpu::with_threads(threads), Cpu::unused_instruction_set()));
    };
    let name = name.to_string_lossy();
    let cpu = Cpu::with_instruction_set(threads, &name).ok_or_else(|| ChoiceError::InstructionSet {
        found: name.clone().into_owned(),
        has: Cpu::instruction_sets().join("`, `"),
    })?;
    Ok((cpu, None))
}
