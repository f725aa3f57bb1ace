//! Devices: where tensors are and operations run.

pub(crate) mod backend;
pub(crate) mod cpu;
pub(crate) mod cuda;
pub(crate) mod error;
pub(crate) mod reference;
pub(crate) mod storage;
mod system;

use std::ops::Range;
use std::path::Path;

use backend::Backend;
use cpu::Cpu;
use cpu::plan::{BatchExtent, Rest};
use cpu::weight::PreparedWeight;
use cuda::Cuda;
use cuda::peers::PeerLibrary;
use cuda::recording::Replays;
use error::DeviceError;
use reference::Reference;
use storage::{FlatBuffer, FlatStorage, Weight};

use crate::dtype::DType;
use crate::precision::Precision;
use crate::shape::Shape;
use crate::tensor::Tensor;

/// A device. Clones are cheap and refer to the same device.
///
/// Operations are queued on a device and may run later; reading values waits for them
/// ([`Tensor::to_vec`](crate::Tensor::to_vec)) and returns what went wrong.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Device {
    /// The processor.
    Cpu(Cpu),
    /// Plain loops in double precision: slow, and what every other device is compared with.
    Reference(Reference),
    /// An NVIDIA GPU.
    Cuda(Cuda),
}

impl Device {
    /// The processor with this many threads; 0 is one for each core.
    pub fn cpu(threads: usize) -> Self {
        Device::Cpu(Cpu::with_threads(threads))
    }

    /// The reference device.
    pub fn reference() -> Self {
        Device::Reference(Reference::new())
    }

    /// An NVIDIA GPU, the first being 0. Its libraries are looked for in `folder` first, then where the system looks
    /// and in the usual places.
    ///
    /// # Errors
    /// If there is no such card, no driver, one that is too old, no cuBLASLt or no NVRTC.
    pub fn cuda(ordinal: usize, folder: Option<&Path>) -> Result<Self, DeviceError> {
        Cuda::open(ordinal, folder).map(Device::Cuda)
    }

