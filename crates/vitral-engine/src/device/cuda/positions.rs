//! Rotary positions, relative positions, and resampled grids.

use std::sync::Arc;

use super::api::driver::Grid;
use super::launch::{Arg, Source, spread};
use super::memory::Element;
use super::parameters::Parameter;
use super::{Cuda, stored};
use crate::device::backend::{AxisMatrix, GridPlaces, Positions, RotationTable};
use crate::device::storage::ParameterView;
use crate::tensor::Tensor;

impl Positions for Cuda {
    fn rotate(&self, qkv: &Tensor, rotation: &RotationTable, back: bool) -> Tensor {
        let [_, tokens, packed] = qkv.shape()[..] else { panic!("packed qkv is [batch, tokens, …]") };
        let memory = stored(qkv);
        let out = self.allocate(memory.element, memory.len());
        let [cosines, sines] = [&rotation.cosines, &rotation.sines].map(|values| self.table(values));
        let arguments = [
            Arg::Of(memory),
            Arg::Of(&out),
            Arg::Count(memory.len()),
            Arg::Int(tokens),
            Arg::Int(packed),
            Arg::Int(rotation.prefix),
            Arg::Int(rotation.pairs),
            Arg::Of(&cosines),
            Arg::Of(&sines),
            Arg::Float(if back { -1.0 } else { 1.0 }),
        ];
        self.launch_for(memory.element, Source::Positions, "rotate", spread(memory.len()), &arguments);
        Cuda::tensor(qkv.shape(), out)
    }

    fn rotate_by(&self, qkv: &Tensor, frequencies: ParameterView<'_>, places: GridPlaces, back: bool) -> Tensor {
        let [_, tokens, packed] = qkv.shape()[..] else { panic!("packed qkv is [batch, tokens, …]") };
        let memory = stored(qkv);
        let frequencies = self.values_of(Parameter::of(frequencies));
        let out = self.allocate(memory.element, memory.len());
        let arguments = [
            Arg::Of(memory),
            Arg::Of(&frequencies),
            Arg::Of(&out),
            Arg::Count(memory.len()),
            Arg::Int(tokens),
            Arg::Int(packed),
            Arg::Int(places.prefix),
            Arg::Int(places.pairs),
            Arg::Int(places.grid[1]),
            Arg::Int(usize::from(places.rows_first)),
            Arg::Float(if back { -1.0 } else { 1.0 }),
        ];
        self.launch_for(memory.element, Source::Positions, "rotate_by", spread(memory.len()), &arguments);
        Cuda::tensor(qkv.shape(), out)
    }

    fn rotate_by_backward(&self, turned: &Tensor, grad: &Tensor, places: GridPlaces) -> Tensor {
        let [batch, tokens, packed] = turned.shape()[..] else { panic!("packed qkv is [batch, tokens, …]") };
        let [turned, grad] = [turned, grad].map(|x| self.wide(stored(x)));
        let width = packed / 3;
        let out = self.allocate(Element::F32, width);
        let arguments = [
            Arg::Of(&turned),
            Arg::Of(&grad),
            Arg::Of(&out),
            Arg::Count(batch * (tokens - places.prefix)),
            Arg::Int(tokens),
            Arg::Int(packed),
            Arg::Int(places.prefix),
            Arg::Int(places.pairs),
            Arg::Int(places.grid[1]),
            Arg::Int(usize::from(places.rows_first)),
        ];
        let grid = Grid { blocks: [width / 2, 1, 1], threads: 256, shared: 0 };
        self.launch(Source::Positions, "rotate_by_backward", grid, &arguments);
        Cuda::tensor([1, width], out)
    }

    fn add_query_value_bias(&self, qkv: &Tensor, query: ParameterView<'_>, value: ParameterView<'_>) -> Tensor {
        let memory = stored(qkv);
        let [query, value] = [query, value].map(|view| self.values_of(Parameter::of(view)));
        let out = self.allocate(memory.element, memory.len());
        let arguments = [
            Arg::Of(memory),
            Arg::Of(&query),
            Arg::Of(&value),
            Arg::Of(&out),
            Arg::Count(memory.len()),
            Arg::Int(qkv.shape().last() / 3),
        ];
        self.launch_for(memory.element, Source::Positions, "add_query_value_bias", spread(memory.len()), &arguments);
        Cuda::tensor(qkv.shape(), out)
    }

    fn relation_bias(&self, table: &Tensor, tokens: usize, indices: &Arc<[u32]>) -> Tensor {
        let (memory, heads) = (self.wide(stored(table)), table.shape().last());
        let out = self.allocate(Element::F32, heads * tokens * tokens);
        let indices = self.table(indices);
        let arguments = [
            Arg::Of(&memory),
            Arg::Of(&out),
            Arg::Count(out.len()),
            Arg::Count(tokens * tokens),
            Arg::Int(heads),
            Arg::Of(&indices),
        ];
        self.launch(Source::Positions, "relation_bias", spread(out.len()), &arguments);
        Cuda::tensor([heads, tokens, tokens], out)
    }

    fn relation_bias_backward(&self, grad: &Tensor, entries: usize, indices: &Arc<[u32]>) -> Tensor {
        let (memory, heads) = (self.wide(stored(grad)), grad.extent(0));
        let out = self.allocate(Element::F32, entries * heads);
        let (area, indices) = (indices.len(), self.table(indices));
        let arguments = [Arg::Of(&memory), Arg::Of(&out), Arg::Count(area), Arg::Int(heads), Arg::Of(&indices)];
        let grid = Grid { blocks: [entries, heads, 1], threads: 256, shared: 0 };
        self.launch(Source::Positions, "relation_bias_backward", grid, &arguments);
        Cuda::tensor([entries, heads], out)
    }

    fn resample(&self, grid: &Tensor, axes: [&AxisMatrix; 2], transposed: bool) -> Tensor {
        let [grids, _, width] = grid.shape()[..] else { panic!("grids are [grids, rows · columns, width]") };
        let memory = self.wide(stored(grid));
        let [(rows, row_steps), (columns, column_steps)] = axes.map(|axis| {
            let extents = if transposed { [axis.to, axis.from] } else { [axis.from, axis.to] };
            (extents, if transposed { [1, axis.from] } else { [axis.from, 1] })
        });
        let weights = axes.map(|axis| self.table(&axis.weights));
        let out = self.allocate(Element::F32, grids * rows[1] * columns[1] * width);
        let arguments = [
            Arg::Of(&memory),
            Arg::Of(&out),
            Arg::Count(out.len()),
            Arg::Int(width),
            Arg::Int(rows[0]),
            Arg::Int(columns[0]),
            Arg::Int(rows[1]),
            Arg::Int(columns[1]),
            Arg::Of(&weights[0]),
            Arg::Int(row_steps[0]),
            Arg::Int(row_steps[1]),
            Arg::Of(&weights[1]),
            Arg::Int(column_steps[0]),
            Arg::Int(column_steps[1]),
        ];
        self.launch(Source::Positions, "resample", spread(out.len()), &arguments);
        Cuda::tensor([grids, rows[1] * columns[1], width], out)
    }
}
