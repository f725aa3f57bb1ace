//! NCCL: what cards of several processes send each other.

use std::ffi::c_void;
use std::path::Path;
use std::ptr::null_mut;

use super::driver::{Address, Driver, Failure};
use super::library::open;

type Handle = *mut c_void;

/// What the processes that work together have in common: made by one of them, given to all.
#[derive(Clone, Copy)]
#[repr(C)]
pub(in crate::device::cuda) struct UniqueId(pub(in crate::device::cuda) [u8; UniqueId::BYTES]);

impl UniqueId {
    pub(in crate::device::cuda) const BYTES: usize = 128;
}

functions! {
    /// The functions of NCCL that are used.
    Table {
        fn ncclGetVersion(*mut i32);
        fn ncclGetUniqueId(*mut UniqueId);
        fn ncclCommInitRank(*mut Handle, i32, UniqueId, i32);
        fn ncclCommAbort(Handle);
        fn ncclCommGetAsyncError(Handle, *mut i32);
        fn ncclAllReduce(Address, Address, usize, i32, i32, Handle, Handle);
        fn ncclSend(Address, usize, i32, i32, Handle, Handle);
        fn ncclRecv(Address, usize, i32, i32, Handle, Handle);
        fn ncclGroupStart();
        fn ncclGroupEnd();
    }
}

const FLOAT: i32 = 7;
const IN_PROGRESS: i32 = 7;
const SUM: i32 = 0;

/// NCCL, loaded.
pub(in crate::device::cuda) struct Nccl {
    /// Never unloaded: threads of the library go on after a call.
    table: &'static Table,
    /// The library's name and version.
    pub(in crate::device::cuda) version: String,
    /// The file, or the name that the system found it by.
    pub(in crate::device::cuda) path: String,
}

/// One of the cards that work together.
pub(in crate::device::cuda) struct Communicator {
    nccl: Nccl,
    /// Null once it was given up.
    handle: Handle,
}

// SAFETY: a communicator may be used from any thread, one at a time; whoever has one holds a lock.
unsafe impl Send for Communicator {}

impl Nccl {
    /// Finds the library: in a file or folder that the user named and nowhere else, or where the other libraries of NVIDIA's
    /// are.
    ///
    /// # Errors
    /// What is missing, in words.
    pub(in crate::device::cuda) fn open(named: Option<&Path>, folder: Option<&Path>) -> Result<Self, String> {
        let names = ["libnccl.so.2", "libnccl.so"].map(str::to_owned);
        let found = match named {
            Some(named) => {
                let inside = names.iter().map(|name| named.join(name));
                let file = std::iter::once(named.to_owned()).chain(inside).find(|path| path.is_file());
                let file = file.ok_or_else(|| {
                    format!("`{}` is neither NCCL's library nor a folder with `libnccl.so.2`", named.display())
                })?;
                // Not a name that the system would look for elsewhere.
                let file = std::path::absolute(&file).unwrap_or(file);
                open(&[file.to_string_lossy().into_owned()], None)?
            }
            None => open(&names, folder)?,
        };
        let table = Table::of(found.library).map_err(|why| format!("`{}` is not NCCL: {why}", found.name))?;
        let mut version = 0;
        // SAFETY: it lives through the call.
        unsafe { (table.ncclGetVersion)(&mut version) };
        let version = format!("NCCL {}.{}.{}", version / 10_000, version / 100 % 100, version % 100);
        Ok(Nccl { table: Box::leak(Box::new(table)), version, path: found.name })
    }

    /// What the processes are to have in common.
    ///
    /// # Errors
    /// What the library says.
    pub(in crate::device::cuda) fn unique_id(&self) -> Result<UniqueId, String> {
        let mut id = UniqueId([0; UniqueId::BYTES]);
        // SAFETY: it lives through the call.
        let code = unsafe { (self.table.ncclGetUniqueId)(&mut id) };
        if code == 0 { Ok(id) } else { Err(format!("NCCL does not start: {}", text(code))) }
    }

