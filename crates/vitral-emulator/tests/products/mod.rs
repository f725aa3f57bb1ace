//! cuBLASLt's stand-in against plain loops.
#![allow(unsafe_code, reason = "calls of a C interface")]

use crate::common::{Buffer, Device};
use cudarc::cublaslt::sys::{
    self, cublasComputeType_t as Compute, cublasLtEpilogue_t as Epilogue, cublasLtMatmulDescAttributes_t as Attribute,
    cublasLtMatrixLayoutAttribute_t as LayoutAttribute, cublasStatus_t as Status, cudaDataType_t as Type,
};
use half::{bf16, f16};
use std::ffi::c_void;
use std::ptr::{from_ref, null_mut};

/// One product, sizes first. Matrices are stored with columns after each other.
#[derive(Clone)]
struct Case {
    m: usize,
    n: usize,
    k: usize,
    transpose_a: bool,
    transpose_b: bool,
    input: Type,
    output: Type,
    compute: Compute,
    alpha: f32,
    beta: f32,
    epilogue: Epilogue,
    bias: Type,
    batch: usize,
    /// Elements between the end of a column and the next one.
    padding: usize,
    algorithm: usize,
    /// Bytes from the start of its memory to A.
    offset: usize,
}

impl Case {
    fn new(m: usize, n: usize, k: usize) -> Self {
        Self {
            m,
            n,
            k,
            transpose_a: false,
            transpose_b: false,
            input: Type::CUDA_R_32F,
            output: Type::CUDA_R_32F,
            compute: Compute::CUBLAS_COMPUTE_32F,
            alpha: 1.0,
            beta: 0.0,
            epilogue: Epilogue::CUBLASLT_EPILOGUE_DEFAULT,
            bias: Type::CUDA_R_32F,
            batch: 1,
            padding: 0,
            algorithm: 0,
            offset: 0,
        }
    }
}

/// A matrix of random values, as the type rounds them.
struct Matrix {
    rows: usize,
    columns: usize,
    leading: usize,
    kind: Type,
    values: Vec<f32>,
}

fn rounded(value: f32, kind: Type) -> f32 {
    match kind {
        Type::CUDA_R_16BF => bf16::from_f32(value).to_f32(),
        Type::CUDA_R_16F => f16::from_f32(value).to_f32(),
        _ => value,
    }
}

impl Matrix {
    fn random(rows: usize, columns: usize, batch: usize, padding: usize, kind: Type, seed: u64) -> Self {
        let leading = rows + padding;
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let values = (0..leading * columns * batch)
            .map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                rounded((state >> 40) as f32 / 8_388_608.0 - 1.0, kind)
            })
            .collect();
        Self { rows, columns, leading, kind, values }
    }

    fn at(&self, batch: usize, row: usize, column: usize) -> f32 {
        self.values[(batch * self.columns + column) * self.leading + row]
    }

    fn upload(&self, device: &Device) -> Buffer {
        match self.kind {
            Type::CUDA_R_16BF => {
                device.upload(&self.values.iter().map(|&x| bf16::from_f32(x).to_bits()).collect::<Vec<_>>())
            }
            Type::CUDA_R_16F => {
                device.upload(&self.values.iter().map(|&x| f16::from_f32(x).to_bits()).collect::<Vec<_>>())
            }
            _ => device.upload(&self.values),
        }
    }

    fn download(&mut self, device: &Device, buffer: &Buffer) {
        self.values = match self.kind {
            Type::CUDA_R_16BF => {
                device.download::<u16>(buffer).unwrap().into_iter().map(|x| bf16::from_bits(x).to_f32()).collect()
            }
            Type::CUDA_R_16F => {
                device.download::<u16>(buffer).unwrap().into_iter().map(|x| f16::from_bits(x).to_f32()).collect()
            }
            _ => device.download(buffer).unwrap(),
        };
    }

    fn layout(&self, batch: usize) -> sys::cublasLtMatrixLayout_t {
        let mut layout = null_mut();
        let stride = (self.leading * self.columns) as i64;
        // SAFETY: each attribute has the size that is given.
        unsafe {
            sys::cublasLtMatrixLayoutCreate(
                &mut layout,
                self.kind,
                self.rows as u64,
                self.columns as u64,
                self.leading as i64,
            )
            .result()
            .unwrap();
            let (count, strided) = (
                LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT,
                LayoutAttribute::CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET,
            );
            sys::cublasLtMatrixLayoutSetAttribute(layout, count, from_ref(&(batch as i32)).cast(), 4).result().unwrap();
            sys::cublasLtMatrixLayoutSetAttribute(layout, strided, from_ref(&stride).cast(), 8).result().unwrap();
        }
        layout
    }
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
}

