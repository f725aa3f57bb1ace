//! The driver: one card, one stream, memory, modules, launches, graphs.

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_void};
use std::path::Path;
use std::ptr::{null, null_mut};

use super::library::open;

type Handle = *mut c_void;
/// An address in the card's memory.
pub(in crate::device::cuda) type Address = u64;

functions! {
    /// The functions of the driver that are used.
    Table {
        fn cuInit(u32);
        fn cuDriverGetVersion(*mut i32);
        fn cuDeviceGetCount(*mut i32);
        fn cuDeviceGet(*mut i32, i32);
        fn cuDeviceGetName(*mut c_char, i32, i32);
        fn cuDeviceGetAttribute(*mut i32, i32, i32);
        fn cuDevicePrimaryCtxRetain(*mut Handle, i32);
        fn cuCtxSetCurrent(Handle);
        fn cuMemGetInfo_v2(*mut usize, *mut usize);
        fn cuMemAlloc_v2(*mut Address, usize);
        fn cuMemFree_v2(Address);
        fn cuMemHostAlloc(*mut Handle, usize, u32);
        fn cuMemFreeHost(Handle);
        fn cuMemcpyHtoDAsync_v2(Address, *const c_void, usize, Handle);
        fn cuMemcpyDtoHAsync_v2(*mut c_void, Address, usize, Handle);
        fn cuMemcpyDtoDAsync_v2(Address, Address, usize, Handle);
        fn cuMemsetD8Async(Address, u8, usize, Handle);
        fn cuStreamCreate(*mut Handle, u32);
        fn cuStreamSynchronize(Handle);
        fn cuStreamQuery(Handle);
        fn cuStreamWaitEvent(Handle, Handle, u32);
        fn cuStreamBeginCapture_v2(Handle, i32);
        fn cuStreamEndCapture(Handle, *mut Handle);
        fn cuGraphInstantiateWithFlags(*mut Handle, Handle, u64);
        fn cuGraphLaunch(Handle, Handle);
        fn cuGraphDestroy(Handle);
        fn cuGraphExecDestroy(Handle);
        fn cuModuleLoadData(*mut Handle, *const c_void);
        fn cuModuleGetFunction(*mut Handle, Handle, *const c_char);
        fn cuFuncSetAttribute(Handle, i32, i32);
        fn cuLaunchKernel(Handle, u32, u32, u32, u32, u32, u32, u32, Handle, *mut *mut c_void, *mut *mut c_void);
        fn cuGetErrorName(i32, *mut *const c_char);
        fn cuGetErrorString(i32, *mut *const c_char);
        fn cuEventCreate(*mut Handle, u32);
        fn cuEventRecord(Handle, Handle);
        fn cuEventSynchronize(Handle);
        fn cuEventElapsedTime(*mut f32, Handle, Handle);
        fn cuEventDestroy_v2(Handle);
    }
}

const OUT_OF_MEMORY: i32 = 2;
const NO_DEVICE: i32 = 100;
const NOT_READY: i32 = 600;
const CAPABILITY: [i32; 2] = [75, 76];
const SHARED_MEMORY_LIMIT: i32 = 97;
const MAX_DYNAMIC_SHARED_MEMORY: i32 = 8;
const CAPTURE_RELAXED: i32 = 2;
const NON_BLOCKING: u32 = 1;
const WITHOUT_TIMING: u32 = 2;
/// The oldest driver that the kernels' instructions and the libraries work with: CUDA 12.0.
const OLDEST: i32 = 12_000;

/// What the driver answered.
#[derive(Clone, Debug)]
pub(in crate::device::cuda) struct Failure {
    pub(in crate::device::cuda) text: String,
    pub(in crate::device::cuda) out_of_memory: bool,
}

/// Why a card is not opened.
pub(in crate::device::cuda) enum Refused {
    /// There is no driver, or no such card.
    Absent(String),
    Unusable(String),
}

impl From<String> for Refused {
    fn from(reason: String) -> Self {
        Refused::Unusable(reason)
    }
}

/// A card with its context and its one stream.
pub(in crate::device::cuda) struct Driver {
    table: Table,
    context: Handle,
    stream: Handle,
    /// Copies from the host go beside the work.
    copies: Handle,
    /// CUDA's version that the driver is made for, as in 13000.
    pub(in crate::device::cuda) version: i32,
    /// The card's name.
    pub(in crate::device::cuda) name: String,
    /// Compute capability, as in 90.
    pub(in crate::device::cuda) capability: i32,
    /// The most shared memory that a block may have, in bytes.
    pub(in crate::device::cuda) shared_memory: usize,
}

