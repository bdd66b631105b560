//! The pure core: it decides, and knows no AWS, no process, no clock, no logging and no runtime.

mod agent;
mod exit;
mod policy;
mod schedule;
mod time;

pub use agent::{Action, Agent, Cause, Event, Job, LAST_WAIT, Outcome, State};
pub use exit::Exit;
pub use policy::{AfterTerminate, Policy, RunnerKind};
pub use schedule::{Failure, FailureClass, Random, Schedule};
pub use time::Time;
