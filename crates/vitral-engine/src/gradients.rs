//! Gradients of a batch, as the device likes to make them.

use std::ops::Range;

use crate::arena::Parameters;
use crate::device::Device;
use crate::device::cpu::plan::{BatchExtent, Rest};
use crate::device::error::DeviceError;
use crate::device::storage::FlatBuffer;

/// Segments that a buffer is cut into, as long as they are long enough to be worth a message and short enough for a cache.
const SEGMENTS: usize = 32;
const SHORTEST: usize = 1 << 14;
const LONGEST: usize = 1 << 20;

/// A segment of a sum of gradients to which nothing is added anymore.
#[derive(Debug)]
pub struct Segment {
    /// Which of [`GradientSum::segments`].
    pub index: usize,
    /// Whose part of the sum it is: that of the leaves before the middle, or of those after it.
    pub side: usize,
    /// How many sides there are, 1 or 2; the parts of all are added in their order.
    pub sides: usize,
    /// The sums.
    pub values: Vec<f32>,
}

/// The sum of gradients of one leaf, in which backward adds up.
pub struct Lane<'a> {
    flat: &'a mut FlatBuffer,
    report: Option<Report<'a>>,
}

impl std::fmt::Debug for Lane<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lane").field("flat", &self.flat).field("reported", &self.report.is_some()).finish()
    }
}

/// Who gets a report from which place on a buffer is complete.
pub(crate) type Report<'a> = &'a mut dyn FnMut(&FlatBuffer, usize);

impl Lane<'_> {
    pub(crate) fn parts(&mut self) -> (&mut FlatBuffer, Option<Report<'_>>) {
        let report = self.report.as_mut().map(|report| &mut **report as Report<'_>);
        (self.flat, report)
    }
}

/// Part of the sums of neighboring leaves, a power of two, added in pairs.
fn added(lanes: &[&FlatBuffer], range: &Range<usize>) -> Result<Vec<f32>, DeviceError> {
    let [lane] = lanes else {
        let (left, right) = lanes.split_at(lanes.len() / 2);
        let (mut left, right) = (added(left, range)?, added(right, range)?);
        left.iter_mut().zip(right).for_each(|(sum, other)| *sum += other);
        return Ok(left);
    };
    lane.read(range.clone())
}

/// Sums of gradients, laid out like [`Parameters::flat`]. A batch has leaves ([`leaves`](crate::leaves)), and each leaf
/// its own sum; they are added in pairs, and the pairs in pairs. So the total has the same bits whoever computes which
/// of the leaves: the threads of one process, or several processes that own whole subtrees.
#[derive(Debug)]
pub struct GradientSum {
    device: Device,
    lanes: Vec<FlatBuffer>,
}

impl GradientSum {
    /// Zeros for the parameters of a flat buffer, one sum for each of so many leaves, a power of two. A GPU takes a batch
    /// as a whole, and has one sum.
    pub fn zeros(parameters: &Parameters, leaves: usize) -> Self {
        assert!(leaves.is_power_of_two(), "{leaves} leaves, which is not a power of two");
        let device = parameters.device().clone();
        let lanes = if device.keeps_leaves() { leaves } else { 1 };
        let lanes = (0..lanes).map(|_| device.flat_zeros(parameters.flat().len())).collect();
        GradientSum { device, lanes }
    }

    /// Zeroes them.
    pub fn clear(&mut self) {
        self.lanes.iter_mut().for_each(|lane| self.device.backend().clear(lane));
    }

