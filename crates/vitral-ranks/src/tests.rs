//! Ranks as threads.

use std::thread;
use std::time::Duration;

use crate::{Failed, Ranks};

/// Runs a function on every rank, and gives the results in their order.
fn on<T: Send>(count: usize, rank: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let running: Vec<_> = Ranks::threads(count).into_iter().map(|ranks| scope.spawn(|| rank(ranks))).collect();
        running.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

/// A value whose sums depend on their order.
fn value(rank: usize, index: usize) -> f32 {
    let mixed = (rank as u64 * 7919 + index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> 40) as f32 / 1e3 * if mixed & 1 == 0 { 1.0 } else { -1.0 }
}

/// Pairs, then pairs of pairs.
fn tree(values: &[f32]) -> f32 {
    match values {
        [value] => *value,
        values => {
            let (left, right) = values.split_at(values.len() / 2);
            tree(left) + tree(right)
        }
    }
}

#[test]
fn sums_are_those_of_the_tree_on_every_rank() {
    for size in [1, 2, 4, 8] {
        for count in [0, 1, 2, 3, 7, 64, 1000, (1 << 20) + 5] {
            let expected: Vec<f32> =
                (0..count).map(|index| tree(&(0..size).map(|rank| value(rank, index)).collect::<Vec<_>>())).collect();
            let found = on(size, |ranks| {
                let mut values: Vec<f32> = (0..count).map(|index| value(ranks.rank(), index)).collect();
                ranks.sum(&mut values).expect("no fault");
                values
            });
            assert!(found.iter().all(|found| *found == expected), "{size} ranks, {count} values");
        }
    }
}

#[test]
fn a_rank_may_own_whole_subtrees() {
    let leaves: Vec<Vec<f32>> = (0..8).map(|leaf| (0..100).map(|index| value(leaf, index)).collect()).collect();
    let total = |size: usize| {
        let each = 8 / size;
        let found = on(size, |ranks| {
            let own = &leaves[ranks.rank() * each..][..each];
            let mut sum: Vec<f32> =
                (0..100).map(|index| tree(&own.iter().map(|leaf| leaf[index]).collect::<Vec<_>>())).collect();
            ranks.sum(&mut sum).expect("no fault");
            sum
        });
        found[0].clone()
    };
    assert_eq!(total(1), total(2));
    assert_eq!(total(1), total(4));
    assert_eq!(total(1), total(8));
}

#[test]
fn what_each_owns_reaches_all() {
    for size in [1, 2, 4, 8] {
        // Of different sizes, some with nothing.
        let bounds: Vec<usize> = (0..=size).map(|rank| if rank < 3 { rank / 2 * 5 } else { rank * 3 }).collect();
        let owned: Vec<_> = bounds.windows(2).map(|pair| pair[0]..pair[1]).collect();
        let count = *bounds.last().expect("one");
        let expected: Vec<f32> = (0..count).map(|index| index as f32).collect();
        let found = on(size, |ranks| {
            let mut values = vec![-1.0; count];
            owned[ranks.rank()].clone().for_each(|index| values[index] = index as f32);
            ranks.share_out(&mut values, &owned).expect("no fault");
            values
        });
        assert!(found.iter().all(|found| *found == expected), "{size} ranks");
    }
}

#[test]
fn everybody_gets_what_everybody_gives() {
    for size in 1..10 {
        let of = |rank: usize| vec![rank as u8; rank * rank % 7];
        let expected: Vec<Vec<u8>> = (0..size).map(of).collect();
        let found = on(size, |ranks| {
            let all = ranks.gather(&of(ranks.rank())).expect("no fault");
            let mut word = if ranks.is_first() { b"a word".to_vec() } else { Vec::new() };
            ranks.broadcast(&mut word).expect("no fault");
            (all, word)
        });
        for (all, word) in found {
            assert_eq!(all, expected, "{size} ranks");
            assert_eq!(word, b"a word", "{size} ranks");
        }
    }
}

#[test]
fn bytes_go_from_one_to_another() {
    let found = on(3, |ranks| match ranks.rank() {
        0 => [1, 2].map(|from| ranks.receive(from).expect("no fault")).concat(),
        rank => {
            ranks.send(0, &vec![rank as u8; rank - 1]).expect("no fault");
            Vec::new()
        }
    });
    assert_eq!(found[0], [2]);
}

#[test]
fn all_end_with_the_error_of_one() {
    let found = on(4, |ranks| {
        let result = if ranks.rank() == 2 { Err("the disk is full".to_owned()) } else { Ok(5) };
        let agreed = ranks.agree(result);
        (
            agreed.map_err(|failed| match failed {
                Failed::Here(error) => error,
                Failed::Elsewhere(error) => error.to_string(),
            }),
            ranks.has_failed(),
        )
    });
    for (rank, (result, told)) in found.into_iter().enumerate() {
        let expected = if rank == 2 { "the disk is full" } else { "rank 2: the disk is full" };
        assert_eq!(result, Err(expected.to_owned()));
        assert!(told);
    }
    let found = on(4, |ranks| (ranks.any(ranks.rank() == 3).expect("well"), ranks.any(false).expect("well")));
    assert!(found.into_iter().all(|found| found == (true, false)));
}

#[test]
fn a_rank_that_ends_is_noticed() {
    let found = on(2, |ranks| if ranks.is_first() { Ok(()) } else { ranks.sum(&mut [1.0, 2.0, 3.0]) });
    let fault = found[1].as_ref().expect_err("the other has gone").to_string();
    assert!(fault.starts_with("rank 1 of 2: rank 0 has ended"), "{fault}");
}

#[test]
fn a_process_alone_exchanges_nothing() {
    let alone = Ranks::alone();
    let mut values = [1.5, 2.5];
    alone.sum(&mut values).expect("nothing to do");
    assert_eq!(values, [1.5, 2.5]);
    assert_eq!(alone.gather(b"x").expect("nothing to do"), [b"x"]);
    assert!(!alone.any(false).expect("nothing to do"));
    assert_eq!(alone.time_spent(), Duration::ZERO);
}
