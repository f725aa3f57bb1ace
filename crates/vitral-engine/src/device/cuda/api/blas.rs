//! cuBLASLt: products of matrices.

use std::ffi::c_void;
use std::path::Path;
use std::ptr::null_mut;

use super::driver::{Address, Driver, Failure};
use super::library::open;

type Handle = *mut c_void;

functions! {
    /// The functions of cuBLASLt that are used.
    Table {
        fn cublasLtCreate(*mut Handle);
        fn cublasLtMatmulDescCreate(*mut Handle, i32, i32);
        fn cublasLtMatmulDescSetAttribute(Handle, i32, *const c_void, usize);
        fn cublasLtMatrixLayoutCreate(*mut Handle, i32, u64, u64, i64);
        fn cublasLtMatrixLayoutSetAttribute(Handle, i32, *const c_void, usize);
        fn cublasLtMatmulPreferenceCreate(*mut Handle);
        fn cublasLtMatmulPreferenceSetAttribute(Handle, i32, *const c_void, usize);
        fn cublasLtMatmulAlgoGetHeuristic(Handle, Handle, Handle, Handle, Handle, Handle, Handle, i32, *mut Heuristic, *mut i32);
        fn cublasLtMatmulAlgoCheck(Handle, Handle, Handle, Handle, Handle, Handle, *const Algorithm, *mut Heuristic);
        fn cublasLtMatmul(Handle, Handle, *const f32, Address, Handle, Address, Handle, *const f32, Address, Handle, Address, Handle, *const Algorithm, Address, usize, Handle);
    }
}

const TRANSPOSE: [i32; 2] = [3, 4];
const EPILOGUE: i32 = 7;
const BIAS_POINTER: i32 = 8;
const BIAS_TYPE: i32 = 26;
const BATCH_COUNT: i32 = 5;
const BATCH_STRIDE: i32 = 6;
const WORKSPACE_LIMIT: i32 = 1;
/// Of A, B, C and D.
const LEAST_ALIGNMENTS: [i32; 4] = [5, 6, 7, 8];
const FLOAT: i32 = 0;

/// How a product is computed, as cuBLASLt encodes it. It may be kept, and used again with the same version and card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(in crate::device::cuda) struct Algorithm(pub(in crate::device::cuda) [u64; 8]);

#[derive(Clone, Copy)]
#[repr(C)]
struct Heuristic {
    algorithm: Algorithm,
    workspace: usize,
    state: i32,
    waves: f32,
    reserved: [i32; 4],
}

impl Heuristic {
    const NONE: Heuristic =
        Heuristic { algorithm: Algorithm([0; 8]), workspace: 0, state: 0, waves: 0.0, reserved: [0; 4] };
}

/// The type of a matrix's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::device::cuda) enum MatrixType {
    F32 = 0,
    F16 = 2,
    Bf16 = 14,
}

/// What happens to a product before it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::device::cuda) enum Ending {
    Plain = 1,
    Bias = 4,
    ReluBias = 6,
    /// GELU by its tanh form.
    GeluBias = 36,
}

/// A product, column by column: `D [m, n] = alpha · op(A) op(B) + beta · C`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::device::cuda) struct Shape {
    pub(in crate::device::cuda) m: usize,
    pub(in crate::device::cuda) n: usize,
    pub(in crate::device::cuda) k: usize,
    pub(in crate::device::cuda) transposed: [bool; 2],
    pub(in crate::device::cuda) inputs: MatrixType,
    pub(in crate::device::cuda) output: MatrixType,
    /// 32-bit operands may be rounded to TF32.
    pub(in crate::device::cuda) tf32: bool,
    pub(in crate::device::cuda) ending: Ending,
    /// How many products, one after the other in memory.
    pub(in crate::device::cuda) batch: usize,
    /// Bytes that the addresses of all operands are multiples of.
    pub(in crate::device::cuda) alignment: u32,
}

/// A product that is ready to be computed.
pub(in crate::device::cuda) struct Plan {
    description: Handle,
    layouts: [Handle; 3],
    pub(in crate::device::cuda) algorithm: Algorithm,
    biased: bool,
}

