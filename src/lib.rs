//! taskbeat: heartbeat and supervision for AWS Data Pipeline task runners.
//!
//! # How it works
//!
//! One thread runs one loop. Whatever happens (a signal, an answer, the runner's end, a deadline)
//! becomes an [`Event`](core::Event); the [`Agent`](core::Agent) decides what follows from it, and
//! the loop carries out the [`Action`](core::Action)s. The agent is pure: it is told the time and
//! the dice, so that every decision can be tested in a table, in virtual months and in fleets.
//!
//! ```text
//!   signals ──┐                                      ┌──▶ runner    start, stop, kill
//!   runner  ──┤  Event   ┌──────────────┐  Action    ├──▶ aws       send, abandon
//!   aws ──────┼─────────▶│ core::Agent  │────────────┤
//!   timer ────┘          └──────────────┘            └──▶ exit
//!                 daemon (the loop) ── Step ──▶ observers: the log, systemd, a rehearsal's report
//! ```
//!
//! # Where to find what
//!
//! | question | module |
//! | --- | --- |
//! | When does a heartbeat start? When is it tried again? | [`core`], `schedule.rs` |
//! | What stops the runner, in which steps, with which exit status? | [`core`], `agent.rs` |
//! | In which order do things happen? | [`daemon`] |
//! | What is logged? | [`daemon`], `journal.rs`; where it goes: [`log`] |
//! | What does the service see, and what counts as its answer? | [`aws`]; in which words failures are told: `words.rs` |
//! | What do placeholders of the identity become? | [`config`], `host.rs`; [`aws`], `metadata.rs` |
//! | What does a signal to us mean, and which of two stops is an echo? | [`signals`] |
//! | How is the runner started, signalled and cleared away? | [`runner`]; all unsafe code is in its `sys.rs` |
//! | Who is the one instance of an id, and what does `status` show? | [`status`] |
//! | What is the time, and how is a suspension seen? | [`clock`] |
//! | Which settings are there, and what is refused? | [`config`], `table.rs` and `values.rs` |
//! | What do the commands do? | [`cli`] |
//! | What does `rehearse` talk to? | [`endpoint`] |
//! | What is systemd told? | [`systemd`] |
//!
//! Imports point one way: `cli` puts everything together; adapters know the core's types, the settings, and what the
//! loop asks of them; whoever needs a system call that has no safe form finds it in `process`; the core knows nobody.

pub mod aws;
mod children;
pub mod cli;
pub mod clock;
pub mod config;
pub mod core;
pub mod daemon;
pub mod endpoint;
pub mod log;
pub mod runner;
pub mod signals;
pub mod status;
mod sys;
pub mod systemd;