    /// Adds the gradients of a batch with these leaves, as many as there are sums. The device decides how a leaf is cut:
    /// `part` is called with the device to compute on, a range of images, and where their gradients go, for ranges that
    /// together are the batch. What the calls give comes back in the order of images. How a leaf is cut depends on the
    /// leaf alone, so sums have the same bits whatever the threads.
    ///
    /// # Errors
    /// The first that a part gives.
    pub fn accumulate<T: Send, E: Send>(
        &mut self,
        batch: BatchExtent,
        leaves: &[Range<usize>],
        parameters: &Parameters,
        part: impl Fn(&Device, Range<usize>, &mut FlatBuffer) -> Result<T, E> + Sync + Send,
    ) -> Result<Vec<T>, E> {
        let part = |device: &Device, images: Range<usize>, lane: Lane<'_>| part(device, images, lane.flat);
        self.accumulate_and_report(batch, leaves, parameters, part, None)
    }

    /// As [`GradientSum::accumulate`], of the last batch of a sum. `part` gives its lane to [`Context::backward_into`].
    /// Segments ([`GradientSum::segments`]) that are complete are reported at once, from the end of the buffer to its
    /// beginning, by each of the threads that work side by side; not all of them need to be. A device that computes by
    /// itself reports none.
    ///
    /// # Errors
    /// As [`GradientSum::accumulate`].
    ///
    /// [`Context::backward_into`]: crate::Context::backward_into
    pub fn accumulate_and_report<T: Send, E: Send>(
        &mut self,
        batch: BatchExtent,
        leaves: &[Range<usize>],
        parameters: &Parameters,
        part: impl Fn(&Device, Range<usize>, Lane<'_>) -> Result<T, E> + Sync + Send,
        report: Option<&(dyn Fn(Segment) + Sync)>,
    ) -> Result<Vec<T>, E> {
        let count = parameters.declarations().specs().len();
        let segments = self.segments();
        let task =
            |device: &Device, images: Range<usize>, flat: &mut FlatBuffer, rest: Option<Rest<'_, FlatBuffer>>| {
                let mut reported = 0;
                let mut report = rest.zip(report).map(|(rest, report)| {
                    let segments = &segments;
                    move |flat: &FlatBuffer, open: usize| {
                        let Rest { before, after, side, sides } = &rest;
                        while let Some(range) = segments.get(reported).filter(|range| range.start >= open) {
                            let lanes: Vec<&FlatBuffer> = before.iter().chain([flat]).chain(after.iter()).collect();
                            // Only a device with faults of its own fails here, and it is asked for the rest later.
                            let Ok(values) = added(&lanes, range) else { return };
                            report(Segment { index: reported, side: *side, sides: *sides, values });
                            reported += 1;
                        }
                    }
                });
                let report = report.as_mut().map(|report| report as &mut dyn FnMut(&FlatBuffer, usize));
                part(device, images, Lane { flat, report })
            };
        self.device.each_part(batch, leaves, count, &mut self.lanes, task)
    }

    /// The buffer in segments of equal length, but for the last, from its end to its beginning: backward makes the
    /// gradients of the last parameters first.
    pub fn segments(&self) -> Vec<Range<usize>> {
        let all = self.lanes[0].len();
        let each = (all / SEGMENTS).clamp(SHORTEST, LONGEST);
        let ends = (0..all.div_ceil(each)).map(|index| all - index * each);
        ends.map(|end| end.saturating_sub(each)..end).collect()
    }

    /// Adds up the sums of the leaves; the total is then [`GradientSum::sum`].
    pub fn join(&mut self) {
        let (count, mut apart) = (self.lanes.len(), 1);
        while apart < count {
            for pair in self.lanes.chunks_mut(2 * apart) {
                let (left, right) = pair.split_at_mut(apart);
                self.device.backend().accumulate(&mut left[0], &right[0]);
            }
            apart *= 2;
        }
    }

    /// As [`GradientSum::join`], of a part of the buffer alone.
    ///
    /// # Errors
    /// Whatever went wrong on the device.
    pub fn join_part(&mut self, range: Range<usize>) -> Result<(), DeviceError> {
        let values = added(&self.lanes.iter().collect::<Vec<_>>(), &range)?;
        self.lanes[0].write(range.start, &values);
        Ok(())
    }

