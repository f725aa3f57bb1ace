//! The performance-critical loops, in plain code and for AVX2, and the choice between the two.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod plain;
mod work;

use plain::Plain;
pub(super) use work::{Kernels, Work};

/// Runs the work with the best kernels for this machine.
pub(super) fn dispatch<W: Work>(work: W) -> W::Output {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(avx2::Run(work, avx2::Avx2(simd)));
    }
    work.run(Plain)
}

#[cfg(test)]
mod tests {
    use std::array;

    use proptest::prelude::*;

    use super::*;
    use crate::image::jpeg::tables::Quantization;

    /// A task for which all kernels give the same result.
    #[derive(Clone, Copy)]
    enum Task<'a> {
        Inverse(&'a [i16; 64], &'a Quantization),
        Colors([&'a [u8]; 3]),
        Columns(&'a [u8]),
        Both(&'a [u8], &'a [u8]),
    }

    impl Work for Task<'_> {
        type Output = Vec<u8>;

        #[inline(always)]
        fn run<K: Kernels>(self, kernels: K) -> Vec<u8> {
            let (planes, across) = match self {
                Task::Inverse(coefficients, quantization) => {
                    return kernels.inverse(coefficients, quantization).concat();
                }
                Task::Colors(planes) => (planes, 3),
                Task::Columns(near) => ([near; 3], 2),
                Task::Both(near, far) => ([near, far, far], 2),
            };
            let mut row = vec![0; planes[0].len() * across];
            match self {
                Task::Colors(planes) => kernels.red_green_blue(planes, &mut row),
                Task::Columns(near) => kernels.columns(near, &mut row),
                _ => kernels.both(planes[0], planes[1], &mut row),
            }
            row
        }
    }

    fn same(task: Task) {
        assert_eq!(dispatch(task), task.run(Plain));
    }

    proptest! {
        #[test]
        fn the_machines_kernels_match_the_plain_ones(
            // Far beyond the range of valid files, and blocks that are mostly zero.
            numbers in proptest::collection::vec(prop_oneof![Just(0), -20i16..20, any::<i16>()], 64),
            factors in proptest::collection::vec(prop_oneof![1i16..60, any::<i16>()], 64),
            planes in proptest::collection::vec(any::<[u8; 3]>(), 3..80),
        ) {
            same(Task::Inverse(&array::from_fn(|at| numbers[at]), &array::from_fn(|at| factors[at])));
            let planes: [Vec<u8>; 3] = array::from_fn(|plane| planes.iter().map(|pixel| pixel[plane]).collect());
            let [y, cb, cr] = [0, 1, 2].map(|plane: usize| planes[plane].as_slice());
            same(Task::Colors([y, cb, cr]));
            same(Task::Columns(y));
            same(Task::Both(y, cb));
        }
    }

    #[test]
    fn every_color_is_converted_alike() {
        let all: Vec<u8> = (0..=255).collect();
        for y in [0, 1, 127, 128, 254, 255] {
            for cb in 0..=255 {
                same(Task::Colors([&[y; 256], &[cb; 256], &all]));
            }
        }
    }
}
