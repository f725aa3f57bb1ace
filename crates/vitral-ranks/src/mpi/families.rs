//! What the families of MPI libraries call things: their handles, in one table.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_void};

use libloading::os::unix::Library;

use super::api::{Api, Calls, Handles};
use super::find::Found;

/// The functions of a library, with its family's handles.
///
/// # Errors
/// If it lacks one.
pub(super) fn calls(found: &Found) -> Result<Box<dyn Calls>, String> {
    let file = found.path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if file.contains("mpi_abi") {
        // The numbers of `mpi_abi.h`, MPI 5.0, appendix A.
        let handle = |number: usize| number as *mut c_void;
        let handles = Handles {
            world: handle(0x101),
            byte: handle(0x247),
            float: handle(0x210),
            sum: handle(0x21),
            errors_return: handle(0x143),
            serialized: 2048,
        };
        return Ok(Box::new(Api::new(&found.library, handles)?));
    }
    if let Some(world) = address(&found.library, "ompi_mpi_comm_world") {
        // Open MPI's handles are addresses of its own variables.
        let named = |name: &str| address(&found.library, name).ok_or_else(|| format!("it has no `{name}`"));
        let handles = Handles {
            world,
            byte: named("ompi_mpi_byte")?,
            float: named("ompi_mpi_float")?,
            sum: named("ompi_mpi_op_sum")?,
            errors_return: named("ompi_mpi_errors_return")?,
            serialized: 2,
        };
        return Ok(Box::new(Api::new(&found.library, handles)?));
    }
    // MPICH's handles are numbers, the same in all libraries of the ABI that MPICH, Intel MPI and MVAPICH agreed on.
    let handle = |number: u32| number as c_int;
    let handles = Handles {
        world: handle(0x4400_0000),
        byte: handle(0x4c00_010d),
        float: handle(0x4c00_040a),
        sum: handle(0x5800_0003),
        errors_return: handle(0x5400_0001),
        serialized: 2,
    };
    Ok(Box::new(Api::new(&found.library, handles)?))
}

/// Where a variable of the library is.
fn address(library: &Library, name: &str) -> Option<*mut c_void> {
    // SAFETY: the address is not read through.
    let symbol = unsafe { library.get::<*mut c_void>(name.as_bytes()) };
    symbol.ok().map(libloading::os::unix::Symbol::as_raw_ptr)
}