// SAFETY: handles of the driver may be used from any thread that makes the context current, which every call here does.
unsafe impl Send for Driver {}
// SAFETY: as above; the driver's functions lock what they share.
unsafe impl Sync for Driver {}

/// A function on the card.
#[derive(Clone, Copy)]
pub(in crate::device::cuda) struct Function(Handle);
// SAFETY: see `Driver`.
unsafe impl Send for Function {}
// SAFETY: see `Driver`.
unsafe impl Sync for Function {}

/// Compiled kernels on the card. They stay as long as the program runs.
pub(in crate::device::cuda) struct Module(Handle);
// SAFETY: see `Driver`.
unsafe impl Send for Module {}

/// Recorded work that can be run again.
pub(in crate::device::cuda) struct Recorded(Handle);
// SAFETY: see `Driver`.
unsafe impl Send for Recorded {}
// SAFETY: see `Driver`.
unsafe impl Sync for Recorded {}

/// How a kernel is launched.
#[derive(Clone, Copy, Debug)]
pub(in crate::device::cuda) struct Grid {
    pub(in crate::device::cuda) blocks: [usize; 3],
    pub(in crate::device::cuda) threads: u32,
    /// Bytes of dynamic shared memory.
    pub(in crate::device::cuda) shared: usize,
}

/// One argument of a kernel.
#[derive(Clone, Copy)]
pub(in crate::device::cuda) enum Value<'a> {
    Address(Address),
    I32(i32),
    U64(u64),
    F32(f32),
    /// A structure, as C lays it out.
    Structure(&'a [u64]),
}

thread_local! {
    /// The context that this thread uses.
    static CURRENT: Cell<usize> = const { Cell::new(0) };
}

impl Driver {
    /// Opens a card. `folder` is where the libraries are looked for first.
    ///
    /// # Errors
    /// What is missing, in words.
    pub(in crate::device::cuda) fn open(ordinal: usize, folder: Option<&Path>) -> Result<Self, Refused> {
        let names = ["libcuda.so.1", "libcuda.so", "nvcuda.dll"].map(str::to_owned);
        let found = open(&names, folder).map_err(|why| {
            let reason = format!("no driver of NVIDIA's was found ({why}); install it, or use `--device cpu`");
            Refused::Absent(reason)
        })?;
        let table = Table::of(found.library).map_err(|why| format!("`{}` is not a driver: {why}", found.name))?;
        // SAFETY: every pointer is to a value that lives through the call, and handles come from the driver.
        unsafe {
            let fail = |what: &str, code: i32| format!("{what}: {}", table.text(code));
            let check = |what: &str, code: i32| if code == 0 { Ok(()) } else { Err(fail(what, code)) };
            match (table.cuInit)(0) {
                NO_DEVICE => return Err(Refused::Absent("the driver finds no card".to_owned())),
                code => check("the driver does not start", code)?,
            }
            let mut version = 0;
            check("the driver has no version", (table.cuDriverGetVersion)(&mut version))?;
            if version < OLDEST {
                let (major, minor) = (version / 1000, version % 1000 / 10);
                let reason =
                    format!("the driver is for CUDA {major}.{minor}, expected 12.0 or newer: install a newer driver");
                return Err(reason.into());
            }
            let mut count = 0;
            check("the driver does not count its cards", (table.cuDeviceGetCount)(&mut count))?;
            if ordinal >= count as usize {
                return Err(Refused::Absent(format!(
                    "the driver has {count} card{}, counted from 0",
                    if count == 1 { "" } else { "s" }
                )));
            }
            let (mut device, mut context) = (0, null_mut());
            let [mut stream, mut copies] = [null_mut(); 2];
            check("the card does not open", (table.cuDeviceGet)(&mut device, ordinal as i32))?;
            let mut name = [0 as c_char; 256];
            check("the card has no name", (table.cuDeviceGetName)(name.as_mut_ptr(), 256, device))?;
            let attribute = |which: i32| {
                let mut value = 0;
                check("the card does not describe itself", (table.cuDeviceGetAttribute)(&mut value, which, device))?;
                Ok::<_, String>(value)
            };
            let capability = 10 * attribute(CAPABILITY[0])? + attribute(CAPABILITY[1])?;
            let name = CStr::from_ptr(name.as_ptr()).to_string_lossy().into_owned();
            if capability < 80 {
                let (major, minor) = (capability / 10, capability % 10);
                return Err(
                    format!("{name} has compute capability {major}.{minor}, expected 8.0 (Ampere) or newer").into()
                );
            }
            let shared_memory = attribute(SHARED_MEMORY_LIMIT)? as usize;
            check("the card cannot be used", (table.cuDevicePrimaryCtxRetain)(&mut context, device))?;
            check("the card cannot be used", (table.cuCtxSetCurrent)(context))?;
            CURRENT.set(context as usize);
            check("the card has no stream", (table.cuStreamCreate)(&mut stream, NON_BLOCKING))?;
            check("the card has no second stream", (table.cuStreamCreate)(&mut copies, NON_BLOCKING))?;
            Ok(Driver { table, context, stream, copies, version, name, capability, shared_memory })
        }
    }

