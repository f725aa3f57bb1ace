//! The functions of MPI that are used.
#![allow(unsafe_code)]

use std::ffi::{c_char, c_int, c_void};
use std::ptr::null_mut;

use libloading::os::unix::Library;

/// Values in one message: MPI counts in 32 bits.
pub(super) const LARGEST: usize = 1 << 30;

/// The tag of every message: between two ranks they arrive in the order in which they were sent.
const TAG: c_int = 7;

/// What a family of libraries calls things. A handle is a pointer or a number.
pub(super) struct Handles<H> {
    pub(super) world: H,
    pub(super) byte: H,
    pub(super) float: H,
    pub(super) sum: H,
    pub(super) errors_return: H,
    /// The level of threads at which one thread at a time calls.
    pub(super) serialized: c_int,
}

/// A handle as bits, for what outlives a call.
pub(super) trait Handle: Copy {
    fn bits(self) -> usize;
    fn of_bits(bits: usize) -> Self;
}

impl Handle for *mut c_void {
    fn bits(self) -> usize {
        self.expose_provenance()
    }

    fn of_bits(bits: usize) -> Self {
        std::ptr::with_exposed_provenance_mut(bits)
    }
}

impl Handle for c_int {
    fn bits(self) -> usize {
        self as u32 as usize
    }

    fn of_bits(bits: usize) -> Self {
        bits as u32 as c_int
    }
}

/// A message that is under way.
pub(super) struct Message(usize);

