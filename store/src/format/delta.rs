//! Which earlier version of a chunk a later one is a delta against (SPEC §6).
//!
//! Versions are numbered from 0, which stands alone. A number is read to the base of four, and its parent is one less in the last digit that is not 0: three
//! versions of four are deltas of the one before, and none is deeper than the sum of its digits.

/// A chain of more deltas is not written, and not read.
pub(crate) const DELTA_MAX_DEPTH: u32 = 8;

/// The number after `version` that may be a delta. `None` if the next must stand alone.
pub(crate) fn next_version(version: u8) -> Option<u8> {
    (version..u8::MAX).map(|before| before + 1).find(|&next| depth(next) <= DELTA_MAX_DEPTH)
}

/// The version that `version`, which is not 0, is a delta against.
pub(crate) fn parent(version: u8) -> u8 {
    version - (1 << (version.trailing_zeros() & !1))
}

/// How many deltas lie between `version` and what stands alone: the sum of its digits.
fn depth(version: u8) -> u32 {
    (0..4).map(|digit| u32::from(version >> (2 * digit) & 3)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parent_is_always_among_those_that_the_version_before_is_made_of() {
        let (mut version, mut versions) = (0, 0);
        while let Some(next) = next_version(version) {
            let mut ancestors = std::iter::successors(Some(version), |&v| (v > 0).then(|| parent(v)));
            assert!(ancestors.any(|ancestor| ancestor == parent(next)), "{next} after {version}");
            assert_eq!(depth(next), depth(parent(next)) + 1);
            assert!(next > version && depth(next) <= DELTA_MAX_DEPTH);
            (version, versions) = (next, versions + 1);
        }
        assert!(versions > 190, "{versions}");
    }

    #[test]
    fn most_are_deltas_of_the_version_before() {
        let parents: Vec<u8> = (1..=16).map(parent).collect();
        assert_eq!(parents, [0, 1, 2, 0, 4, 5, 6, 4, 8, 9, 10, 8, 12, 13, 14, 0]);
    }
}
