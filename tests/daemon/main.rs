//! The real binary, with real processes, real signals and real loopback sockets.
//!
//! Nothing here sleeps to let something happen: a test waits for a request, a line of output or an exit, and only a
//! hang takes as long as [`harness::PATIENCE`].

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests fail by panicking, as tests do"
)]

mod harness;
mod identity;

mod attached;
mod commands;
mod config;
mod faults;
mod killed;
mod log;
mod main_job;
mod orphans;
mod peers;
mod pid1;
mod policy;
mod races;
mod rehearse;
mod reload;
mod runner;
mod secrets;
mod signals;
mod soak;
mod status;
mod stopping;
mod systemd;
mod terminal;
