//! Multi-head self-attention with its projections.

use super::attribute::{float, int};
use super::graph::{Graph, Value};
use super::initializer::{Weights, transposed};
use super::options::Opset;
use crate::config::{Axis, RelativePositions, Rotary, Size};
use crate::model::{relation_entries, rotation_angles};
use crate::weights::adapt::relative_positions_at;

/// What the attention of every block is given.
#[derive(Clone, Copy)]
pub(super) struct BlockContext {
    /// The patch grid.
    pub(super) grid: Size,
    /// How many tokens of the block's output are used, counted from the first; `None` for all.
    pub(super) tokens_read: Option<usize>,
}

impl Graph<'_> {
    /// Attention of `x`, `[batch, tokens, width]`, and its projection, for the tokens that are used.
    pub(super) fn attention(&mut self, place: &str, x: &Value, context: BlockContext) -> Value {
        let config = self.config();
        let inner = config.attention_width();
        let at = |part: &str| format!("{place}.{part}");

        let qkv = match config.qkv_bias && !config.key_bias {
            true => {
                let bias = self.query_value_bias(place, inner);
                self.linear_with(&at("qkv"), &at("qkv"), x, Some(bias))
            }
            false => self.linear(&at("qkv"), x),
        };
        let [query, key, value] = self.split(&at("parts"), &qkv, [("query", inner), ("key", inner), ("value", inner)]);
        let query = match context.tokens_read {
            Some(read) => self.tokens(&at("queries"), &query, 0, read),
            None => query,
        };

        let bias = self.relative_bias(place, context);
        let mixed = match self.opset >= Opset::V23 {
            true => self.mixed_at_once(place, [query, key, value], bias, context),
            false => self.mixed(place, [query, key, value], bias, context),
        };
        let mixed = self.norm_if(config.attention_norm, &at("norm"), &mixed);
        if config.attention_projection { self.linear(&at("projection"), &mixed) } else { mixed }
    }

    /// Attention in the steps that runtimes recognize: `[batch, queries, heads · head width]`.
    fn mixed(
        &mut self,
        place: &str,
        [query, key, value]: [Value; 3],
        bias: Option<Value>,
        context: BlockContext,
    ) -> Value {
        let config = self.config();
        let at = |part: &str| format!("{place}.{part}");
        let query = self.in_heads(place, "query", &query, context);
        let keys = match config.rotary {
            Some(_) => {
                let key = self.in_heads(place, "key", &key, context);
                self.transpose(&at("key.transposed"), &key, &[0, 1, 3, 2])
            }
            None => {
                let key = self.split_heads(place, "key", &key);
                self.transpose(&at("key.transposed"), &key, &[0, 2, 3, 1])
            }
        };
        let value = self.in_heads(place, "value", &value, context);
        let scale = self.number("attention_scale", config.attention_scale());
        let query = self.multiply(&at("query.scaled"), &query, &scale);
        let mut scores = self.product(&at("scores"), &query, &keys);
        if let Some(bias) = bias {
            scores = self.add(&at("biased"), &scores, &bias);
        }
        let weights = self.softmax(&at("weights"), &scores);
        let mixed = self.product(&at("mixed"), &weights, &value);
        self.joined(place, &mixed)
    }

    /// The same as one operator.
    fn mixed_at_once(
        &mut self,
        place: &str,
        [query, key, value]: [Value; 3],
        bias: Option<Value>,
        context: BlockContext,
    ) -> Value {
        let config = self.config();
        let scale = float("scale", config.attention_scale());
        // The operator splits into heads by itself, unless something else happens to heads first.
        let whole = !config.qk_norm && config.rotary.is_none();
        let parts = [("query", query), ("key", key), ("value", value)];
        let parts = parts.map(|(name, x)| if whole { x } else { self.in_heads(place, name, &x, context) });
        let mut attributes = vec![scale];
        if whole {
            attributes.extend(["q_num_heads", "kv_num_heads"].map(|name| int(name, config.heads as i64)));
        }
        let inputs: Vec<&Value> = parts.iter().chain(&bias).collect();
        let mixed = self.node("Attention", &format!("{place}.mixed"), &inputs, attributes);
        if whole { mixed } else { self.joined(place, &mixed) }
    }

    /// `[batch, tokens, heads · head width]` to `[batch, tokens, heads, head width]`, normed where queries and keys are.
    fn split_heads(&mut self, place: &str, name: &str, x: &Value) -> Value {
        let config = self.config();
        let split = self.reshape(&format!("{place}.{name}.split"), x, &[0, 0, config.heads, config.head_width]);
        self.norm_if(config.qk_norm && name != "value", &format!("{place}.{name}_norm"), &split)
    }

    /// The same, then to `[batch, heads, tokens, head width]`, turned by the tokens' places where queries and keys are.
    fn in_heads(&mut self, place: &str, name: &str, x: &Value, context: BlockContext) -> Value {
        let split = self.split_heads(place, name, x);
        let heads = self.transpose(&format!("{place}.{name}.heads"), &split, &[0, 2, 1, 3]);
        let rotary = self.config().rotary.is_some();
        // Prefix tokens do not turn, and only they are read alone.
        let turns = name == "key" || name == "query" && context.tokens_read.is_none();
        match rotary && turns {
            true => self.rotated(place, &format!("{place}.{name}.rotated"), &heads, context.grid),
            false => heads,
        }
    }

    /// `[batch, heads, tokens, head width]` to `[batch, tokens, heads · head width]`.
    fn joined(&mut self, place: &str, x: &Value) -> Value {
        let inner = self.config().attention_width();
        let tokens = self.transpose(&format!("{place}.mixed.tokens"), x, &[0, 2, 1, 3]);
        self.reshape(&format!("{place}.mixed.joined"), &tokens, &[0, 0, inner])
    }

    /// The bias of queries and values, with zeros for keys.
    fn query_value_bias(&mut self, place: &str, inner: usize) -> Value {
        let [query, value] = ["query", "value"].map(|part| format!("{place}.{part}.bias"));
        for name in [&query, &value] {
            self.spec(name);
        }
        self.calculated(&format!("{place}.qkv.bias"), &[3 * inner], move |weights| {
            let mut bias = weights.values(&query)?.into_owned();
            bias.resize(2 * inner, 0.0);
            bias.extend_from_slice(&weights.values(&value)?);
            Ok(bias)
        })
    }

    /// `x cos + turned(x) sin`, in which a head's second half comes first, negated.
    fn rotated(&mut self, place: &str, name: &str, x: &Value, grid: Size) -> Value {
        let at = |part: &str| format!("{name}.{part}");
        let half = self.config().head_width / 2;
        let [cosines, sines] = [("cosines", f32::cos as fn(f32) -> f32, 1.0), ("sines", f32::sin, 0.0)]
            .map(|(name, function, unturned)| self.rotation_table(place, name, grid, function, unturned));
        let [first, second] = self.split(&at("halves"), x, [("first", half), ("second", half)]);
        let negated = self.node("Neg", &at("negated"), &[&second], vec![]);
        let turned = self.concatenate(&at("turned"), &[&negated, &first], -1);
        let along = self.multiply(&at("along"), x, &cosines);
        let across = self.multiply(&at("across"), &turned, &sines);
        self.add(name, &along, &across)
    }

    /// A function of the angle of every token and channel, `[tokens, head width]`, which all blocks share; of every head as
    /// well, `[heads, tokens, head width]`, if a block's heads have frequencies of their own.
    fn rotation_table(
        &mut self,
        place: &str,
        name: &str,
        grid: Size,
        function: fn(f32) -> f32,
        unturned: f32,
    ) -> Value {
        let config = self.config().clone();
        let (prefix, width, heads) = (config.prefix_tokens(), config.head_width, config.heads);
        // Both channels of a pair turn by one angle.
        let turned = move |angles: &[f32], table: &mut Vec<f32>| {
            table.extend(angles.iter().chain(angles).map(|&angle| function(angle)));
        };
        let tokens = prefix + grid.area();
        if let Some(Rotary::Mixed { first, .. }) = config.rotary {
            let name = format!("{place}.rotation.{name}");
            if let Some(table) = self.there(&name) {
                return table;
            }
            let source = format!("{place}.frequencies");
            self.spec(&source);
            return self.calculated(&name, &[heads, tokens, width], move |weights| {
                let frequencies = weights.values(&source)?;
                let (firsts, seconds) = frequencies.split_at(frequencies.len() / 2);
                let mut table = Vec::with_capacity(heads * tokens * width);
                for (firsts, seconds) in firsts.chunks_exact(width / 2).zip(seconds.chunks_exact(width / 2)) {
                    table.resize(table.len() + prefix * width, unturned);
                    for token in 0..grid.area() {
                        let (row, column) = ((token / grid.width) as f32, (token % grid.width) as f32);
                        let (a, b) = if first == Axis::Rows { (row, column) } else { (column, row) };
                        let angles: Vec<f32> = firsts.iter().zip(seconds).map(|(f, s)| a * f + b * s).collect();
                        turned(&angles, &mut table);
                    }
                }
                Ok(table)
            });
        }
        let name = format!("rotation.{name}");
        if let Some(table) = self.there(&name) {
            return table;
        }
        self.calculated(&name, &[tokens, width], move |_| {
            let mut table = vec![unturned; prefix * width];
            let angles = rotation_angles(&config, grid).expect("a model with rotary positions");
            angles.chunks_exact(width / 2).for_each(|angles| turned(angles, &mut table));
            Ok(table)
        })
    }

    /// The bias of every head, query and key, `[heads, queries, tokens]`, looked up in the tables of relative positions.
    fn relative_bias(&mut self, place: &str, context: BlockContext) -> Option<Value> {
        let config = self.config();
        let kind = config.relative_positions;
        if kind == RelativePositions::None {
            return None;
        }
        let BlockContext { grid, tokens_read } = context;
        let tokens = config.prefix_tokens() + grid.area();
        let queries = tokens_read.unwrap_or(tokens);
        let label = tokens_read.map_or("relations".into(), |read| format!("relations.first_{read}"));
        let entries = self.integer_table(&label, &[queries, tokens], || {
            relation_entries(grid).into_iter().take(queries * tokens).map(i64::from).collect()
        });
        let own = kind.in_blocks().then(|| format!("{place}.relative_positions"));
        let shared = kind.shared().then(|| "relative_positions".to_owned());
        // Blocks that only use the shared table have one bias.
        let name = own.clone().or_else(|| shared.clone()).expect("one of them");
        let bias = match (&own, tokens_read) {
            (Some(_), _) => format!("{place}.relative_positions.bias"),
            (None, None) => "relative_positions.bias".to_owned(),
            (None, Some(read)) => format!("relative_positions.bias.first_{read}"),
        };
        if let Some(bias) = self.there(&bias) {
            return Some(bias);
        }
        let table = self.relative_table(&name, own.into_iter().chain(shared).collect(), grid);
        Some(self.node("Gather", &bias, &[&table, &entries], vec![int("axis", 1)]))
    }

    /// The sum of tables `[entries, heads]` for this grid, as `[heads, entries]`.
    fn relative_table(&mut self, name: &str, tables: Vec<String>, grid: Size) -> Value {
        let config = self.config().clone();
        let as_stored = tables.len() == 1 && config.grid() == grid;
        let (heads, entries) = (config.heads, RelativePositions::entries(grid));
        tables.iter().for_each(|table| {
            self.spec(table);
        });
        if let Some(table) = self.there(name) {
            return table;
        }
        let calculate = move |weights: &Weights<'_, '_>| {
            let mut sum: Vec<f32> = weights.values(&tables[0])?.into_owned();
            for table in &tables[1..] {
                sum.iter_mut().zip(weights.values(table)?.iter()).for_each(|(sum, value)| *sum += value);
            }
            let resized = relative_positions_at(sum.into(), &config, grid);
            Ok(transposed(&resized, entries, heads))
        };
        // Sums and what is resampled are no longer values that 16 bits hold.
        match as_stored {
            true => self.stored(name, &[heads, entries], calculate),
            false => self.calculated(name, &[heads, entries], calculate),
        }
    }
}
