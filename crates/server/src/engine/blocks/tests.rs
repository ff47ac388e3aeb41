use super::*;
use proptest::prelude::*;

fn prefix(i: u32) -> Prefix {
    Prefix::root(0).child(&[i])
}

#[test]
fn prefixes_depend_on_generation_tokens_and_order() {
    let root = Prefix::root(1);
    let one = root.child(&[1, 2]);
    assert_eq!(one, Prefix::root(1).child(&[1, 2]));
    assert_ne!(one, Prefix::root(2).child(&[1, 2]));
    assert_ne!(one, root.child(&[2, 1]));
    assert_ne!(one.child(&[3]), root.child(&[1, 2, 3]));
    let long: Vec<u32> = (0..40).collect();
    assert_ne!(root.child(&long), root.child(&long[..39]));
}

#[test]
fn the_block_unused_for_longest_is_given_away_first() {
    let mut pool = BlockPool::new(2);
    let held = [pool.take().unwrap(), pool.take().unwrap()];
    for (i, &number) in held.iter().enumerate() {
        pool.publish(number, &prefix(i as u32), 0);
    }
    pool.release(held[1]);
    pool.release(held[0]);
    assert_eq!(pool.take(), Some(held[1]));
    assert_eq!(pool.share(&prefix(1)), None);
    assert_eq!(pool.share(&prefix(0)), Some(held[0]));
    assert_eq!(pool.take(), None);
}

#[test]
fn a_forgotten_generation_is_found_no_more_while_its_holder_keeps_its_block() {
    let mut pool = BlockPool::new(3);
    let (held, let_go, other) = (
        pool.take().unwrap(),
        pool.take().unwrap(),
        pool.take().unwrap(),
    );
    pool.publish(held, &prefix(0), 5);
    pool.publish(let_go, &prefix(1), 5);
    pool.publish(other, &prefix(2), 6);
    pool.release(let_go);
    pool.forget(5);
    assert_eq!(pool.share(&prefix(0)), None);
    assert_eq!(pool.share(&prefix(1)), None);
    assert_eq!(pool.share(&prefix(2)), Some(other));
    assert_eq!(pool.used(), 2);
    pool.check([&[held, other, other][..]].into_iter());
}

#[test]
fn equal_content_is_published_once() {
    let mut pool = BlockPool::new(2);
    let (first, second) = (pool.take().unwrap(), pool.take().unwrap());
    pool.publish(first, &prefix(0), 0);
    pool.publish(second, &prefix(0), 0);
    pool.release(second);
    assert_eq!(pool.take(), Some(second));
    pool.check([&[first, second][..]].into_iter());
}

#[derive(Debug, Clone)]
enum Move {
    Take,
    Share(u32),
    Publish(usize, u32, u64),
    Release(usize),
    Forget(u64),
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        4 => Just(Move::Take),
        3 => (0..12_u32).prop_map(Move::Share),
        3 => (any::<usize>(), 0..12_u32, 0..3_u64).prop_map(|(i, p, g)| Move::Publish(i, p, g)),
        4 => any::<usize>().prop_map(Move::Release),
        1 => (0..3_u64).prop_map(Move::Forget),
    ];
    prop::collection::vec(one, 0..200)
}

proptest! {
    #[test]
    fn free_used_and_cached_add_up_after_every_move(total in 0_usize..9, moves in moves()) {
        let mut pool = BlockPool::new(total);
        let mut held = Vec::new();
        for one in moves {
            match one {
                Move::Take => held.extend(pool.take()),
                Move::Share(p) => held.extend(pool.share(&prefix(p))),
                Move::Publish(i, p, g) if !held.is_empty() => {
                    pool.publish(held[i % held.len()], &prefix(p), g);
                }
                Move::Release(i) if !held.is_empty() => {
                    let number = held.swap_remove(i % held.len());
                    pool.release(number);
                }
                Move::Forget(g) => pool.forget(g),
                Move::Publish(..) | Move::Release(_) => {}
            }
            pool.check([&held[..]].into_iter());
        }
    }
}