    /// Makes the context current on this thread.
    pub(super) fn enter(&self) -> Result<(), Failure> {
        if CURRENT.get() != self.context as usize {
            // SAFETY: the context is alive as long as the driver is.
            let code = unsafe { (self.table.cuCtxSetCurrent)(self.context) };
            if code != 0 {
                return Err(self.failure("making the card current", code));
            }
            CURRENT.set(self.context as usize);
        }
        Ok(())
    }

    /// Turns an answer of the driver into a result.
    fn call(&self, what: &str, call: impl FnOnce(&Table) -> i32) -> Result<(), Failure> {
        self.enter()?;
        match call(&self.table) {
            0 => Ok(()),
            code => Err(self.failure(what, code)),
        }
    }

    fn failure(&self, what: &str, code: i32) -> Failure {
        Failure { text: format!("{what}: {}", self.table.text(code)), out_of_memory: code == OUT_OF_MEMORY }
    }

    /// The stream, as cuBLASLt takes it.
    pub(super) fn stream(&self) -> Handle {
        self.stream
    }

    /// Bytes that are free on the card, and all there are.
    pub(in crate::device::cuda) fn memory(&self) -> Result<[usize; 2], Failure> {
        let [mut free, mut total] = [0; 2];
        // SAFETY: both live through the call.
        self.call("asking for free memory", |table| unsafe { (table.cuMemGetInfo_v2)(&mut free, &mut total) })?;
        Ok([free, total])
    }

    pub(in crate::device::cuda) fn allocate(&self, bytes: usize) -> Result<Address, Failure> {
        let mut address = 0;
        // SAFETY: the address lives through the call.
        self.call("allocating", |table| unsafe { (table.cuMemAlloc_v2)(&mut address, bytes) })?;
        Ok(address)
    }

    /// Gives memory back. The driver waits for work that may still use it.
    pub(in crate::device::cuda) fn free(&self, address: Address) -> Result<(), Failure> {
        // SAFETY: the address is of an allocation that its owner gives up.
        self.call("giving memory back", |table| unsafe { (table.cuMemFree_v2)(address) })
    }

    /// Copies to the card, in the order of the stream. Returns when the source may be changed.
    pub(in crate::device::cuda) fn upload(&self, to: Address, from: &[u8]) -> Result<(), Failure> {
        // SAFETY: memory of the host that is not pinned is copied aside before the driver returns.
        self.call("copying to the card", |table| unsafe {
            (table.cuMemcpyHtoDAsync_v2)(to, from.as_ptr().cast(), from.len(), self.stream)
        })
    }

    /// Copies from pinned memory beside the work of the stream, to memory of the card that is kept for it, and from there to
    /// where it is wanted, in the order of the stream.
    pub(in crate::device::cuda) fn upload_beside(&self, to: Address, slot: &Slot, bytes: usize) -> Result<(), Failure> {
        assert!(bytes <= slot.pinned.bytes, "{bytes} bytes of {}", slot.pinned.bytes);
        // SAFETY: whoever writes to the slot waits for `copied` first, and the slot's memory on the card is not written
        // before the stream has passed `used`.
        self.call("copying to the card", |table| unsafe {
            let steps = [
                (table.cuStreamWaitEvent)(self.copies, slot.used.handle, 0),
                (table.cuMemcpyHtoDAsync_v2)(slot.address, slot.pinned.pointer, bytes, self.copies),
                (table.cuEventRecord)(slot.copied.handle, self.copies),
                (table.cuStreamWaitEvent)(self.stream, slot.copied.handle, 0),
                (table.cuMemcpyDtoDAsync_v2)(to, slot.address, bytes, self.stream),
                (table.cuEventRecord)(slot.used.handle, self.stream),
            ];
            steps.into_iter().find(|&code| code != 0).unwrap_or(0)
        })
    }

