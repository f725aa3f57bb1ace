//! Values on the card, and parameters there.

use std::sync::{Arc, Mutex, OnceLock};

use super::api::driver::{Address, bytes_of, bytes_of_mut};
use super::heap::{Block, Heap, locked};
use crate::device::error::DeviceError;

/// What the values of a tensor are on the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::device) enum Element {
    /// 32-bit floats.
    F32,
    /// bfloat16.
    Bf16,
    /// IEEE half floats.
    F16,
}

impl Element {
    pub(super) fn bytes(self) -> usize {
        match self {
            Element::F32 => 4,
            Element::Bf16 | Element::F16 => 2,
        }
    }

    /// The suffix of kernels for it.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Element::F32 => "f",
            Element::Bf16 | Element::F16 => "h",
        }
    }
}

/// Values on the card. Clones share them; the block goes back to the pool when the last one is dropped.
#[derive(Clone)]
pub(crate) struct Memory {
    block: Arc<Block>,
    pub(super) element: Element,
    count: usize,
}

impl Memory {
    /// Fresh memory, whose values are anything.
    pub(super) fn new(heap: &Arc<Heap>, element: Element, count: usize) -> Self {
        Memory { block: heap.block(count * element.bytes()), element, count }
    }

    pub(crate) fn len(&self) -> usize {
        self.count
    }

    pub(super) fn bytes(&self) -> usize {
        self.count * self.element.bytes()
    }

    /// Bytes of the card that it takes: none, if there were none left.
    pub(super) fn held(&self) -> usize {
        self.block.held()
    }

    /// Where a value is.
    pub(super) fn address(&self, index: usize) -> Address {
        self.block.address + (index * self.element.bytes()) as Address
    }

    pub(super) fn is_half(&self) -> bool {
        self.element != Element::F32
    }

    /// Copies the values to the host as 32-bit floats. Waits for the card.
    pub(crate) fn download(&self) -> Result<Vec<f32>, DeviceError> {
        if self.element == Element::F32 {
            return self.read(0, self.count);
        }
        let mut bits = vec![0u16; self.count];
        self.block.heap.download(self.address(0), bytes_of_mut(&mut bits))?;
        Ok(match self.element {
            Element::F16 => bits.into_iter().map(|bits| half::f16::from_bits(bits).to_f32()).collect(),
            _ => bits.into_iter().map(|bits| half::bf16::from_bits(bits).to_f32()).collect(),
        })
    }

    /// A part of 32-bit values. Waits for the card.
    pub(in crate::device) fn read(&self, start: usize, count: usize) -> Result<Vec<f32>, DeviceError> {
        assert!(!self.is_half() && start + count <= self.count, "{count} values from {start} on, of {}", self.count);
        let mut values = vec![0.0f32; count];
        self.block.heap.download(self.address(start), bytes_of_mut(&mut values))?;
        Ok(values)
    }

    /// Writes a part of 32-bit values.
    pub(in crate::device) fn write(&self, start: usize, values: &[f32]) {
        assert!(!self.is_half() && start + values.len() <= self.count, "{} values from {start} on", values.len());
        self.block.heap.upload(self.address(start), bytes_of(values));
    }
}

/// A parameter that does not change.
pub(crate) struct CudaWeight {
    /// As it is multiplied, or 32-bit values.
    pub(super) memory: Memory,
    /// The same in 16 bits, made when it is first needed.
    half: OnceLock<Memory>,
}

impl CudaWeight {
    pub(super) fn new(memory: Memory) -> Self {
        CudaWeight { memory, half: OnceLock::new() }
    }

    pub(in crate::device) fn bytes(&self) -> usize {
        self.memory.bytes()
    }

    pub(in crate::device) fn download(&self) -> Result<Vec<f32>, DeviceError> {
        self.memory.download()
    }

    /// The same in 16 bits, as `narrow` makes it the first time.
    pub(super) fn half(&self, narrow: impl FnOnce(&Memory) -> Memory) -> &Memory {
        // Not while holding what a thread that records may wait for.
        let _entered = self.memory.block.heap.enter();
        self.half.get_or_init(|| narrow(&self.memory))
    }
}

/// A flat buffer of 32-bit values, with a copy in 16 bits where products need one.
pub(crate) struct CudaFlat {
    pub(super) memory: Memory,
    /// The copy, and whether it is of the values as they are now.
    copy: Mutex<(Option<Memory>, bool)>,
}

impl CudaFlat {
    pub(super) fn new(memory: Memory) -> Self {
        CudaFlat { memory, copy: Mutex::new((None, false)) }
    }

    pub(in crate::device) fn len(&self) -> usize {
        self.memory.len()
    }

    pub(in crate::device) fn read(&self, range: std::ops::Range<usize>) -> Result<Vec<f32>, DeviceError> {
        self.memory.read(range.start, range.len())
    }

    pub(in crate::device) fn write(&mut self, start: usize, values: &[f32]) {
        self.memory.write(start, values);
        self.changed();
    }

    /// The values changed: the copy is of others.
    pub(super) fn changed(&self) {
        locked(&self.copy).1 = false;
    }

    /// All values in 16 bits of a kind, as `narrow` writes them from one memory to another.
    pub(super) fn half(&self, element: Element, narrow: impl FnOnce(&Memory, &Memory)) -> Memory {
        let heap = &self.memory.block.heap;
        // Not while holding what a thread that records may wait for.
        let _entered = heap.enter();
        let mut copy = locked(&self.copy);
        let fits = copy.0.clone().filter(|memory| memory.element == element);
        let made = fits.is_none();
        let memory = fits.unwrap_or_else(|| Memory::new(heap, element, self.memory.len()));
        copy.0 = Some(memory.clone());
        if made || !copy.1 {
            narrow(&self.memory, &memory);
            copy.1 = true;
        }
        memory
    }

    /// The copy, to be written by whoever changes the values, if there is one that is up to date.
    pub(super) fn copy_to_update(&self) -> Option<Memory> {
        let copy = locked(&self.copy);
        copy.0.clone().filter(|_| copy.1)
    }
}
