//! Gradients summed, clipped, and followed.

use super::api::driver::Grid;
use super::heap::locked;
use super::launch::{Arg, Source, rows, spread};
use super::memory::Element;
use super::runs::RunTable;
use super::step::Step;
use super::{Cuda, muon, stored};
use crate::device::backend::{ClipCall, UpdateBuffers, UpdateCall, UpdateGroup, UpdateRule, Updates};
use crate::device::storage::FlatBuffer;
use crate::tensor::Tensor;

/// Values that a block steps.
const RUN: usize = 4096;
impl Cuda {
    /// The table of a step: that of the step before, if the groups are the same.
    fn runs(&self, groups: &[UpdateGroup]) -> RunTable {
        let mut kept = locked(&self.inner.runs);
        if let Some(table) = kept.as_ref().filter(|table| table.groups == groups) {
            return table.clone();
        }
        let (mut words, mut tensors, mut of_groups) = (Vec::new(), Vec::new(), Vec::new());
        for group in groups {
            let first = tensors.len();
            for start in group.range.clone().step_by(RUN) {
                let length = RUN.min(group.range.end - start) as u32;
                words.extend([start as u32, (start as u64 >> 32) as u32, length, first as u32]);
                words.extend([group.learning_rate_scale.to_bits(), group.weight_decay.to_bits()]);
                tensors.push(0);
            }
            let count = tensors.len() - first;
            of_groups.push((first, count));
            if let Some(runs) = tensors.get_mut(first) {
                *runs = count as u32;
            }
        }
        let table =
            RunTable { groups: groups.to_vec(), memory: self.words(&words), tensors: self.words(&tensors), of_groups };
        *kept = Some(table.clone());
        table
    }
}

impl Updates for Cuda {
    fn clear(&self, buffer: &mut FlatBuffer) {
        let flat = buffer.cuda();
        self.clear_memory(&flat.memory);
        flat.changed();
    }

    fn accumulate(&self, sums: &mut FlatBuffer, numbers: &FlatBuffer) {
        let (sums, numbers) = (sums.cuda(), numbers.cuda());
        let count = sums.len();
        let arguments = [Arg::Of(&sums.memory), Arg::Of(&numbers.memory), Arg::Count(count)];
        self.launch(Source::Updates, "accumulate", spread(count), &arguments);
        sums.changed();
    }

    fn scale_buffer(&self, buffer: &mut FlatBuffer, factor: f32) {
        let flat = buffer.cuda();
        let arguments = [Arg::Of(&flat.memory), Arg::Count(flat.len()), Arg::Float(factor)];
        self.launch(Source::Updates, "scale_buffer", spread(flat.len()), &arguments);
        flat.changed();
    }

    fn clip(&self, gradients: &mut FlatBuffer, clip: Option<&ClipCall>, parameters: &FlatBuffer) -> Tensor {
        let memory = &gradients.cuda().memory;
        let count = memory.len();
        let norm = self.norm_of((memory, 0), count);
        let limited = |name: &str, limit: f32| {
            let arguments = [Arg::Of(memory), Arg::Of(&norm), Arg::Count(count), Arg::Float(limit)];
            self.launch(Source::Updates, name, spread(count), &arguments);
        };
        match clip {
            None => {}
            Some(ClipCall::Norm(limit)) => limited("clip_norm", *limit),
            Some(ClipCall::Value(limit)) => limited("clip_value", *limit),
            Some(ClipCall::Adaptive { share, units }) => {
                let mut words = Vec::new();
                for (range, unit) in units {
                    for start in range.clone().step_by((*unit).max(1)) {
                        let length = (*unit).max(1).min(range.end - start);
                        words.extend([start as u32, (start as u64 >> 32) as u32, length as u32, 0]);
                    }
                }
                let (units, table) = (words.len() / 4, self.words(&words));
                let parameters = &parameters.cuda().memory;
                let arguments =
                    [Arg::Of(memory), Arg::Of(&norm), Arg::Of(parameters), Arg::Of(&table), Arg::Float(*share)];
                self.launch(Source::Updates, "clip_adaptive", rows(units), &arguments);
            }
        }
        Cuda::tensor([1], norm)
    }

    fn all_finite(&self, values: &[&Tensor]) -> Tensor {
        let flag = self.allocate(Element::F32, 1);
        self.fill(&flag, 1.0);
        for tensor in values {
            let memory = stored(tensor);
            let arguments = [Arg::Of(memory), Arg::Of(&flag), Arg::Count(memory.len())];
            self.launch_for(memory.element, Source::Updates, "check_finite", spread(memory.len()), &arguments);
        }
        Cuda::tensor([1], flag)
    }

