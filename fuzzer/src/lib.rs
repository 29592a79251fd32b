//! hyperfuzz: coverage-guided fuzzing of a hypervisor's hypercall interface inside stock QEMU.
//!
//! | module | what |
//! |---|---|
//! | [`interface`] | every hypercall as data |
//! | [`program`] | typed programs: generate, mutate, minimise, print, parse, lower |
//! | [`engine`] | a machine that runs a program from the same state each time |
//! | [`feedback`] | the coverage-guided loop; the only place that knows LibAFL |
//! | [`triage`] | symbols, buckets, confirmation, minimisation |
//! | [`campaign`] | the directory that a campaign lives in, and the session that works on it |
//! | [`coverage`] | edges in terms of source code |
//! | [`report`] | what people read |
//! | [`target`] | what is fuzzed: images, configuration, switches |
//! | [`bench`] | trials against planted bugs, and what they say of the fuzzer |
//! | [`speed`] | how fast the fuzzer is, and where the time goes |
//! | [`doctor`] | what this machine has, and what is missing |
//! | [`cli`] | the command line |

pub mod bench;
pub mod campaign;
pub mod cli;
pub mod corpus;
pub mod coverage;
pub mod doctor;
pub mod engine;
pub mod feedback;
pub mod images;
pub mod interface;
pub mod program;
pub mod report;
pub mod speed;
pub mod target;
pub mod triage;