// SAFETY: descriptions are plain data of the library; a plan is used under a lock.
unsafe impl Send for Plan {}

/// Where the operands of a product are.
#[derive(Clone, Copy)]
pub(in crate::device::cuda) struct Operands {
    pub(in crate::device::cuda) a: Address,
    pub(in crate::device::cuda) b: Address,
    pub(in crate::device::cuda) c: Address,
    pub(in crate::device::cuda) d: Address,
    pub(in crate::device::cuda) bias: Address,
    pub(in crate::device::cuda) alpha: f32,
    pub(in crate::device::cuda) beta: f32,
    pub(in crate::device::cuda) workspace: Address,
    pub(in crate::device::cuda) workspace_bytes: usize,
}

/// The library, with a handle.
pub(in crate::device::cuda) struct Blas {
    table: Table,
    handle: Handle,
    /// Its version, as in 130100: an [`Algorithm`] is of that version alone.
    pub(in crate::device::cuda) version: usize,
}

// SAFETY: cuBLASLt's handle may be used from several threads at once.
unsafe impl Send for Blas {}
// SAFETY: as above.
unsafe impl Sync for Blas {}

impl Blas {
    /// Finds a library that works with a driver of this version.
    ///
    /// # Errors
    /// What is missing, in words.
    pub(in crate::device::cuda) fn open(driver: i32, folder: Option<&Path>) -> Result<Self, String> {
        let found = open(&super::names("cublasLt", driver), folder).map_err(|why| {
            format!(
                "cuBLASLt, which multiplies matrices, was not found ({why}); it comes with the CUDA toolkit and with the \
                 Python package `nvidia-cublas`; name its folder with `--cuda-path`"
            )
        })?;
        let name = found.name;
        // SAFETY: the type is that of NVIDIA's documentation, and the library is there.
        let version = unsafe {
            found.library.get::<unsafe extern "C" fn() -> usize>(b"cublasLtGetVersion\0").map(|version| version())
        };
        let version = version.map_err(|_| format!("`{name}` is not cuBLASLt: it has no `cublasLtGetVersion`"))?;
        let table = Table::of(found.library).map_err(|why| format!("`{name}` is not cuBLASLt: {why}"))?;
        let mut handle = null_mut();
        // SAFETY: the handle lives through the call.
        match unsafe { (table.cublasLtCreate)(&mut handle) } {
            0 => Ok(Blas { table, handle, version }),
            code => Err(format!("cuBLASLt does not start (code {code})")),
        }
    }

    /// Prepares a product: ways to compute it, the one that the library expects to be fastest first, at most `count`. None
    /// where the library has no way.
    pub(in crate::device::cuda) fn plans(&self, shape: &Shape, workspace: usize, count: usize) -> Vec<Plan> {
        let mut found = vec![Heuristic::NONE; count];
        let Some((description, layouts)) = self.described(shape) else { return Vec::new() };
        let mut filled = 0;
        // SAFETY: handles come from the library, and there is room for as many results as are asked for.
        unsafe {
            let mut preference = null_mut();
            if (self.table.cublasLtMatmulPreferenceCreate)(&mut preference) != 0 {
                return Vec::new();
            }
            let limit = (&raw const workspace).cast();
            (self.table.cublasLtMatmulPreferenceSetAttribute)(preference, WORKSPACE_LIMIT, limit, size_of::<usize>());
            for which in LEAST_ALIGNMENTS {
                let least = (&raw const shape.alignment).cast();
                (self.table.cublasLtMatmulPreferenceSetAttribute)(preference, which, least, size_of::<u32>());
            }
            let [a, b, d] = layouts;
            let asked = (self.table.cublasLtMatmulAlgoGetHeuristic)(
                self.handle,
                description,
                a,
                b,
                d,
                d,
                preference,
                count as i32,
                found.as_mut_ptr(),
                &mut filled,
            );
            if asked != 0 {
                return Vec::new();
            }
        }
        found.truncate(filled.max(0) as usize);
        found.retain(|found| found.state == 0 && found.workspace <= workspace);
        let biased = shape.ending != Ending::Plain;
        found.iter().map(|found| Plan { description, layouts, algorithm: found.algorithm, biased }).collect()
    }

