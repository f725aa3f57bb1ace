//! Kernels: their sources, compiled when they are first needed and kept on disk, and how they are launched.

use std::collections::hash_map::{DefaultHasher, Entry};
use std::hash::{Hash, Hasher};

use super::api::driver::{Function, Grid, Module, Value};
use super::cache::{cache_folder, keep};
use super::heap::locked;
use super::memory::{Element, Memory};
pub(super) use super::sources::Source;
use super::sources::WORDS;
use super::{Cuda, Inner};
use crate::device::error::DeviceError;
use crate::precision::Precision;

/// Threads of a block where nothing else is asked for.
pub(super) const THREADS: usize = 256;

/// An argument of a kernel.
#[derive(Clone, Copy)]
pub(super) enum Arg<'a> {
    /// Values.
    Of(&'a Memory),
    /// Values from one on.
    From(&'a Memory, usize),
    /// Values that may not be there.
    Maybe(Option<&'a Memory>),
    /// A count that a kernel takes in 64 bits.
    Count(usize),
    /// One that it takes in 32.
    Int(usize),
    Word(u64),
    Float(f32),
    Structure(&'a [u64]),
}

/// Blocks of [`THREADS`] threads for so many pieces of work.
pub(super) fn spread(count: usize) -> Grid {
    Grid { blocks: [count.div_ceil(THREADS), 1, 1], threads: THREADS as u32, shared: 0 }
}

/// A block for each row.
pub(super) fn rows(count: usize) -> Grid {
    Grid { blocks: [count, 1, 1], threads: THREADS as u32, shared: 0 }
}

impl Inner {
    /// A kernel, compiled for this card.
    fn function(&self, source: Source, f16: bool, name: &str, shared: usize) -> Result<Function, DeviceError> {
        let mut kernels = locked(&self.kernels);
        let key = (source, f16);
        let known = kernels.functions.get(&key).and_then(|functions| functions.get(name)).copied();
        if let Some((function, allowed)) = known
            && shared <= allowed
        {
            return Ok(function);
        }
        let module = match kernels.modules.entry(key) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(self.module(source, f16)?),
        };
        let function = self.driver.function(module, name, shared).map_err(|failure| self.error(&failure))?;
        kernels.functions.entry(key).or_default().insert(name.to_owned(), (function, shared.max(48 << 10)));
        Ok(function)
    }

    /// Loads the kernels of a file: as they were compiled before, or compiled now.
    fn module(&self, source: Source, f16: bool) -> Result<Module, DeviceError> {
        let (name, text) = source.file();
        let text = format!("{WORDS}\n#line 1 \"{name}\"\n{text}");
        let mut options = vec![format!("--gpu-architecture=sm_{}", self.driver.capability), "--std=c++17".to_owned()];
        options.extend(f16.then(|| "-DHALF_IS_F16".to_owned()));
        let mut hasher = DefaultHasher::new();
        (&text, &options, &self.compiler.version, env!("CARGO_PKG_VERSION")).hash(&mut hasher);
        let kept = cache_folder().map(|folder| folder.join(format!("{name}-{:016x}.cubin", hasher.finish())));
        if let Some(code) = kept.as_ref().and_then(|path| std::fs::read(path).ok()) {
            // What does not load is compiled again.
            if let Ok(module) = self.driver.load(&code) {
                return Ok(module);
            }
        }
        let code = self.compiler.compile(name, &text, &options).map_err(|reason| self.unusable(reason))?;
        let module = self.driver.load(&code).map_err(|failure| self.error(&failure))?;
        if let Some(path) = kept {
            keep(&path, &code);
        }
        Ok(module)
    }
}

impl Cuda {
    /// Queues a kernel. Nothing is queued after a fault, or for no blocks.
    pub(super) fn launch(&self, source: Source, name: &str, grid: Grid, arguments: &[Arg<'_>]) {
        self.launch_in(self.precision == Precision::F16, source, name, grid, arguments);
    }

    /// Queues a kernel of a file compiled for IEEE half floats, or for bfloat16.
    pub(super) fn launch_in(&self, f16: bool, source: Source, name: &str, grid: Grid, arguments: &[Arg<'_>]) {
        if grid.blocks.contains(&0) || self.inner.rehearses() || self.inner.fault().is_some() {
            return;
        }
        let function = match self.inner.function(source, f16, name, grid.shared) {
            Ok(function) => function,
            Err(error) => return self.inner.fail(error),
        };
        let mut values = [Value::I32(0); 24];
        for (value, argument) in values.iter_mut().zip(arguments) {
            *value = match *argument {
                Arg::Of(memory) => Value::Address(memory.address(0)),
                Arg::From(memory, index) => Value::Address(memory.address(index)),
                Arg::Maybe(memory) => Value::Address(memory.map_or(0, |memory| memory.address(0))),
                Arg::Count(count) => Value::U64(count as u64),
                Arg::Int(number) => Value::I32(number as i32),
                Arg::Word(word) => Value::U64(word),
                Arg::Float(number) => Value::F32(number),
                Arg::Structure(words) => Value::Structure(words),
            };
        }
        self.inner.run(|driver| driver.launch(function, grid, &values[..arguments.len()]));
    }

    /// Queues the kernel of a kind of element.
    pub(super) fn launch_for(&self, element: Element, source: Source, name: &str, grid: Grid, arguments: &[Arg<'_>]) {
        let name = format!("{name}_{}", element.suffix());
        self.launch_in(element == Element::F16, source, &name, grid, arguments);
    }
}