    /// Joins the others, all of which do this at the same time. Waits for them.
    ///
    /// # Errors
    /// What the library says.
    pub(in crate::device::cuda) fn join(
        self,
        driver: &Driver,
        id: UniqueId,
        rank: usize,
        size: usize,
    ) -> Result<Communicator, String> {
        driver.enter().map_err(|failure| failure.text)?;
        let mut handle = null_mut();
        // SAFETY: the handle lives through the call, and the card's context is current.
        let code = unsafe { (self.table.ncclCommInitRank)(&mut handle, size as i32, id, rank as i32) };
        match code {
            0 => Ok(Communicator { nccl: self, handle }),
            _ => Err(format!("{} does not connect the cards: {}", self.version, text(code))),
        }
    }
}

impl Communicator {
    pub(in crate::device::cuda) fn nccl(&self) -> &Nccl {
        &self.nccl
    }

    /// Replaces floats by their sums over all cards, in the order of the stream.
    pub(in crate::device::cuda) fn all_reduce(
        &self,
        driver: &Driver,
        values: Address,
        count: usize,
    ) -> Result<(), Failure> {
        self.call(driver, |table| {
            // SAFETY: the values are of an allocation that its owner keeps alive in the stream's order.
            unsafe { (table.ncclAllReduce)(values, values, count, FLOAT, SUM, self.handle, driver.stream()) }
        })
    }

    /// Sends floats to another card while receiving as many as it sends, in the order of the stream.
    pub(in crate::device::cuda) fn exchange(
        &self,
        driver: &Driver,
        partner: usize,
        sent: (Address, usize),
        received: (Address, usize),
    ) -> Result<(), Failure> {
        let (partner, stream) = (partner as i32, driver.stream());
        self.call(driver, |table| {
            // SAFETY: as above. A group is ended even if something in it fails.
            unsafe {
                let begun = (table.ncclGroupStart)();
                let calls = [
                    (table.ncclSend)(sent.0, sent.1, FLOAT, partner, self.handle, stream),
                    (table.ncclRecv)(received.0, received.1, FLOAT, partner, self.handle, stream),
                    (table.ncclGroupEnd)(),
                ];
                [begun].into_iter().chain(calls).find(|&code| code != 0).unwrap_or(0)
            }
        })
    }

    /// Whether an exchange that is under way can still end. If not, it is given up: what waits on the card for another one
    /// would wait for ever.
    pub(in crate::device::cuda) fn check(&mut self, driver: &Driver) -> Result<(), Failure> {
        let (handle, mut fault) = (self.handle, 0);
        let asked = self.call(driver, |table| {
            // SAFETY: the number lives through the call.
            unsafe { (table.ncclCommGetAsyncError)(handle, &mut fault) }
        });
        let found = asked.and_then(|()| match fault {
            0 | IN_PROGRESS => Ok(()),
            code => Err(failure(code)),
        });
        if found.is_err() {
            self.give_up();
        }
        found
    }

    fn call(&self, driver: &Driver, call: impl FnOnce(&Table) -> i32) -> Result<(), Failure> {
        driver.enter()?;
        if self.handle.is_null() {
            let text = "exchanging gradients with other cards: it was given up".to_owned();
            return Err(Failure { text, out_of_memory: false });
        }
        match call(self.nccl.table) {
            0 => Ok(()),
            code => Err(failure(code)),
        }
    }

    fn give_up(&mut self) {
        let handle = std::mem::replace(&mut self.handle, null_mut());
        if !handle.is_null() {
            // Not `ncclCommDestroy`, which waits for the others: one that fails leaves alone.
            // SAFETY: nobody else has the handle.
            unsafe { (self.nccl.table.ncclCommAbort)(handle) };
        }
    }
}

fn failure(code: i32) -> Failure {
    Failure { text: format!("exchanging gradients with other cards: {}", text(code)), out_of_memory: false }
}

impl Drop for Communicator {
    fn drop(&mut self) {
        self.give_up();
    }
}

/// What a code means.
fn text(code: i32) -> String {
    let words = match code {
        1 => "a call of CUDA's failed",
        2 => "the system failed, or the network between the processes",
        3 => "an internal error",
        4 => "an argument is not valid",
        5 => "it is not used as it may be, as by two processes on one card",
        6 => "another process failed, or the network between the processes",
        _ => "unknown",
    };
    format!("{words} (code {code}); with `NCCL_DEBUG=WARN` it says more, and `VITRAL_NCCL=off` does without it")
}