fn gelu_derivative(x: f64) -> f64 {
    (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5
}

/// Everything that a product reads and writes.
struct Operands {
    a: Matrix,
    b: Matrix,
    c: Matrix,
    d: Matrix,
    bias: Matrix,
    auxiliary: Matrix,
}

impl Operands {
    fn new(case: &Case) -> Self {
        let Case { m, n, k, batch, padding, .. } = *case;
        let (a_rows, a_columns) = if case.transpose_a { (k, m) } else { (m, k) };
        let (b_rows, b_columns) = if case.transpose_b { (n, k) } else { (k, n) };
        let bias_rows = if case.epilogue == Epilogue::CUBLASLT_EPILOGUE_BGRADB { n } else { m };
        // The auxiliary matrix has a leading dimension that is a multiple of 8.
        let spare = m.div_ceil(8) * 8 - m;
        Self {
            a: Matrix::random(a_rows, a_columns, batch, padding, case.input, 1),
            b: Matrix::random(b_rows, b_columns, batch, padding, case.input, 2),
            c: Matrix::random(m, n, batch, padding, case.output, 3),
            d: Matrix::random(m, n, batch, padding, case.output, 4),
            bias: Matrix::random(bias_rows, 1, 1, 0, case.bias, 5),
            auxiliary: Matrix::random(m, n, batch, spare, case.output, 6),
        }
    }
}

fn product(device: &Device, case: &Case, operands: &mut Operands) -> Result<(), Status> {
    let Operands { a, b, c, d, bias, auxiliary } = operands;
    let buffers = [&*a, b, c, d, bias, auxiliary].map(|matrix| matrix.upload(device));
    let [a_buffer, b_buffer, c_buffer, d_buffer, bias_buffer, auxiliary_buffer] = &buffers;
    let workspace = device.zeros(1024);
    // SAFETY: each attribute has the size that is given, and every pointer is to a variable that lives through the call.
    let status = unsafe {
        let (mut handle, mut description, mut preference) = (null_mut(), null_mut(), null_mut());
        sys::cublasLtCreate(&mut handle).result().unwrap();
        sys::cublasLtMatmulDescCreate(&mut description, case.compute, Type::CUDA_R_32F).result().unwrap();
        let set = |attribute: Attribute, value: *const c_void, bytes: usize| {
            sys::cublasLtMatmulDescSetAttribute(description, attribute, value, bytes).result().unwrap();
        };
        let (transpose_a, transpose_b) = (i32::from(case.transpose_a), i32::from(case.transpose_b));
        set(Attribute::CUBLASLT_MATMUL_DESC_TRANSA, from_ref(&transpose_a).cast(), 4);
        set(Attribute::CUBLASLT_MATMUL_DESC_TRANSB, from_ref(&transpose_b).cast(), 4);
        set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE, from_ref(&case.epilogue).cast(), 4);
        set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_POINTER, from_ref(&bias_buffer.address).cast(), 8);
        set(Attribute::CUBLASLT_MATMUL_DESC_BIAS_DATA_TYPE, from_ref(&case.bias).cast(), 4);
        set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_POINTER, from_ref(&auxiliary_buffer.address).cast(), 8);
        set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_LD, from_ref(&(auxiliary.leading as i64)).cast(), 8);
        let stride = (auxiliary.leading * auxiliary.columns) as i64;
        set(Attribute::CUBLASLT_MATMUL_DESC_EPILOGUE_AUX_BATCH_STRIDE, from_ref(&stride).cast(), 8);

        let layouts = [&*a, b, c, d].map(|matrix| matrix.layout(case.batch));
        sys::cublasLtMatmulPreferenceCreate(&mut preference).result().unwrap();
        let bytes = sys::cublasLtMatmulPreferenceAttributes_t::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES;
        sys::cublasLtMatmulPreferenceSetAttribute(preference, bytes, from_ref(&1024u64).cast(), 8).result().unwrap();
        let mut choices: [sys::cublasLtMatmulHeuristicResult_t; 4] = std::mem::zeroed();
        let mut count = 0;
        let [a_layout, b_layout, c_layout, d_layout] = layouts;
        let status = sys::cublasLtMatmulAlgoGetHeuristic(
            handle,
            description,
            a_layout,
            b_layout,
            c_layout,
            d_layout,
            preference,
            4,
            choices.as_mut_ptr(),
            &mut count,
        );
        let status = status.result().and_then(|()| {
            assert_eq!(count, 3);
            let choice = &choices[case.algorithm];
            let mut checked = std::mem::zeroed();
            sys::cublasLtMatmulAlgoCheck(
                handle,
                description,
                a_layout,
                b_layout,
                c_layout,
                d_layout,
                &choice.algo,
                &mut checked,
            )
            .result()
            .unwrap();
            assert_eq!(checked.workspaceSize, choice.workspaceSize);
            sys::cublasLtMatmul(
                handle,
                description,
                from_ref(&case.alpha).cast(),
                (a_buffer.address + case.offset as u64) as *const c_void,
                a_layout,
                b_buffer.address as *const c_void,
                b_layout,
                from_ref(&case.beta).cast(),
                c_buffer.address as *const c_void,
                c_layout,
                d_buffer.address as *mut c_void,
                d_layout,
                &choice.algo,
                workspace.address as *mut c_void,
                1024,
                device.stream.cast(),
            )
            .result()
        });
        for layout in layouts {
            sys::cublasLtMatrixLayoutDestroy(layout).result().unwrap();
        }
        sys::cublasLtMatmulPreferenceDestroy(preference).result().unwrap();
        sys::cublasLtMatmulDescDestroy(description).result().unwrap();
        sys::cublasLtDestroy(handle).result().unwrap();
        status
    };
    status.map_err(|error| error.0)?;
    device.synchronize().result().map_err(|_| Status::CUBLAS_STATUS_EXECUTION_FAILED)?;
    d.download(device, d_buffer);
    bias.download(device, bias_buffer);
    auxiliary.download(device, auxiliary_buffer);
    Ok(())
}