    /// Prepares a product to be computed in a given way; nothing if the library cannot do it that way.
    pub(in crate::device::cuda) fn plan(&self, shape: &Shape, algorithm: Algorithm, workspace: usize) -> Option<Plan> {
        let (description, layouts) = self.described(shape)?;
        let mut checked = Heuristic::NONE;
        let [a, b, d] = layouts;
        // SAFETY: handles come from the library, and the rest lives through the call.
        let code = unsafe {
            (self.table.cublasLtMatmulAlgoCheck)(self.handle, description, a, b, d, d, &algorithm, &mut checked)
        };
        let fits = code == 0 && checked.workspace <= workspace;
        fits.then_some(Plan { description, layouts, algorithm, biased: shape.ending != Ending::Plain })
    }

    fn described(&self, shape: &Shape) -> Option<(Handle, [Handle; 3])> {
        const COMPUTE_32: i32 = 68;
        const COMPUTE_TF32: i32 = 77;
        let mut description = null_mut();
        // SAFETY: handles come from the library, and values live through the calls.
        unsafe {
            let compute = if shape.tf32 { COMPUTE_TF32 } else { COMPUTE_32 };
            if (self.table.cublasLtMatmulDescCreate)(&mut description, compute, FLOAT) != 0 {
                return None;
            }
            let set = |which: i32, value: i32| {
                (self.table.cublasLtMatmulDescSetAttribute)(description, which, (&raw const value).cast(), 4) == 0
            };
            let mut fine = set(TRANSPOSE[0], i32::from(shape.transposed[0]));
            fine &= set(TRANSPOSE[1], i32::from(shape.transposed[1]));
            fine &= set(EPILOGUE, shape.ending as i32);
            if shape.ending != Ending::Plain {
                fine &= set(BIAS_TYPE, shape.output as i32);
            }
            let sides = |rows, columns, turned| if turned { [columns, rows] } else { [rows, columns] };
            let extents = [
                (shape.inputs, sides(shape.m, shape.k, shape.transposed[0])),
                (shape.inputs, sides(shape.k, shape.n, shape.transposed[1])),
                (shape.output, [shape.m, shape.n]),
            ];
            let mut layouts = [null_mut(); 3];
            for (layout, (kind, [rows, columns])) in layouts.iter_mut().zip(extents) {
                let made = (self.table.cublasLtMatrixLayoutCreate)(
                    layout,
                    kind as i32,
                    rows as u64,
                    columns as u64,
                    rows as i64,
                );
                if made != 0 {
                    return None;
                }
                if shape.batch > 1 {
                    let (count, stride) = (shape.batch as i32, (rows * columns) as i64);
                    let set = self.table.cublasLtMatrixLayoutSetAttribute;
                    fine &= set(*layout, BATCH_COUNT, (&raw const count).cast(), 4) == 0;
                    fine &= set(*layout, BATCH_STRIDE, (&raw const stride).cast(), 8) == 0;
                }
            }
            fine.then_some((description, layouts))
        }
    }

    /// Queues a product.
    ///
    /// # Errors
    /// What the library answers.
    pub(in crate::device::cuda) fn multiply(&self, driver: &Driver, plan: &Plan, at: &Operands) -> Result<(), Failure> {
        driver.enter()?;
        // SAFETY: the plan's shape says how much of each operand is used, and its maker checked it against the operands.
        let code = unsafe {
            if plan.biased {
                let bias = (&raw const at.bias).cast();
                let set = self.table.cublasLtMatmulDescSetAttribute;
                set(plan.description, BIAS_POINTER, bias, size_of::<Address>());
            }
            (self.table.cublasLtMatmul)(
                self.handle,
                plan.description,
                &at.alpha,
                at.a,
                plan.layouts[0],
                at.b,
                plan.layouts[1],
                &at.beta,
                at.c,
                plan.layouts[2],
                at.d,
                plan.layouts[2],
                &plan.algorithm,
                at.workspace,
                at.workspace_bytes,
                driver.stream(),
            )
        };
        match code {
            0 => Ok(()),
            code => Err(Failure { text: format!("a product by cuBLASLt (code {code})"), out_of_memory: false }),
        }
    }
}
