//! taskbeat: heartbeat and supervision for AWS Data Pipeline task runners.
//!
//! `docs/design.md` describes how it works, and `CONTRIBUTING.md` where a change goes.

mod aws;
pub mod cli;
mod clock;
mod commands;
pub mod config;
pub mod core;
mod daemon;
mod endpoint;
#[cfg(fuzzing)]
#[path = "../tests/fuzz/invariants.rs"]
pub mod fuzzing;
mod helpers;
mod log;
mod runner;
mod signals;
mod status;
mod sys;
mod systemd;
mod text;