/// What is asked of MPI, whatever its handles are.
pub(super) trait Calls: Send {
    fn start(&self) -> Result<(), String>;
    fn rank(&self) -> Result<usize, String>;
    fn size(&self) -> Result<usize, String>;
    fn exchange(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> Result<(), String>;
    /// Begins to send and to receive.
    ///
    /// # Safety
    /// The buffers must stay where they are, and what is sent must not change, until both messages have arrived.
    unsafe fn begin(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> Result<[Message; 2], String>;
    /// Whether a message has arrived. It is not asked for again then.
    fn arrived(&self, message: &mut Message) -> Result<bool, String>;
    fn send(&self, to: usize, sent: &[u8]) -> Result<(), String>;
    fn receive(&self, from: usize, received: &mut [u8]) -> Result<(), String>;
    fn sum(&self, values: &mut [f32]) -> Result<(), String>;
    /// The library's name and version, on one line.
    fn version(&self) -> String;
    fn abort(&self, code: c_int);
    fn finish(&self);
}

/// The functions of one library.
pub(super) struct Api<H> {
    handles: Handles<H>,
    init_thread: unsafe extern "C" fn(*mut c_int, *mut c_void, c_int, *mut c_int) -> c_int,
    comm_set_errhandler: unsafe extern "C" fn(H, H) -> c_int,
    comm_rank: unsafe extern "C" fn(H, *mut c_int) -> c_int,
    comm_size: unsafe extern "C" fn(H, *mut c_int) -> c_int,
    #[allow(clippy::type_complexity)]
    sendrecv: unsafe extern "C" fn(
        *const c_void,
        c_int,
        H,
        c_int,
        c_int,
        *mut c_void,
        c_int,
        H,
        c_int,
        c_int,
        H,
        *mut Status,
    ) -> c_int,
    begin_send: unsafe extern "C" fn(*const c_void, c_int, H, c_int, c_int, H, *mut H) -> c_int,
    begin_receive: unsafe extern "C" fn(*mut c_void, c_int, H, c_int, c_int, H, *mut H) -> c_int,
    test: unsafe extern "C" fn(*mut H, *mut c_int, *mut Status) -> c_int,
    send: unsafe extern "C" fn(*const c_void, c_int, H, c_int, c_int, H) -> c_int,
    receive: unsafe extern "C" fn(*mut c_void, c_int, H, c_int, c_int, H, *mut Status) -> c_int,
    allreduce: unsafe extern "C" fn(*const c_void, *mut c_void, c_int, H, H, H) -> c_int,
    error_string: unsafe extern "C" fn(c_int, *mut c_char, *mut c_int) -> c_int,
    library_version: unsafe extern "C" fn(*mut c_char, *mut c_int) -> c_int,
    abort: unsafe extern "C" fn(H, c_int) -> c_int,
    finalize: unsafe extern "C" fn() -> c_int,
}

// SAFETY: handles and functions may be used by any thread; `MpiLink` lets one in at a time, as MPI was asked for.
unsafe impl<H> Send for Api<H> {}

/// What MPI writes about a message; the largest of the known libraries takes 32 bytes.
#[repr(C, align(16))]
struct Status([u64; 16]);

impl<H: Copy> Api<H> {
    /// Looks up the functions. The library must stay open.
    pub(super) fn new(library: &Library, handles: Handles<H>) -> Result<Self, String> {
        /// A function of the library.
        fn function<F: Copy>(library: &Library, name: &str) -> Result<F, String> {
            // SAFETY: the type is the function's in the MPI standard, with the handles of the library's family.
            let symbol = unsafe { library.get::<F>(name.as_bytes()) };
            symbol.map(|symbol| *symbol).map_err(|_| format!("it has no `{name}`"))
        }
        Ok(Api {
            handles,
            init_thread: function(library, "MPI_Init_thread")?,
            comm_set_errhandler: function(library, "MPI_Comm_set_errhandler")?,
            comm_rank: function(library, "MPI_Comm_rank")?,
            comm_size: function(library, "MPI_Comm_size")?,
            sendrecv: function(library, "MPI_Sendrecv")?,
            begin_send: function(library, "MPI_Isend")?,
            begin_receive: function(library, "MPI_Irecv")?,
            test: function(library, "MPI_Test")?,
            send: function(library, "MPI_Send")?,
            receive: function(library, "MPI_Recv")?,
            allreduce: function(library, "MPI_Allreduce")?,
            error_string: function(library, "MPI_Error_string")?,
            library_version: function(library, "MPI_Get_library_version")?,
            abort: function(library, "MPI_Abort")?,
            finalize: function(library, "MPI_Finalize")?,
        })
    }

    fn checked(&self, what: &str, code: c_int) -> Result<(), String> {
        if code == 0 {
            return Ok(());
        }
        // The longest text of any known library is 512 bytes.
        let (mut text, mut length) = ([0u8; 1024], 0);
        // SAFETY: the text has room for what MPI allows itself.
        let described = unsafe { (self.error_string)(code, text.as_mut_ptr().cast(), &raw mut length) };
        let length = usize::try_from(length).unwrap_or(0).min(text.len());
        let text = String::from_utf8_lossy(&text[..length]);
        if described == 0 { Err(format!("{what}: {}", text.trim())) } else { Err(format!("{what}: error {code}")) }
    }

    fn number(&self, what: &str, call: unsafe extern "C" fn(H, *mut c_int) -> c_int) -> Result<usize, String> {
        let mut number = 0;
        // SAFETY: MPI is started, and writes one number.
        let code = unsafe { call(self.handles.world, &raw mut number) };
        self.checked(what, code)?;
        usize::try_from(number).map_err(|_| format!("{what}: {number}"))
    }
}

/// Counts and ranks in the type of MPI; messages are cut to [`LARGEST`] before.
fn int(number: usize) -> c_int {
    c_int::try_from(number).expect("below 2^31")
}

impl<H: Handle> Calls for Api<H> {
    fn start(&self) -> Result<(), String> {
        let mut provided = 0;
        // SAFETY: MPI may be started without the arguments of `main`; it is started once.
        let code = unsafe { (self.init_thread)(null_mut(), null_mut(), self.handles.serialized, &raw mut provided) };
        if code != 0 {
            return Err(format!("MPI does not start: error {code}"));
        }
        if provided < self.handles.serialized {
            return Err("it was built without support for threads".to_owned());
        }
        // Errors are returned instead of ending the process.
        // SAFETY: MPI is started.
        let code = unsafe { (self.comm_set_errhandler)(self.handles.world, self.handles.errors_return) };
        self.checked("setting how errors are reported", code)
    }

    fn rank(&self) -> Result<usize, String> {
        self.number("asking for the rank", self.comm_rank)
    }

    fn size(&self) -> Result<usize, String> {
        self.number("asking for the number of ranks", self.comm_size)
    }

    fn exchange(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> Result<(), String> {
        let (byte, world) = (self.handles.byte, self.handles.world);
        let mut status = Status([0; 16]);
        // SAFETY: both buffers have as many bytes as is said, and do not overlap; the call returns when it is done with them.
        let code = unsafe {
            (self.sendrecv)(
                sent.as_ptr().cast(),
                int(sent.len()),
                byte,
                int(to),
                TAG,
                received.as_mut_ptr().cast(),
                int(received.len()),
                byte,
                int(from),
                TAG,
                world,
                &raw mut status,
            )
        };
        self.checked("exchanging with another rank", code)
    }

    unsafe fn begin(&self, to: usize, sent: &[u8], from: usize, received: &mut [u8]) -> Result<[Message; 2], String> {
        let Handles { world, byte, .. } = self.handles;
        let mut requests = [world; 2];
        let [receiving, sending] = &mut requests;
        let (into, count) = (received.as_mut_ptr().cast(), int(received.len()));
        // SAFETY: the buffer has as many bytes as is said, and the caller keeps it.
        let code = unsafe { (self.begin_receive)(into, count, byte, int(from), TAG, world, receiving) };
        self.checked("receiving from another rank", code)?;
        // SAFETY: likewise.
        let code =
            unsafe { (self.begin_send)(sent.as_ptr().cast(), int(sent.len()), byte, int(to), TAG, world, sending) };
        if let Err(fault) = self.checked("sending to another rank", code) {
            // Nobody can tell the library anymore not to write what it receives.
            eprintln!("error: {fault}");
            self.abort(1);
            std::process::abort();
        }
        Ok(requests.map(|request| Message(request.bits())))
    }

    fn arrived(&self, message: &mut Message) -> Result<bool, String> {
        let (mut request, mut flag, mut status) = (H::of_bits(message.0), 0, Status([0; 16]));
        // SAFETY: the request is one that was begun and has not arrived.
        let code = unsafe { (self.test)(&raw mut request, &raw mut flag, &raw mut status) };
        message.0 = request.bits();
        self.checked("exchanging with another rank", code)?;
        Ok(flag != 0)
    }

    fn send(&self, to: usize, sent: &[u8]) -> Result<(), String> {
        let (byte, world) = (self.handles.byte, self.handles.world);
        // SAFETY: the buffer has as many bytes as is said, and the call returns when it is done with it.
        let code = unsafe { (self.send)(sent.as_ptr().cast(), int(sent.len()), byte, int(to), TAG, world) };
        self.checked("sending to another rank", code)
    }

    fn receive(&self, from: usize, received: &mut [u8]) -> Result<(), String> {
        let (byte, world) = (self.handles.byte, self.handles.world);
        let (into, count) = (received.as_mut_ptr().cast(), int(received.len()));
        let mut status = Status([0; 16]);
        // SAFETY: as for sending; a longer message is an error.
        let code = unsafe { (self.receive)(into, count, byte, int(from), TAG, world, &raw mut status) };
        self.checked("receiving from another rank", code)
    }

    fn sum(&self, values: &mut [f32]) -> Result<(), String> {
        let given = values.to_vec();
        let (from, into) = (given.as_ptr().cast(), values.as_mut_ptr().cast());
        let Handles { world, float, sum, .. } = self.handles;
        // SAFETY: both buffers have as many floats as is said.
        let code = unsafe { (self.allreduce)(from, into, int(values.len()), float, sum, world) };
        self.checked("adding up", code)
    }

    fn version(&self) -> String {
        // The longest text of any known library is 8192 bytes.
        let (mut text, mut length) = (vec![0u8; 16384], 0);
        // SAFETY: the text has room for what MPI allows itself.
        let code = unsafe { (self.library_version)(text.as_mut_ptr().cast(), &raw mut length) };
        let length = usize::try_from(length).unwrap_or(0).min(text.len());
        let text = String::from_utf8_lossy(&text[..length]);
        let line = text.trim_matches(['\0', '\n', ' ']).lines().next().unwrap_or_default();
        // Open MPI goes on with where it was built.
        let line = line.split(", package").next().unwrap_or_default().replace("Version:", "").replace('\t', " ");
        let words: Vec<&str> = line.split_whitespace().collect();
        if code == 0 && !words.is_empty() { words.join(" ") } else { "an MPI library".to_owned() }
    }

    fn abort(&self, code: c_int) {
        // SAFETY: MPI is started. The call does not return where it works.
        unsafe { (self.abort)(self.handles.world, code) };
    }

    fn finish(&self) {
        // SAFETY: MPI is started, and not called afterwards.
        unsafe { (self.finalize)() };
    }
}
