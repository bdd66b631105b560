//! taskbeat: heartbeat and supervision for AWS Data Pipeline task runners.
//!
//! # How it works
//!
//! One loop on one thread. Each thing that happens (a signal, the end of a heartbeat, the runner's
//! exit, a deadline) becomes an [`Event`](core::Event). The [`Agent`](core::Agent) decides what
//! follows, and the loop carries out the [`Action`](core::Action)s. The agent is pure: time and
//! random numbers come with the events, so every decision can be tested in a table, over virtual
//! months and in simulated fleets.
//!
//! ```text
//!  signals ───┐                                   ┌──▶ runner    start, stop, kill
//!  runner ────┤           ┌─────────────┐         ├──▶ commands  start, kill
//!  commands ──┼── Event ─▶│ core::Agent │─ Action ┼──▶ aws       send, abandon
//!  aws ───────┤           └─────────────┘         └──▶ exit
//!  timer ─────┘
//!                 daemon (the loop) ── Turn ──▶ observers: journal, systemd, a rehearsal's report
//! ```
//!
//! Nothing blocks the loop: heartbeats, reloads and pid files are read on threads of their own.
//!
//! # Where to find what
//!
//! | question | file |
//! | --- | --- |
//! | When does a heartbeat start, and when is it retried? | `core/schedule.rs`, `core/failure.rs` |
//! | What stops the runner, in which steps, with which exit status? | `core/agent/mod.rs` |
//! | What is a second stop? | `core/agent/mod.rs` |
//! | When is contact lost? | `core/schedule.rs` |
//! | When is a heartbeat withheld? | `core/agent/heartbeats.rs` |
//! | In which order are events handled? | `daemon/mod.rs` |
//! | What is logged, and when? | `daemon/journal.rs`; how it is written: `log.rs` |
//! | What is sent to the service, and what counts as its response? | `aws/mod.rs`, `aws/validate.rs` |
//! | What does a signal to taskbeat mean? | `signals.rs` |
//! | How is the runner started, signalled and killed? | `runner/child.rs`, `runner/attached.rs` |
//! | Which processes belong to the runner? | `runner/membership.rs` |
//! | How do `on-terminate` and its like run? | `commands.rs` |
//! | What does `status` show, and to whom? | `status/snapshot.rs`, `status/socket.rs` |
//! | Which metrics are there, and who serves them? | `status/openmetrics.rs`, `status/http.rs` |
//! | What is sent to systemd? | `systemd.rs` |
//! | Which settings are there, and which values are refused? | `config/table.rs`, `config/values.rs` |
//! | What do the subcommands do? | `cli/` |
//! | What does `rehearse` talk to? | `endpoint/` |
//! | Which code is unsafe? | `sys.rs` |
//!
//! Imports point one way. `cli` puts the modules together; the adapters know the core's types and
//! the settings; the core imports nothing but itself.

mod aws;
pub mod cli;
mod clock;
mod commands;
pub mod config;
pub mod core;
mod daemon;
mod endpoint;
mod helpers;
mod log;
mod runner;
mod signals;
mod status;
mod sys;
mod systemd;
mod text;
