//! Shared pieces of the behaviour tests: the reference evaluator, data finders, harnesses.

pub mod fault_server;
