//! What a strategy works on: something that can be lowered for the agent.

use libafl::inputs::{BytesInput, Input};
use rand_pcg::Pcg64Mcg;

use super::strategy::{Form, Inputs, Strategy};
use crate::{
    interface::Interface,
    program::{Environment, Program, Value, flat, generate, lower, walk},
};

/// A subject, lowered.
pub(super) struct Ready {
    /// What goes into the request ring.
    pub(super) bytes: Vec<u8>,
    /// Names of the operations, call by call.
    pub(super) operations: Vec<&'static str>,
}

/// An input of the loop.
pub(super) trait Subject: Input {
    /// Lowers it for a machine; none if it is too long for the agent.
    fn ready(&self, strategy: &Strategy, environment: &Environment) -> Option<Ready>;

    /// How long it is, in whatever it is made of.
    fn size(&self) -> usize;

    /// The typed program that it is, if it is one.
    fn program(&self) -> Option<&Program>;

    /// Takes a typed program for an input, where inputs are such.
    fn from_program(program: Program) -> Option<Self>;
}

impl Subject for Program {
    fn ready(&self, _: &Strategy, environment: &Environment) -> Option<Ready> {
        let bytes = lower::lower_in(self, 1, environment).ok()?.bytes;
        Some(Ready { bytes, operations: self.operations() })
    }

    fn size(&self) -> usize {
        self.calls.len()
    }

    fn program(&self) -> Option<&Program> {
        Some(self)
    }

    fn from_program(program: Program) -> Option<Self> {
        Some(program)
    }
}

impl Subject for BytesInput {
    fn ready(&self, strategy: &Strategy, _: &Environment) -> Option<Ready> {
        let flat::Decoded { bytes, operations } = flat::decode(self.as_ref(), form(strategy));
        Some(Ready { bytes, operations })
    }

    fn size(&self) -> usize {
        self.as_ref().len()
    }

    fn program(&self) -> Option<&Program> {
        None
    }

    fn from_program(_: Program) -> Option<Self> {
        None
    }
}

/// How strings of a strategy are read.
pub(super) fn form(strategy: &Strategy) -> Form {
    match strategy.inputs {
        Inputs::Bytes(form) => form,
        Inputs::Typed => Form::Calls,
    }
}

/// Replaces the results of earlier calls in a program by what the generator gives to a call that has nothing to use.
pub(super) fn without_handles(program: &mut Program, rng: &mut Pcg64Mcg, interface: &Interface) {
    for call in &mut program.calls {
        let domain = call.domain;
        walk::values_mut(call.op, &mut call.args, &mut |site, value| {
            if matches!(value, Value::Result(_)) {
                *value = generate::value(rng, interface, site.ty, &[], domain);
            }
        });
    }
}