    /// Multiplies the joined sum by a factor.
    pub fn scale(&mut self, factor: f32) {
        if factor != 1.0 {
            self.device.backend().scale_buffer(&mut self.lanes[0], factor);
        }
    }

    /// The sum, once it is joined.
    pub fn sum(&self) -> &FlatBuffer {
        &self.lanes[0]
    }

    /// The sum, to be joined with those of others.
    pub fn sum_mut(&mut self) -> &mut FlatBuffer {
        &mut self.lanes[0]
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::arena::{Declarations, ParameterKind};
    use crate::device::cpu::plan::leaves;
    use crate::ops::Linear;
    use crate::random::normal;
    use crate::tape::Context;
    use crate::tensor::Tensor;

    const WIDTH: usize = 96;
    const LAYERS: usize = 6;

    /// Layers that follow each other.
    fn layers(device: &Device) -> (Parameters, Vec<Linear>) {
        let mut declarations = Declarations::default();
        let layers: Vec<Linear> = (0..LAYERS)
            .map(|layer| Linear {
                weight: declarations.declare(format!("{layer}.weight"), &[WIDTH, WIDTH], ParameterKind::Matrix),
                bias: Some(declarations.declare(format!("{layer}.bias"), &[WIDTH], ParameterKind::Plain)),
            })
            .collect();
        let mut parameters = Parameters::zeros(declarations, device.clone());
        for id in parameters.declarations().ids() {
            let values: Vec<f32> = parameters.range(id).map(|at| 0.1 * normal(3, at as u64)).collect();
            parameters.write(id, &values);
        }
        (parameters, layers)
    }

    fn forward(cx: &Context<'_>, layers: &[Linear], x: &Tensor) -> Tensor {
        let through = |x: Tensor, layer: &Linear| {
            let layer = *layer;
            cx.checkpointed(&x, move |cx, x| cx.linear(x, layer))
        };
        layers.iter().fold(x.clone(), through)
    }

    #[test]
    fn gradients_are_complete_when_it_is_said() {
        let device = Device::cpu(1);
        let (parameters, mut layers) = layers(&device);
        for (again, checkpoints) in [(false, false), (false, true), (true, false), (true, true)] {
            if again {
                layers.insert(0, layers[4]);
            }
            let cx = Context::recording(&parameters);
            let cx = if checkpoints { cx.with_checkpoints() } else { cx };
            let x: Vec<f32> = (0..5 * WIDTH).map(|at| normal(1, at as u64)).collect();
            let output = forward(&cx, &layers, &cx.watch(&device.upload([5, WIDTH], &x).expect("memory")));
            let mut flat = device.flat_zeros(parameters.flat().len());
            let mut reported: Vec<(usize, Vec<f32>)> = Vec::new();
            let mut report = |flat: &FlatBuffer, open: usize| {
                if reported.last().is_none_or(|(last, _)| *last > open) {
                    reported.push((open, flat.read(open..flat.len()).expect("memory of the CPU")));
                }
            };
            cx.backward_into(&output, output.clone(), Lane { flat: &mut flat, report: Some(&mut report) });
            let found: Vec<usize> = reported.iter().map(|(open, _)| open / (WIDTH * WIDTH + WIDTH)).collect();
            // What is used twice is complete after its first use alone, and lies before what could be reported otherwise.
            assert_eq!(found, if again { vec![5, 0] } else { vec![5, 4, 3, 2, 1, 0] });
            let end = flat.to_vec().expect("memory of the CPU");
            assert!(end.iter().all(|value| *value != 0.0));
            assert!(reported.iter().all(|(open, values)| values == &end[*open..]));
            layers.drain(..layers.len() - LAYERS);
        }
    }

    #[test]
    #[should_panic(expected = "`5.weight` gets a gradient after it was said to be complete")]
    fn a_change_of_what_is_complete_is_a_fault() {
        let device = Device::cpu(1);
        let (parameters, layers) = layers(&device);
        let cx = Context::recording(&parameters).with_checkpoints();
        let x = cx.watch(&device.upload([5, WIDTH], &[1.0; 5 * WIDTH]).expect("memory"));
        // Inside a part, a second use that was not there when the tape was recorded.
        let (hidden, last) = (std::cell::Cell::new(true), layers[5]);
        let x = cx.checkpointed(&x, move |cx, x| if hidden.take() { x.clone() } else { cx.linear(x, last) });
        let output = forward(&cx, &layers, &x);
        let mut flat = device.flat_zeros(parameters.flat().len());
        cx.backward_into(&output, output.clone(), Lane { flat: &mut flat, report: None });
    }

    #[test]
    fn segments_that_are_reported_are_those_of_the_sum() {
        for (threads, count, images) in [(1, 1, 3), (1, 4, 9), (2, 4, 9), (2, 2, 2), (4, 8, 5), (2, 4, 1)] {
            let device = Device::cpu(threads);
            let (parameters, layers) = layers(&device);
            let x: Vec<f32> = (0..images * WIDTH).map(|at| normal(2, at as u64)).collect();
            let x = device.upload([images, WIDTH], &x).expect("memory");
            let mut sum = GradientSum::zeros(&parameters, count);
            let reported = Mutex::new(Vec::new());
            let report = |segment| reported.lock().expect("no panic").push(segment);
            let extent = BatchExtent { tokens: 1000, convolutions: false };
            let part = |device: &Device, images: Range<usize>, lane: Lane<'_>| {
                let cx = Context::recording(&parameters).on(device);
                let output = forward(&cx, &layers, &cx.watch(&device.slice(&x, images)));
                cx.backward_into(&output, output.clone(), lane);
                Ok::<_, ()>(())
            };
            let own = leaves(images, count);
            sum.accumulate_and_report(extent, &own, &parameters, part, Some(&report)).expect("no error");
            let first = sum.segments()[0].clone();
            sum.join_part(first.clone()).expect("memory of the CPU");
            let part = sum.sum().read(first.clone()).expect("memory of the CPU");
            sum.clear();
            let part_again = |device: &Device, images: Range<usize>, flat: &mut FlatBuffer| {
                let cx = Context::recording(&parameters).on(device);
                let output = forward(&cx, &layers, &cx.watch(&device.slice(&x, images)));
                cx.backward_from(&output, output.clone(), Some(flat));
                Ok::<_, ()>(())
            };
            sum.accumulate(extent, &own, &parameters, part_again).expect("no error");
            sum.join();
            assert_eq!(part, sum.sum().read(first).expect("memory of the CPU"));
            let (segments, reported) = (sum.segments(), reported.into_inner().expect("no panic"));
            assert_eq!(segments.iter().map(ExactSizeIterator::len).sum::<usize>(), parameters.flat().len());
            let sides = if threads > 1 { 2 } else { 1 };
            assert!(reported.iter().all(|segment| segment.sides == sides), "{threads} threads");
            let of = |side: usize| reported.iter().filter(move |segment| segment.side == side).collect::<Vec<_>>();
            // A side without images reports nothing.
            let with_images = if images == 1 { 1 } else { sides };
            for side in 0..with_images {
                let order: Vec<usize> = of(side).iter().map(|segment| segment.index).collect();
                assert_eq!(order, (0..segments.len()).collect::<Vec<_>>(), "{threads} threads, {count} leaves");
            }
            for (index, range) in segments.iter().enumerate() {
                let mut values = of(0)[index].values.clone();
                if with_images == 2 {
                    values.iter_mut().zip(&of(1)[index].values).for_each(|(sum, other)| *sum += other);
                }
                let sum = sum.sum().read(range.clone()).expect("memory of the CPU");
                assert!(values.iter().map(|value| value.to_bits()).eq(sum.iter().map(|value| value.to_bits())));
            }
        }
    }
}
