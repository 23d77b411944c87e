//! Hashes of values, which cost more than all else that a status says.

use crate::running::Configuration;

/// Values of which the hashes are known: what runs, and what is stored.
const KNOWN: usize = 2;

/// Hashes that need not be computed again.
#[derive(Debug)]
pub(super) struct Hashes<T> {
    /// The last one that was asked for comes first.
    known: Vec<(T, String)>,
}

impl<T> Default for Hashes<T> {
    fn default() -> Hashes<T> {
        Hashes { known: Vec::new() }
    }
}

impl<T: Configuration> Hashes<T> {
    /// [`Configuration::config_hash`] of `values`.
    pub(super) fn of(&mut self, values: &T) -> String {
        let place = match self.known.iter().position(|(known, _)| known == values) {
            Some(place) => place,
            None => {
                self.known.push((values.clone(), values.config_hash()));
                self.known.len() - 1
            }
        };
        self.known[..=place].rotate_right(1);
        self.known.truncate(KNOWN);
        self.known[0].1.clone()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::rc::Rc;

    use cfg_schema::{Change, Documents, Problem, Reading, SectionDeclaration};

    use super::*;

    /// A number that counts its hashings.
    #[derive(Clone, Debug)]
    struct Counted(u32, Rc<Cell<u32>>);

    impl PartialEq for Counted {
        fn eq(&self, other: &Counted) -> bool {
            self.0 == other.0
        }
    }

    impl Configuration for Counted {
        fn declarations() -> &'static [SectionDeclaration] {
            &[]
        }

        fn read(_: &Documents) -> Reading<Counted> {
            Reading { parameters: Ok(Counted(0, Rc::default())), unknown: Vec::new(), no_effect: Vec::new() }
        }

        fn documents(&self) -> Documents {
            Documents::new()
        }

        fn config_hash(&self) -> String {
            self.1.set(self.1.get() + 1);
            self.0.to_string()
        }

        fn changes(&self, _: &Counted) -> Vec<Change> {
            Vec::new()
        }

        fn problems(&self) -> Vec<Problem> {
            Vec::new()
        }
    }

    #[test]
    fn two_are_known() {
        let (mut hashes, count) = (Hashes::default(), Rc::new(Cell::new(0)));
        // Each with the hashings until then.
        for (value, hashed) in
            [(1, 1), (1, 1), (2, 2), (1, 2), (2, 2), (3, 3), (2, 3), (1, 4), (2, 4), (3, 5)]
        {
            assert_eq!(hashes.of(&Counted(value, count.clone())), value.to_string());
            assert_eq!(count.get(), hashed, "after {value}");
        }
    }
}
