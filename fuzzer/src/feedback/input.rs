//! Typed programs as LibAFL's input type.

use libafl::{corpus::CorpusId, inputs::Input};

use crate::{campaign::store, program::Program};

impl Input for Program {
    /// LibAFL names inputs by a hash that differs between processes; ours is of the content.
    fn generate_name(&self, _id: Option<CorpusId>) -> String {
        store::digest(self)
    }
}
