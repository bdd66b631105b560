//! The real binary, with real processes, real signals and real loopback sockets.
//!
//! No test sleeps as synchronisation: it waits for a request, a line of output or an exit, and
//! fails after [`harness::TIMEOUT`]. Long tests are short by default, see [`harness::rounds`].

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]

mod harness;
mod identity;

mod attached;
mod chaos;
mod commands;
mod config;
mod faults;
mod fuzz;
mod health;
mod heartbeats;
mod killed;
mod log;
mod metrics;
mod mistakes;
mod orphans;
mod peers;
mod pid1;
mod policy;
mod printing;
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
