//! Biases of attention scores that depend on the relative position of two tokens: entries of one trained table.

use std::sync::Arc;

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
        let Relations { tokens, entries, .. } = *relations;
        assert_eq!(table.shape()[..], [entries, table.shape().last()], "a table of {entries} entries");
        let output = self.backend().relation_bias(table, tokens, &relations.indices);
        let node = table.node;
        self.record(output, node.is_some(), || {
            let indices = Arc::clone(&relations.indices);
            Box::new(move |grad, gradients| {
                gradients.add(node, |g| g.backend().relation_bias_backward(grad, entries, &indices));
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