    /// Waits until a slot's pinned memory may be written.
    pub(in crate::device::cuda) fn wait_for(&self, slot: &Slot) -> Result<(), Failure> {
        // SAFETY: the event is alive.
        self.call("waiting for a copy", |table| unsafe { (table.cuEventSynchronize)(slot.copied.handle) })
    }

    /// Room for uploads of so many bytes, with as much memory of the card.
    pub(in crate::device::cuda) fn slot(&self, address: Address, bytes: usize) -> Result<Slot, Failure> {
        let event = || {
            let mut event = null_mut();
            // SAFETY: the handle lives through the call.
            self.call("making an event", |table| unsafe { (table.cuEventCreate)(&mut event, WITHOUT_TIMING) })?;
            Ok(Event { handle: event, destroy: self.table.cuEventDestroy_v2 })
        };
        Ok(Slot { pinned: self.pin(bytes)?, address, copied: event()?, used: event()? })
    }

    /// Copies from the card and waits for it.
    pub(in crate::device::cuda) fn download(&self, from: Address, to: &mut [u8]) -> Result<(), Failure> {
        // SAFETY: the slice lives until the stream is done, for which this waits.
        self.call("copying from the card", |table| unsafe {
            (table.cuMemcpyDtoHAsync_v2)(to.as_mut_ptr().cast(), from, to.len(), self.stream)
        })?;
        self.wait()
    }

    pub(in crate::device::cuda) fn copy(&self, to: Address, from: Address, bytes: usize) -> Result<(), Failure> {
        // SAFETY: both ranges are of allocations that their owners keep alive in the stream's order.
        self.call("copying on the card", |table| unsafe { (table.cuMemcpyDtoDAsync_v2)(to, from, bytes, self.stream) })
    }

    pub(in crate::device::cuda) fn clear(&self, to: Address, bytes: usize) -> Result<(), Failure> {
        self.fill(to, 0, bytes)
    }

    /// Sets every byte.
    pub(in crate::device::cuda) fn fill(&self, to: Address, byte: u8, bytes: usize) -> Result<(), Failure> {
        // SAFETY: as for copies.
        self.call("filling memory", |table| unsafe { (table.cuMemsetD8Async)(to, byte, bytes, self.stream) })
    }

    /// Waits for everything that was queued.
    pub(in crate::device::cuda) fn wait(&self) -> Result<(), Failure> {
        // SAFETY: the stream is alive.
        self.call("waiting for the card", |table| unsafe { (table.cuStreamSynchronize)(self.stream) })
    }

    /// Whether everything that was queued is done.
    pub(in crate::device::cuda) fn is_done(&self) -> Result<bool, Failure> {
        self.enter()?;
        // SAFETY: the stream is alive.
        match unsafe { (self.table.cuStreamQuery)(self.stream) } {
            0 => Ok(true),
            NOT_READY => Ok(false),
            code => Err(self.failure("asking whether the card is done", code)),
        }
    }

    /// Loads compiled kernels.
    pub(in crate::device::cuda) fn load(&self, code: &[u8]) -> Result<Module, Failure> {
        let mut module = null_mut();
        // PTX is text that ends in a zero.
        let mut image = code.to_vec();
        image.push(0);
        // SAFETY: the image lives through the call, which copies it.
        self.call("loading kernels", |table| unsafe { (table.cuModuleLoadData)(&mut module, image.as_ptr().cast()) })?;
        Ok(Module(module))
    }

