//! Biases of attention scores that depend on how two tokens stand to each other: entries of one learned table.

use std::sync::Arc;

use crate::device::cpu::kernels::SharedMut;
use crate::tape::Context;
use crate::tensor::Tensor;

/// Which entry of a table each pair of query and key has.
#[derive(Clone, Debug)]
pub struct Relations {
    tokens: usize,
    entries: usize,
    /// `[tokens, tokens]`, queries before keys.
    indices: Arc<[u32]>,
}

impl Relations {
    /// Relations of so many tokens, `[tokens, tokens]`, into a table of so many entries.
    ///
    /// # Panics
    /// When there is not one index for each pair, or one is beyond the table.
    pub fn new(tokens: usize, entries: usize, indices: Vec<u32>) -> Self {
        assert_eq!(indices.len(), tokens * tokens, "one relation for each pair of {tokens} tokens");
        assert!(indices.iter().all(|&index| (index as usize) < entries), "a relation is beyond {entries} entries");
        Relations { tokens, entries, indices: indices.into() }
    }
}

impl Context<'_> {
    /// The bias of every pair of tokens, `[heads, tokens, tokens]`, from a table `[entries, heads]`.
    ///
    /// # Panics
    /// When the table has another number of entries than the relations speak of.
    pub fn relation_bias(&self, table: &Tensor, relations: &Relations) -> Tensor {
        let heads = table.shape().last();
        let Relations { tokens, entries, .. } = *relations;
        assert_eq!(table.shape()[..], [entries, heads], "a table of {entries} entries");
        let area = tokens * tokens;
        let output = Tensor::filled(self.device, [heads, tokens, tokens], |out| {
            let out = SharedMut::new(out);
            self.device.parallel(heads, |head| {
                // A head's own entries side by side: they stay in cache while they are looked up.
                let own: Vec<f32> = table.values().iter().skip(head).step_by(heads).copied().collect();
                for (out, &index) in out.part(head * area, area).iter_mut().zip(&*relations.indices) {
                    *out = own[index as usize];
                }
            });
        });
        let node = table.node;
        self.record(output, node.is_some(), || {
            let indices = Arc::clone(&relations.indices);
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| {
                    Tensor::filled(g.device, [entries, heads], |out| {
                        let mut own = vec![0.0; entries * heads];
                        let sums = SharedMut::new(&mut own);
                        g.device.parallel(heads, |head| {
                            let sums = sums.part(head * entries, entries);
                            for (grad, &index) in grad.values()[head * area..].iter().zip(&*indices) {
                                sums[index as usize] += grad;
                            }
                        });
                        for (i, out) in out.iter_mut().enumerate() {
                            *out = own[i % heads * entries + i / heads];
                        }
                    })
                });
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::{Check, Golden};
    use super::*;

    #[test]
    fn equals_pytorch() {
        let golden = Golden::load("relation_bias");
        let indices: Vec<u32> = golden.integers("indices").into_iter().map(|index| index as u32).collect();
        let relations = Relations::new(indices.len().isqrt(), golden.tensor("table").extent(0), indices);
        Check::new()
            .against(&golden, &[golden.tensor("table")], &["table"], |cx, x| cx.relation_bias(&x[0], &relations));
    }

    #[test]
    fn entries_are_looked_up_and_their_gradients_summed() {
        let check = Check::new();
        let relations = Relations::new(2, 3, vec![2, 0, 0, 1]);
        let table = check.tensor(&[3, 2], &[1.0, 10.0, 2.0, 20.0, 3.0, 30.0]);
        let bias = check.run(std::slice::from_ref(&table), |cx, x| cx.relation_bias(&x[0], &relations));
        assert_eq!(bias.values(), [3.0, 1.0, 1.0, 2.0, 30.0, 10.0, 10.0, 20.0]);
        check.differences(&[table], |cx, x| cx.relation_bias(&x[0], &relations));
    }

    #[test]
    #[should_panic(expected = "beyond 3 entries")]
    fn an_index_beyond_the_table_is_refused() {
        Relations::new(1, 3, vec![3]);
    }
}