fn close(value: f32, expected: f64, kind: Type, what: &str) {
    let relative = match kind {
        Type::CUDA_R_16BF => 5e-3,
        Type::CUDA_R_16F => 1e-3,
        _ => 3e-5,
    };
    let difference = (f64::from(value) - expected).abs();
    assert!(difference <= relative * expected.abs().max(1.0), "{what}: {value}, not {expected}");
}

/// Runs a case and compares everything that it writes with plain loops.
fn check(device: &Device, case: &Case) {
    use Epilogue as E;
    let mut operands = Operands::new(case);
    let before = Operands::new(case);
    product(device, case, &mut operands).unwrap();
    let epilogue = case.epilogue;
    let has_bias = [
        E::CUBLASLT_EPILOGUE_BIAS,
        E::CUBLASLT_EPILOGUE_RELU_BIAS,
        E::CUBLASLT_EPILOGUE_GELU_BIAS,
        E::CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
    ]
    .contains(&epilogue);
    let stores = [E::CUBLASLT_EPILOGUE_GELU_AUX, E::CUBLASLT_EPILOGUE_GELU_AUX_BIAS].contains(&epilogue);
    let has_gelu = stores || [E::CUBLASLT_EPILOGUE_GELU, E::CUBLASLT_EPILOGUE_GELU_BIAS].contains(&epilogue);
    let has_relu = [E::CUBLASLT_EPILOGUE_RELU, E::CUBLASLT_EPILOGUE_RELU_BIAS].contains(&epilogue);
    let derives = [E::CUBLASLT_EPILOGUE_DGELU, E::CUBLASLT_EPILOGUE_DGELU_BGRAD].contains(&epilogue);
    let tf32 = |x: f32| {
        let short = case.compute == Compute::CUBLAS_COMPUTE_32F_FAST_TF32 && case.input == Type::CUDA_R_32F;
        f64::from(if short { f32::from_bits((x.to_bits() + 0x1000) & !0x1fff) } else { x })
    };
    let a = |batch: usize, i: usize, q: usize| {
        tf32(if case.transpose_a { before.a.at(batch, q, i) } else { before.a.at(batch, i, q) })
    };
    let b = |batch: usize, q: usize, j: usize| {
        tf32(if case.transpose_b { before.b.at(batch, j, q) } else { before.b.at(batch, q, j) })
    };

    let mut gradient = vec![0f64; operands.bias.rows.max(case.m)];
    for batch in 0..case.batch {
        for j in 0..case.n {
            for (i, gradient) in gradient.iter_mut().enumerate().take(case.m) {
                let sum: f64 = (0..case.k).map(|q| a(batch, i, q) * b(batch, q, j)).sum();
                let mut value = f64::from(case.alpha) * sum;
                if case.beta != 0.0 {
                    value += f64::from(case.beta) * f64::from(before.c.at(batch, i, j));
                }
                if has_bias {
                    value += f64::from(before.bias.at(0, i, 0));
                }
                if stores {
                    close(operands.auxiliary.at(batch, i, j), value, case.output, "auxiliary");
                }
                if has_gelu {
                    value = gelu(value);
                }
                if has_relu {
                    value = value.max(0.0);
                }
                if derives {
                    value *= gelu_derivative(f64::from(before.auxiliary.at(batch, i, j)));
                }
                if epilogue == E::CUBLASLT_EPILOGUE_DGELU_BGRAD {
                    *gradient += value;
                }
                close(operands.d.at(batch, i, j), value, case.output, "D");
            }
            for i in case.m..operands.d.leading {
                let index = (batch * case.n + j) * operands.d.leading + i;
                assert_eq!(operands.d.values[index], before.d.values[index], "between the columns");
            }
        }
    }
    gradient.truncate(operands.bias.rows);
    match epilogue {
        E::CUBLASLT_EPILOGUE_BGRADA => {
            gradient.iter_mut().enumerate().for_each(|(i, sum)| *sum = (0..case.k).map(|q| a(0, i, q)).sum());
        }
        E::CUBLASLT_EPILOGUE_BGRADB => {
            gradient.iter_mut().enumerate().for_each(|(j, sum)| *sum = (0..case.k).map(|q| b(0, q, j)).sum());
        }
        E::CUBLASLT_EPILOGUE_DGELU_BGRAD => {}
        _ => gradient = before.bias.values.iter().map(|&x| f64::from(x)).collect(),
    }
    for (&value, expected) in operands.bias.values.iter().zip(gradient) {
        close(value, expected, case.bias, "bias");
    }
}