    /// Finds a kernel. `shared` is the most dynamic shared memory that it will be given.
    pub(in crate::device::cuda) fn function(
        &self,
        module: &Module,
        name: &str,
        shared: usize,
    ) -> Result<Function, Failure> {
        let mut function = null_mut();
        let text = CString::new(name).expect("a kernel's name has no zero");
        // SAFETY: the name lives through the call, and modules are never unloaded.
        self.call(&format!("finding the kernel `{name}`"), |table| unsafe {
            (table.cuModuleGetFunction)(&mut function, module.0, text.as_ptr())
        })?;
        if shared > 48 << 10 {
            // SAFETY: the function is alive.
            self.call(&format!("giving `{name}` {shared} bytes of shared memory"), |table| unsafe {
                (table.cuFuncSetAttribute)(function, MAX_DYNAMIC_SHARED_MEMORY, shared as i32)
            })?;
        }
        Ok(Function(function))
    }

    /// Queues a kernel.
    pub(in crate::device::cuda) fn launch(
        &self,
        function: Function,
        grid: Grid,
        values: &[Value<'_>],
    ) -> Result<(), Failure> {
        let mut words = [0u64; 32];
        let mut pointers = [null_mut::<c_void>(); 32];
        assert!(values.len() <= 32, "{} arguments", values.len());
        for (i, value) in values.iter().enumerate() {
            match *value {
                Value::Address(value) | Value::U64(value) => words[i] = value,
                Value::I32(value) => words[i] = u64::from(value as u32),
                Value::F32(value) => words[i] = u64::from(value.to_bits()),
                Value::Structure(value) => {
                    pointers[i] = value.as_ptr().cast_mut().cast();
                    continue;
                }
            }
            pointers[i] = (&raw mut words[i]).cast();
        }
        if grid.blocks[0] > i32::MAX as usize || grid.blocks[1..].iter().any(|&blocks| blocks > 0xffff) {
            let text = format!("launching a kernel in {:?} blocks: more than a card takes", grid.blocks);
            return Err(Failure { text, out_of_memory: false });
        }
        let [x, y, z] = grid.blocks.map(|blocks| blocks as u32);
        // SAFETY: the driver copies the arguments before it returns; that they are those which the kernel declares is up to
        // the device's operations, which the tests under the emulator's checks cover one by one.
        self.call("launching a kernel", |table| unsafe {
            (table.cuLaunchKernel)(
                function.0,
                x,
                y,
                z,
                grid.threads,
                1,
                1,
                grid.shared as u32,
                self.stream,
                pointers.as_mut_ptr(),
                null_mut(),
            )
        })
    }

    /// Records what is queued from now on instead of running it.
    pub(in crate::device::cuda) fn begin_recording(&self) -> Result<(), Failure> {
        // SAFETY: the stream is alive.
        self.call("recording", |table| unsafe { (table.cuStreamBeginCapture_v2)(self.stream, CAPTURE_RELAXED) })
    }

    /// Ends recording.
    pub(in crate::device::cuda) fn end_recording(&self) -> Result<Recorded, Failure> {
        let (mut graph, mut ready) = (null_mut(), null_mut());
        // SAFETY: handles come from the driver; the graph is not needed once it is instantiated.
        unsafe {
            self.call("recording", |table| (table.cuStreamEndCapture)(self.stream, &mut graph))?;
            let made = self
                .call("preparing what was recorded", |table| (table.cuGraphInstantiateWithFlags)(&mut ready, graph, 0));
            self.call("recording", |table| (table.cuGraphDestroy)(graph))?;
            made?;
        }
        Ok(Recorded(ready))
    }

    /// Queues recorded work.
    pub(in crate::device::cuda) fn replay(&self, recorded: &Recorded) -> Result<(), Failure> {
        // SAFETY: what the work reads and writes is kept by whoever keeps the recording.
        self.call("running what was recorded", |table| unsafe { (table.cuGraphLaunch)(recorded.0, self.stream) })
    }

    /// Forgets recorded work.
    pub(in crate::device::cuda) fn forget(&self, recorded: &Recorded) -> Result<(), Failure> {
        // SAFETY: the recording is given up; the driver waits for runs of it.
        self.call("forgetting what was recorded", |table| unsafe { (table.cuGraphExecDestroy)(recorded.0) })
    }

    /// How long queued work takes on the card, in milliseconds. Waits.
    pub(in crate::device::cuda) fn time(&self, work: impl FnOnce() -> Result<(), Failure>) -> Result<f32, Failure> {
        let mut events = [null_mut(); 2];
        let mut time = 0.0;
        // SAFETY: events are destroyed after the stream has passed them.
        unsafe {
            for event in &mut events {
                self.call("timing", |table| (table.cuEventCreate)(event, 0))?;
            }
            self.call("timing", |table| (table.cuEventRecord)(events[0], self.stream))?;
            let worked = work();
            self.call("timing", |table| (table.cuEventRecord)(events[1], self.stream))?;
            self.call("timing", |table| (table.cuEventSynchronize)(events[1]))?;
            let timed = self.call("timing", |table| (table.cuEventElapsedTime)(&mut time, events[0], events[1]));
            for event in events {
                self.call("timing", |table| (table.cuEventDestroy_v2)(event))?;
            }
            worked?;
            timed?;
        }
        Ok(time)
    }

    /// Memory of the host that the card copies from without the processor.
    fn pin(&self, bytes: usize) -> Result<Pinned, Failure> {
        let mut pointer = null_mut();
        // SAFETY: the pointer lives through the call.
        self.call("pinning memory", |table| unsafe { (table.cuMemHostAlloc)(&mut pointer, bytes.max(1), 1) })?;
        Ok(Pinned { pointer, bytes, free: self.table.cuMemFreeHost })
    }
}

/// Room for one upload: pinned memory, memory of the card, and what is to be waited for.
pub(in crate::device::cuda) struct Slot {
    pub(in crate::device::cuda) pinned: Pinned,
    pub(in crate::device::cuda) address: Address,
    /// The pinned memory was copied.
    copied: Event,
    /// The memory of the card was copied to where it is wanted.
    used: Event,
}

/// Room for two uploads: one is written while the other is copied.
#[derive(Default)]
pub(in crate::device::cuda) struct Staging {
    pub(in crate::device::cuda) slots: [Option<Slot>; 2],
    /// Bytes of the slots that a rehearsal would have made.
    pub(in crate::device::cuda) rehearsed: [usize; 2],
    pub(in crate::device::cuda) turn: usize,
}

/// A place in a stream.
struct Event {
    handle: Handle,
    destroy: unsafe extern "C" fn(Handle) -> i32,
}
// SAFETY: see `Driver`.
unsafe impl Send for Event {}

impl Drop for Event {
    fn drop(&mut self) {
        // SAFETY: the handle came from the driver, which destroys it once the stream has passed it.
        let _ = unsafe { (self.destroy)(self.handle) };
    }
}

/// Pinned memory of the host.
pub(in crate::device::cuda) struct Pinned {
    pointer: Handle,
    bytes: usize,
    free: unsafe extern "C" fn(Handle) -> i32,
}

// SAFETY: it is memory like any other, owned by one value.
unsafe impl Send for Pinned {}

impl Pinned {
    pub(in crate::device::cuda) fn len(&self) -> usize {
        self.bytes
    }

