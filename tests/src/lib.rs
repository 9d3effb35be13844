//! Shared pieces of the behaviour tests: the reference evaluator, data finders, harnesses.

pub mod data;
pub mod fault_server;
pub mod fresh;
pub mod json;
pub mod kc_house;
pub mod mirror;
pub mod python;
pub mod odatapy;
pub mod power;
pub mod reference;
pub mod simulation;

/// The page's example compiles; `relist-cli/tests/guide.rs` runs it.
#[cfg(doctest)]
#[doc = include_str!("../../docs/from-the-python-guide.md")]
pub struct FromThePythonGuide;

/// The README's example of the library compiles.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
pub struct Readme;