#[test]
fn shapes_and_transposes() {
    let Some(device) = Device::new(crate::CHECKED) else { return };
    for (m, n, k) in [(1, 1, 1), (3, 5, 7), (16, 8, 130), (33, 20, 300)] {
        for (transpose_a, transpose_b) in [(false, false), (true, false), (false, true), (true, true)] {
            let case = Case { transpose_a, transpose_b, padding: m % 3, algorithm: n % 3, ..Case::new(m, n, k) };
            check(&device, &case);
            check(&device, &Case { alpha: 0.5, beta: -2.0, ..case.clone() });
            check(&device, &Case { batch: 3, ..case });
        }
    }
}

#[test]
fn types() {
    let Some(device) = Device::new(crate::CHECKED) else { return };
    let base = Case { transpose_a: true, beta: 1.0, ..Case::new(24, 10, 40) };
    for input in [Type::CUDA_R_16BF, Type::CUDA_R_16F] {
        check(&device, &Case { input, output: input, ..base.clone() });
        check(&device, &Case { input, output: Type::CUDA_R_32F, ..base.clone() });
    }
    check(&device, &Case { compute: Compute::CUBLAS_COMPUTE_32F_FAST_TF32, ..base.clone() });
    // A type for sums that the device does not use, and two types that do not go together.
    let refused = [
        Case { compute: Compute::CUBLAS_COMPUTE_16F, ..base.clone() },
        Case { input: Type::CUDA_R_32F, output: Type::CUDA_R_16BF, ..base },
    ];
    for case in refused {
        let status = product(&device, &case, &mut Operands::new(&case)).unwrap_err();
        assert_eq!(status, Status::CUBLAS_STATUS_NOT_SUPPORTED);
    }
}