    pub(in crate::device::cuda) fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: the driver gave this many bytes, and this value is their only owner.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.cast(), self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: the memory came from the driver, which is never unloaded while a device is there.
        let _ = unsafe { (self.free)(self.pointer) };
    }
}

impl Table {
    /// What a code means: its name and the driver's words.
    fn text(&self, code: i32) -> String {
        let (mut name, mut words) = (null::<c_char>(), null::<c_char>());
        // SAFETY: the driver gives pointers to constant text, or none.
        unsafe {
            (self.cuGetErrorName)(code, &mut name);
            (self.cuGetErrorString)(code, &mut words);
            let read = |text: *const c_char| match text.is_null() {
                true => String::new(),
                false => CStr::from_ptr(text).to_string_lossy().into_owned(),
            };
            format!("{} ({}, code {code})", read(words), read(name))
        }
    }
}

/// Bytes of values, as the card has them.
pub(in crate::device::cuda) fn bytes_of<T: Plain>(values: &[T]) -> &[u8] {
    // SAFETY: `Plain` types have no padding and no pointers, so all of their bytes are values.
    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), size_of_val(values)) }
}

/// Bytes of values, to be written.
pub(in crate::device::cuda) fn bytes_of_mut<T: Plain>(values: &mut [T]) -> &mut [u8] {
    // SAFETY: as above, and every pattern of bits is a value of a `Plain` type.
    unsafe { std::slice::from_raw_parts_mut(values.as_mut_ptr().cast(), size_of_val(values)) }
}

/// Types that are their bytes, in any pattern.
pub(in crate::device::cuda) trait Plain: Copy {}
impl Plain for u8 {}
impl Plain for f32 {}
impl Plain for u16 {}
impl Plain for u32 {}
impl Plain for u64 {}
