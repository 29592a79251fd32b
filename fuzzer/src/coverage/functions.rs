//! Which functions of the hypervisor programs enter, and for which operation.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::path::Part;

/// Functions by the operations in whose calls they were entered.
#[derive(Clone, Debug, Default)]
pub struct Functions {
    operations: BTreeMap<String, BTreeSet<String>>,
    /// How many operations entered each.
    entered: BTreeMap<String, u32>,
}

/// What calls of one operation enter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfOperation<'a> {
    /// Its name.
    pub operation: &'a str,
    /// Functions that its calls enter.
    pub functions: usize,
    /// Functions that only its calls enter.
    pub own: usize,
}

impl Functions {
    /// Adds what happened in one call of an operation.
    pub fn add(&mut self, operation: &str, part: &Part) {
        if !self.operations.contains_key(operation) {
            self.operations.insert(operation.to_owned(), BTreeSet::new());
        }
        let Some(of_operation) = self.operations.get_mut(operation) else { return };
        for function in &part.functions {
            if !of_operation.contains(&function.function) {
                of_operation.insert(function.function.clone());
                *self.entered.entry(function.function.clone()).or_default() += 1;
            }
        }
    }

    /// Functions that were entered by any.
    pub fn entered(&self) -> usize {
        self.entered.len()
    }

    /// True where a function was entered.
    pub fn has(&self, function: &str) -> bool {
        self.entered.contains_key(function)
    }

    /// The operations, by how much they enter.
    pub fn table(&self) -> Vec<OfOperation<'_>> {
        let mut table: Vec<_> = self
            .operations
            .iter()
            .map(|(operation, functions)| OfOperation {
                operation,
                functions: functions.len(),
                own: functions.iter().filter(|function| self.entered.get(*function) == Some(&1)).count(),
            })
            .collect();
        table.sort_by(|one, other| (other.functions, one.operation).cmp(&(one.functions, other.operation)));
        table
    }

    /// The functions that calls of an operation enter, each with whether only they do; none where it did not occur.
    pub fn of(&self, operation: &str) -> Option<impl Iterator<Item = (&str, bool)>> {
        let functions = self.operations.get(operation)?;
        Some(functions.iter().map(|function| (function.as_str(), self.entered.get(function) == Some(&1))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::coverage::path::Entered;

    #[test]
    fn a_function_belongs_to_all_operations_that_enter_it() {
        let part = |names: &[&str]| Part {
            exits: 1,
            functions: names
                .iter()
                .map(|n| Entered { function: (*n).into(), entered: 1, depth: 0 })
                .collect(),
        };
        let mut functions = Functions::default();
        functions.add("a.one", &part(&["entry", "f", "g"]));
        functions.add("b.two", &part(&["entry", "h"]));
        functions.add("a.one", &part(&["entry", "f", "i"]));
        functions.add("c.none", &part(&[]));
        let row = |operation, functions, own| OfOperation { operation, functions, own };
        assert_eq!(functions.table(), [row("a.one", 4, 3), row("b.two", 2, 1), row("c.none", 0, 0)]);
        assert_eq!(functions.of("b.two").unwrap().collect::<Vec<_>>(), [("entry", false), ("h", true)]);
        assert!(functions.of("d").is_none() && functions.has("i") && !functions.has("j"));
        assert_eq!(functions.entered(), 5);
    }
}