#[test]
fn epilogues() {
    let Some(device) = Device::new(crate::CHECKED) else { return };
    use Epilogue as E;
    for epilogue in [
        E::CUBLASLT_EPILOGUE_BIAS,
        E::CUBLASLT_EPILOGUE_RELU,
        E::CUBLASLT_EPILOGUE_RELU_BIAS,
        E::CUBLASLT_EPILOGUE_GELU,
        E::CUBLASLT_EPILOGUE_GELU_BIAS,
        E::CUBLASLT_EPILOGUE_GELU_AUX,
        E::CUBLASLT_EPILOGUE_GELU_AUX_BIAS,
        E::CUBLASLT_EPILOGUE_DGELU,
        E::CUBLASLT_EPILOGUE_DGELU_BGRAD,
        E::CUBLASLT_EPILOGUE_BGRADA,
        E::CUBLASLT_EPILOGUE_BGRADB,
    ] {
        let case = Case { epilogue, beta: 0.5, ..Case::new(20, 9, 31) };
        check(&device, &case);
        let half = Type::CUDA_R_16BF;
        check(&device, &Case { input: half, ..case.clone() });
        check(&device, &Case { input: half, output: half, bias: half, ..case.clone() });
        // The bias has D's type, where there is one.
        let without = [
            E::CUBLASLT_EPILOGUE_RELU,
            E::CUBLASLT_EPILOGUE_GELU,
            E::CUBLASLT_EPILOGUE_GELU_AUX,
            E::CUBLASLT_EPILOGUE_DGELU,
        ];
        if without.contains(&epilogue) {
            continue;
        }
        let case = Case { input: half, output: half, ..case };
        let status = product(&device, &case, &mut Operands::new(&case)).unwrap_err();
        assert_eq!(status, Status::CUBLAS_STATUS_NOT_SUPPORTED);
    }
}

#[test]
fn operands_must_be_on_the_device() {
    let Some(device) = Device::new(crate::CHECKED) else { return };
    // A larger matrix than its memory: the layout of another case.
    let case = Case::new(8, 8, 8);
    let mut operands = Operands::new(&case);
    operands.a.values.truncate(60);
    let status = product(&device, &case, &mut operands).unwrap_err();
    assert_eq!(status, Status::CUBLAS_STATUS_EXECUTION_FAILED);
    assert!(device.message().contains("the product's A"), "{}", device.message());
}

#[test]
fn operands_must_be_as_aligned_as_was_said() {
    let Some(device) = Device::new(crate::CHECKED) else { return };
    let case = Case { offset: 16, ..Case::new(8, 8, 8) };
    let status = product(&device, &case, &mut Operands::new(&case)).unwrap_err();
    assert_eq!(status, Status::CUBLAS_STATUS_INVALID_VALUE);
    assert!(device.message().contains("A is not aligned by the 256 bytes"), "{}", device.message());
}

#[test]
fn version() {
    let Some(_device) = Device::new(crate::CHECKED) else { return };
    // SAFETY: the function takes no arguments.
    assert!(unsafe { sys::cublasLtGetVersion() } > 120_000);
}