    fn update(&self, call: &UpdateCall<'_>, buffers: UpdateBuffers<'_>, gate: &Tensor) {
        assert_eq!(buffers.moments_from, 0, "moments of a share are kept on the CPU");
        let step = Step {
            device: self,
            call,
            parameters: buffers.parameters.cuda(),
            gradients: &buffers.gradients.cuda().memory,
            first: &buffers.first.cuda().memory,
            second: &buffers.second.cuda().memory,
            gate: stored(gate),
            copy: buffers.parameters.cuda().copy_to_update(),
        };
        // Groups with the same rule are stepped together.
        let mut rules: Vec<(UpdateRule, Vec<UpdateGroup>)> = Vec::new();
        for group in call.groups {
            let rule = group.rule.unwrap_or(call.rule);
            match rules.iter_mut().find(|(known, _)| *known == rule) {
                Some((_, groups)) => groups.push(group.clone()),
                None => rules.push((rule, vec![group.clone()])),
            }
        }
        for (rule, groups) in rules {
            step.apply(rule, &groups);
        }
        buffers.first.cuda().changed();
        buffers.second.cuda().changed();
        if step.copy.is_none() {
            buffers.parameters.cuda().changed();
        }
    }

    fn ema_update(&self, average: &mut FlatBuffer, parameters: &FlatBuffer, decay: f32, gate: &Tensor) {
        let (average, parameters) = (average.cuda(), parameters.cuda());
        let count = average.len();
        let arguments = [
            Arg::Of(&average.memory),
            Arg::Of(&parameters.memory),
            Arg::Of(stored(gate)),
            Arg::Count(count),
            Arg::Float(1.0 - decay),
        ];
        self.launch(Source::Updates, "ema_update", spread(count), &arguments);
        average.changed();
    }
}

impl Step<'_> {
    /// Queues a kernel that writes the parameters, rounding them as the copy in 16 bits is.
    pub(super) fn launch(&self, name: &str, grid: Grid, arguments: &[Arg<'_>]) {
        let f16 = self.copy.as_ref().is_some_and(|copy| copy.element == Element::F16);
        self.device.launch_in(f16, Source::Updates, name, grid, arguments);
    }

    fn apply(&self, rule: UpdateRule, groups: &[UpdateGroup]) {
        match rule {
            UpdateRule::Adamw { beta1, beta2, epsilon } => self.elementwise(0, groups, [beta1, beta2], epsilon, false),
            UpdateRule::Sgd { momentum, nesterov } => self.elementwise(1, groups, [momentum, 0.0], 0.0, nesterov),
            UpdateRule::Lion { beta1, beta2 } => self.elementwise(2, groups, [beta1, beta2], 0.0, false),
            UpdateRule::Lamb { beta1, beta2, epsilon } => self.lamb(groups, [beta1, beta2], epsilon),
            UpdateRule::Muon { momentum, nesterov, match_adamw } => {
                groups.iter().for_each(|group| muon::step(self, group, momentum, nesterov, match_adamw));
            }
        }
    }

    fn elementwise(&self, rule: usize, groups: &[UpdateGroup], betas: [f32; 2], epsilon: f32, nesterov: bool) {
        let table = self.device.runs(groups);
        let runs = table.of_groups.last().map_or(0, |(first, count)| first + count);
        let [correct1, correct2] = if rule == 0 { betas.map(|beta| self.correction(beta)) } else { [1.0; 2] };
        let arguments = [
            Arg::Of(&table.memory),
            Arg::Of(self.gate),
            Arg::Of(&self.parameters.memory),
            Arg::Of(self.first),
            Arg::Of(self.second),
            Arg::Of(self.gradients),
            Arg::Maybe(self.copy.as_ref()),
            Arg::Int(rule),
            Arg::Float(self.call.learning_rate),
            Arg::Float(betas[0]),
            Arg::Float(betas[1]),
            Arg::Float(epsilon),
            Arg::Float(correct1),
            Arg::Float(correct2),
            Arg::Int(usize::from(nesterov)),
            Arg::Int(usize::from(self.call.step <= 1)),
        ];
        self.launch("step", rows(runs), &arguments);
    }

    fn lamb(&self, groups: &[UpdateGroup], betas: [f32; 2], epsilon: f32) {
        let table = self.device.runs(groups);
        let runs = table.of_groups.last().map_or(0, |(first, count)| first + count);
        let along = self.device.allocate(Element::F32, self.parameters.len());
        let squares = self.device.allocate(Element::F32, 2 * runs.max(1));
        let [correct1, correct2] = betas.map(|beta| self.correction(beta));
        let arguments = [
            Arg::Of(&table.memory),
            Arg::Of(self.gate),
            Arg::Of(&self.parameters.memory),
            Arg::Of(self.first),
            Arg::Of(self.second),
            Arg::Of(self.gradients),
            Arg::Of(&along),
            Arg::Of(&squares),
            Arg::Float(betas[0]),
            Arg::Float(betas[1]),
            Arg::Float(epsilon),
            Arg::Float(correct1),
            Arg::Float(correct2),
        ];
        self.device.launch(Source::Updates, "lamb_moments", rows(runs), &arguments);
        let arguments = [
            Arg::Of(&table.memory),
            Arg::Of(&table.tensors),
            Arg::Of(self.gate),
            Arg::Of(&self.parameters.memory),
            Arg::Of(&along),
            Arg::Of(&squares),
            Arg::Maybe(self.copy.as_ref()),
            Arg::Float(self.call.learning_rate),
        ];
        self.launch("lamb_step", rows(runs), &arguments);
    }
}