    /// Its name: `cpu`, `reference` or `cuda`.
    pub fn name(&self) -> &'static str {
        match self {
            Device::Cpu(_) => "cpu",
            Device::Reference(_) => "reference",
            Device::Cuda(_) => "cuda",
        }
    }

    /// Its name and what it is: `cuda:0 (NVIDIA H100 80GB HBM3)`.
    pub fn described(&self) -> String {
        match self {
            Device::Cpu(_) | Device::Reference(_) => self.name().to_owned(),
            Device::Cuda(cuda) => format!("{cuda:?}"),
        }
    }

    /// The same device, multiplying in this precision. Tensors made by other handles of the device can be used with it.
    ///
    /// # Errors
    /// If the device does not have it.
    pub fn with_precision(self, precision: Precision) -> Result<Self, DeviceError> {
        let has = self.precisions();
        if !has.contains(&precision) {
            return Err(DeviceError::Precision { device: self.name().to_owned(), asked: precision, has: has.to_vec() });
        }
        Ok(match self {
            Device::Cpu(cpu) => Device::Cpu(cpu.with_precision(precision)),
            Device::Reference(reference) => Device::Reference(reference.with_precision(precision)),
            Device::Cuda(cuda) => Device::Cuda(cuda.with_precision(precision)),
        })
    }

    /// The precision that this handle multiplies in.
    pub fn precision(&self) -> Precision {
        match self {
            Device::Cpu(cpu) => cpu.precision(),
            Device::Reference(reference) => reference.precision(),
            Device::Cuda(cuda) => cuda.precision(),
        }
    }

    /// The precisions that the device has.
    pub fn precisions(&self) -> &'static [Precision] {
        match self {
            Device::Cpu(_) | Device::Reference(_) => &[Precision::F32, Precision::Bf16, Precision::Int8],
            Device::Cuda(_) => Cuda::PRECISIONS,
        }
    }

    /// How many downloads there were: copies of values to the host, each of which waits for the device.
    pub fn downloads(&self) -> usize {
        match self {
            Device::Cpu(cpu) => cpu.downloads(),
            Device::Reference(reference) => reference.downloads(),
            Device::Cuda(cuda) => cuda.downloads(),
        }
    }

    /// The instruction set in use, on the CPU.
    pub fn instruction_set(&self) -> Option<&'static str> {
        match self {
            Device::Cpu(cpu) => Some(cpu.instruction_set()),
            Device::Reference(_) | Device::Cuda(_) => None,
        }
    }

    /// The most that the device multiplies and adds in its precision, in billions of operations a second (GFLOP/s in 32 bits),
    /// measured now; `None` where that means nothing.
    pub fn fma_peak(&self) -> Option<f64> {
        match self {
            Device::Cpu(cpu) => Some(cpu.fma_peak()),
            Device::Reference(_) | Device::Cuda(_) => None,
        }
    }

    /// The most bytes of a GPU's own memory that this program ever held; `None` for devices without memory of their own.
    pub fn peak_memory(&self) -> Option<usize> {
        match self {
            Device::Cpu(_) | Device::Reference(_) => None,
            Device::Cuda(cuda) => Some(cuda.peak_memory()),
        }
    }

    /// A rehearsal of what is done on this device: it takes memory as this one would ([`Device::peak_memory`]), but holds
    /// none, computes nothing, and all that is read from it is zero. Nothing for devices without memory of their own.
    ///
    /// # Errors
    /// If the device does not answer.
    pub fn rehearsal(&self) -> Option<Result<Device, DeviceError>> {
        match self {
            Device::Cpu(_) | Device::Reference(_) => None,
            Device::Cuda(cuda) => Some(cuda.rehearsal().map(Device::Cuda)),
        }
    }

    /// Bytes of the device's own memory that a run from the beginning would have, in place of what the device keeps for
    /// itself; `None` for devices without.
    ///
    /// # Errors
    /// If the device does not answer.
    pub fn room(&self) -> Option<Result<usize, DeviceError>> {
        match self {
            Device::Cpu(_) | Device::Reference(_) => None,
            Device::Cuda(cuda) => Some(cuda.room()),
        }
    }

    /// Checks that the device can hold this many bytes more, before anything is allocated that the operating system would
    /// end the process for. What is free is only known on Linux; elsewhere this always succeeds.
    ///
    /// # Errors
    /// If it cannot.
    pub fn check_memory(&self, bytes: u64) -> Result<(), DeviceError> {
        let count = |bytes: u64| usize::try_from(bytes).unwrap_or(usize::MAX);
        if let Device::Cuda(cuda) = self {
            let [free, total] = cuda.memory()?;
            let (device, used) = (format!("{cuda:?}"), total.saturating_sub(free));
            return match bytes <= free as u64 {
                true => Ok(()),
                false => Err(DeviceError::OutOfDeviceMemory { device, asked: count(bytes), used, free }),
            };
        }
        let Some((free, total)) = system::memory() else { return Ok(()) };
        if bytes <= free {
            return Ok(());
        }
        let (asked, used) = (count(bytes), count(total.saturating_sub(free)));
        Err(DeviceError::OutOfMemory { device: self.name().to_owned(), asked, used })
    }

    /// A tensor with a copy of these values.
    ///
    /// # Errors
    /// If the number of values is not that of the shape, or the device has no memory for them.
    pub fn upload(&self, shape: impl Into<Shape>, values: &[f32]) -> Result<Tensor, DeviceError> {
        let shape = shape.into();
        if shape.count() != values.len() {
            return Err(DeviceError::Count { expected: shape.count(), found: values.len() });
        }
        match self {
            Device::Cpu(cpu) => Ok(cpu.tensor(shape, |out| out.copy_from_slice(values))),
            Device::Reference(reference) => reference.upload(shape, values),
            Device::Cuda(cuda) => cuda.upload(shape, values),
        }
    }

    /// As [`Device::upload`], of values that a pass makes by itself: an error sticks, and the next download returns it.
    ///
    /// # Panics
    /// If the number of values is not that of the shape.
    pub fn constant(&self, shape: impl Into<Shape>, values: &[f32]) -> Tensor {
        let shape = shape.into();
        assert_eq!(shape.count(), values.len(), "{shape:?} does not hold {} numbers", values.len());
        match self {
            Device::Cpu(cpu) => cpu.tensor(shape, |out| out.copy_from_slice(values)),
            Device::Reference(reference) => reference.constant(shape, values),
            Device::Cuda(cuda) => cuda.constant(shape, values),
        }
    }

    /// A tensor of zeros.
    pub fn zeros(&self, shape: impl Into<Shape>) -> Tensor {
        self.full(shape, 0.0)
    }

    /// A tensor filled with one value.
    pub fn full(&self, shape: impl Into<Shape>, value: f32) -> Tensor {
        self.backend().full(shape.into(), value)
    }

    /// A flat buffer of zeros, to be written in place.
    pub fn flat_zeros(&self, length: usize) -> FlatBuffer {
        FlatBuffer(match self {
            Device::Cpu(cpu) => cpu.flat_zeros(length),
            Device::Reference(reference) => FlatStorage::Reference(reference.zeros(length)),
            Device::Cuda(cuda) => FlatStorage::Cuda(cuda.flat_zeros(length)),
        })
    }

    /// A copy of a flat buffer.
    ///
    /// # Errors
    /// Whatever went wrong on the device.
    pub fn flat_copy(&self, buffer: &FlatBuffer) -> Result<FlatBuffer, DeviceError> {
        let mut copy = self.flat_zeros(buffer.len());
        copy.write(0, &buffer.to_vec()?);
        Ok(copy)
    }

    /// A parameter that does not change, in the layout that products read fastest: a matrix `[out, in]` in a type,
    /// anything else in 32 bits.
    pub(crate) fn prepare(&self, values: &[f32], matrix: Option<[usize; 2]>, dtype: DType) -> Weight {
        match (self, matrix) {
            (Device::Cpu(cpu), Some(extents)) => Weight::Cpu(cpu.prepare_matrix(values, extents, dtype)),
            (Device::Cpu(_), None) => Weight::Cpu(PreparedWeight::plain(values)),
            (Device::Reference(reference), matrix) => {
                let dtype = if matrix.is_some() { dtype } else { DType::F32 };
                Weight::Reference(reference.prepare(values, matrix, dtype), dtype)
            }
            (Device::Cuda(cuda), matrix) => Weight::Cuda(cuda.prepare(values, matrix.is_some(), dtype)),
        }
    }

    /// Runs a whole pass where the device likes it best: on the CPU's threads, so that it does not change threads at
    /// every operation.
    pub fn scope<R: Send>(&self, body: impl FnOnce() -> R + Send) -> R {
        match self {
            Device::Cpu(cpu) => cpu.scope(body),
            Device::Reference(_) | Device::Cuda(_) => body(),
        }
    }

    /// How a GPU computes the products of this run, as text for [`Device::use_choices`]; `None` where there is no choice.
    pub fn choices(&self) -> Option<String> {
        match self {
            Device::Cpu(_) | Device::Reference(_) => None,
            Device::Cuda(cuda) => Some(cuda.choices()),
        }
    }

    /// Computes products as another run on the same kind of card did, so that bits are the same. What this card or its
    /// library does not have is chosen anew; other devices have nothing to choose.
    pub fn use_choices(&self, choices: &str) {
        if let Device::Cuda(cuda) = self {
            cuda.use_choices(choices);
        }
    }

    /// What lets cards of several processes exchange values by themselves, NVIDIA's NCCL: in the file or folder `named`, or
    /// where CUDA's libraries are. Nothing for devices that are no cards.
    ///
    /// # Errors
    /// If it is not found.
    pub fn peer_library(&self, named: Option<&Path>) -> Option<Result<PeerLibrary, DeviceError>> {
        match self {
            Device::Cpu(_) | Device::Reference(_) => None,
            Device::Cuda(cuda) => Some(PeerLibrary::open(cuda, named)),
        }
    }

    /// Whether something has gone wrong so far. Does not wait.
    ///
    /// # Errors
    /// What has.
    pub fn check(&self) -> Result<(), DeviceError> {
        match self {
            Device::Cpu(_) | Device::Reference(_) => Ok(()),
            Device::Cuda(cuda) => cuda.check(),
        }
    }

    /// Waits until everything that was queued is done.
    ///
    /// # Errors
    /// Whatever went wrong on the device.
    pub fn wait(&self) -> Result<(), DeviceError> {
        match self {
            Device::Cpu(_) => Ok(()),
            Device::Reference(reference) => reference.wait(),
            Device::Cuda(cuda) => cuda.wait(),
        }
    }

    /// Gives unused memory back to the system.
    pub fn trim(&self) {
        match self {
            Device::Cpu(cpu) => cpu.trim(),
            Device::Reference(_) => {}
            Device::Cuda(cuda) => cuda.trim(),
        }
    }

    /// Runs a pass `input` to tensors, which must be the same operations whenever the shape of the input is: a GPU records
    /// small ones when they come for the second time, and replays the recording from then on. Other devices just run it.
    ///
    /// # Errors
    /// Whatever the pass gives.
    pub fn replayed<E>(
        &self,
        replays: &Replays,
        input: &Tensor,
        pass: impl Fn(&Tensor) -> Result<Vec<Tensor>, E>,
    ) -> Result<Vec<Tensor>, E> {
        match self {
            Device::Cuda(cuda) => cuda.replayed(replays, input, pass),
            _ => pass(input),
        }
    }

    /// What computes.
    pub(crate) fn backend(&self) -> &dyn Backend {
        match self {
            Device::Cpu(cpu) => cpu,
            Device::Reference(reference) => reference,
            Device::Cuda(cuda) => cuda,
        }
    }

    /// Groups of images, the first of a batch, that the device takes through a model one group at a time or side by
    /// side; empty if it takes a batch whole.
    pub(crate) fn inference_groups(&self, images: usize, rows: usize) -> Vec<Range<usize>> {
        match self {
            Device::Cpu(cpu) => cpu.inference_groups(images, rows),
            Device::Reference(_) | Device::Cuda(_) => Vec::new(),
        }
    }

    /// Runs `task` for every group and returns the results in their order.
    pub(crate) fn each_group<T: Send>(
        &self,
        groups: &[Range<usize>],
        task: impl Fn(&Device, Range<usize>) -> T + Sync + Send,
    ) -> Vec<T> {
        match self {
            Device::Cpu(cpu) => cpu.each_group(groups, |cpu, range| task(&Device::Cpu(cpu.clone()), range)),
            Device::Reference(_) | Device::Cuda(_) => groups.iter().map(|range| task(self, range.clone())).collect(),
        }
    }

    /// How many of so many groups run at the same time.
    pub(crate) fn side_by_side(&self, groups: usize) -> u32 {
        match self {
            Device::Cpu(cpu) => cpu.threads().min(groups).max(1) as u32,
            Device::Reference(_) | Device::Cuda(_) => 1,
        }
    }

    /// Whether the leaves of a batch have sums of gradients of their own, so that the total does not depend on who
    /// computes which. A GPU wants its batch in one piece.
    pub(crate) fn keeps_leaves(&self) -> bool {
        match self {
            Device::Cpu(_) | Device::Reference(_) => true,
            Device::Cuda(_) => false,
        }
    }

    /// Takes the leaves of a batch through `task(device, images, lane, rest)` as the device likes best; each leaf adds to its
    /// own lane, if there is more than one. Where leaves are computed here, the last part gets the rest of the lanes.
    pub(crate) fn each_part<L: Send, T: Send, E: Send>(
        &self,
        batch: BatchExtent,
        leaves: &[Range<usize>],
        parameters: usize,
        lanes: &mut [L],
        task: impl Fn(&Device, Range<usize>, &mut L, Option<Rest<'_, L>>) -> Result<T, E> + Sync + Send,
    ) -> Result<Vec<T>, E> {
        match self {
            Device::Cpu(cpu) => {
                let task = |cpu: &Cpu, images, lane: &mut L, rest: Option<Rest<'_, L>>| {
                    task(&Device::Cpu(cpu.clone()), images, lane, rest)
                };
                cpu.each_leaf(batch, leaves, parameters, lanes, task)
            }
            Device::Reference(_) => {
                let filled = leaves.iter().zip(lanes).filter(|(leaf, _)| !leaf.is_empty());
                filled.map(|(leaf, lane)| task(self, leaf.clone(), lane, None)).collect()
            }
            Device::Cuda(_) => {
                let images = leaves.first().map_or(0, |leaf| leaf.start)..leaves.last().map_or(0, |leaf| leaf.end);
                if images.is_empty() { Ok(Vec::new()) } else { Ok(vec![task(self, images, &mut lanes[0], None)?]) }
            }
        }
    }
}

impl From<Cpu> for Device {
    fn from(cpu: Cpu) -> Self {
        Device::Cpu(cpu)
    }
}

impl From<Cuda> for Device {
    fn from(cuda: Cuda) -> Self {
        Device::Cuda(cuda)
    }
}

impl From<Reference> for Device {
    fn from(reference: Reference) -> Self {
        Device::Reference(reference)
    }
}
