//! The pure core: it decides, and knows no AWS, no process, no clock, no logging and no runtime.

mod agent;
mod event;
mod exit;
mod failure;
mod policy;
mod schedule;
mod state;
mod time;

pub use agent::Agent;
pub use event::{Action, CommandName, CommandResult, Event, Outcome};
pub use exit::Exit;
pub use failure::{Failure, FailureClass, Random};
pub use policy::{AfterTerminate, Policy, RunnerKind};
pub use schedule::{Contact, Schedule};
pub use state::{Cause, LAST_WAIT, Rung, State};
pub use time::Time;
