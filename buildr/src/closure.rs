//! The transitive closure of a graph: what lies before each of its nodes, at any distance.

use std::collections::BTreeSet;

/// What lies before each node, by what each needs itself. In the square of the nodes at most, where they are a plain list.
///
/// # Errors
/// With the nodes that wait for each other, and those that wait for them, when there is a circle.
pub(crate) fn closed(needs: &[BTreeSet<usize>]) -> Result<Vec<BTreeSet<usize>>, Vec<usize>> {
    let mut before: Vec<Option<BTreeSet<usize>>> = vec![None; needs.len()];
    loop {
        let mut went_on = false;
        for node in 0..needs.len() {
            if before[node].is_some() || needs[node].iter().any(|&need| before[need].is_none()) {
                continue;
            }
            let mut all = BTreeSet::new();
            // The latest first: what lies before a node of a plain list is found with the one just before it, and what
            // has been found is not gone through again.
            for &need in needs[node].iter().rev() {
                if all.insert(need) {
                    all.extend(before[need].iter().flatten());
                }
            }
            before[node] = Some(all);
            went_on = true;
        }
        if !went_on {
            break;
        }
    }
    let left: Vec<usize> = (0..needs.len()).filter(|&node| before[node].is_none()).collect();
    if left.is_empty() { Ok(before.into_iter().flatten().collect()) } else { Err(left) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(needs: &[&[usize]], expect: Result<&[&[usize]], &[usize]>) {
        let sets = |sets: &[&[usize]]| sets.iter().map(|set| set.iter().copied().collect()).collect::<Vec<_>>();
        assert_eq!(closed(&sets(needs)), expect.map(sets).map_err(<[usize]>::to_vec), "{needs:?}");
    }

    #[test]
    fn what_lies_before() {
        check(&[], Ok(&[]));
        check(&[&[], &[0], &[1]], Ok(&[&[], &[0], &[0, 1]]));
        check(&[&[], &[0], &[0, 1]], Ok(&[&[], &[0], &[0, 1]]));
        // In whatever order they stand.
        check(&[&[2], &[], &[1]], Ok(&[&[1, 2], &[], &[1]]));
        check(&[&[], &[0], &[0], &[1, 2], &[]], Ok(&[&[], &[0], &[0], &[0, 1, 2], &[]]));
    }

    #[test]
    fn what_waits_for_itself() {
        check(&[&[0]], Err(&[0]));
        check(&[&[], &[2, 0], &[1], &[2]], Err(&[1, 2, 3]));
    }
}
